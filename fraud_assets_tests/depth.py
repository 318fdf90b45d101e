"""How many cases a test runs: few by default, all of them with FRAUD_TEST_DEPTH=full (`make verify`).

FRAUD_TEST_MORE=10 multiplies what takes minutes each, for who has hours: kills of real processes, Spark's histories.
"""

import os

import pytest

FULL = os.environ.get("FRAUD_TEST_DEPTH") == "full"
MORE = int(os.environ.get("FRAUD_TEST_MORE", "1"))


def cases(quick: int, full: int) -> int:
    """Return how many cases to run at the depth asked for."""
    return full if FULL else quick


def full_only(why: str) -> pytest.MarkDecorator:
    """Mark what runs at full depth alone, and say why."""
    return pytest.mark.skipif(not FULL, reason=f"{why}: make verify")
