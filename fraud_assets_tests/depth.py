"""How many cases a test runs: few by default, all of them with FRAUD_TEST_DEPTH=full (`make verify`).

FRAUD_TEST_KILLS=10 multiplies how often real processes are killed, for who has the hours.
"""

import os

import pytest

FULL = os.environ.get("FRAUD_TEST_DEPTH") == "full"
KILLS = int(os.environ.get("FRAUD_TEST_KILLS", "1"))


def cases(quick: int, full: int) -> int:
    """Return how many cases to run at the depth asked for."""
    return full if FULL else quick


def full_only(why: str) -> pytest.MarkDecorator:
    """Mark what runs at full depth alone, and say why."""
    return pytest.mark.skipif(not FULL, reason=f"{why}: make verify")
