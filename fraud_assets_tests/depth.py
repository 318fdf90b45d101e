"""How many cases a test runs: few by default, all of them with FRAUD_TEST_DEPTH=full (`make verify`).

FRAUD_TEST_DEPTH=deeper leaves out what runs no more of them than by default, for who has seen that pass already.
FRAUD_TEST_MORE=10 multiplies what takes minutes each, for who has hours: kills of real processes, Spark's histories.
FRAUD_TEST_COMPLETE=1 fails what would be skipped for want of something on this machine.
"""

import os
from typing import Final

import pytest

_DEPTH: Final = os.environ.get("FRAUD_TEST_DEPTH", "")
if _DEPTH not in {"", "full", "deeper"}:
    raise ValueError(f"FRAUD_TEST_DEPTH is full or deeper, not {_DEPTH}.")
FULL: Final = _DEPTH in {"full", "deeper"}
DEEPER_ALONE: Final = _DEPTH == "deeper"
MORE: Final = int(os.environ.get("FRAUD_TEST_MORE", "1"))
COMPLETE: Final = os.environ.get("FRAUD_TEST_COMPLETE", "") == "1"

_WHERE: Final = "make verify"


def cases(quick: int, full: int) -> int:
    """Return how many cases to run at the depth asked for."""
    return full if FULL else quick


def full_only(why: str) -> pytest.MarkDecorator:
    """Mark what runs at full depth alone, and say why."""
    return pytest.mark.skipif(not FULL, reason=f"{why}: {_WHERE}")


def is_left_out(reason: str) -> bool:
    """Tell whether a test is skipped by the depth, and not for want of something on this machine.

    It may be of no case at a depth; and what a shallow clone lacks no machine has.
    """
    return any(words in reason for words in (_WHERE, "got empty parameter set", "git fetch --unshallow"))


def has_more_at_full_depth(test: pytest.Function) -> bool:
    """Tell whether a test may run more at full depth: it is marked so, or its file counts cases.

    What skips tests elsewhere, a fixture of a conftest.py for one, is not seen here: mark the tests instead.
    """
    is_marked = any(_WHERE in mark.kwargs.get("reason", "") for mark in test.iter_markers("skipif"))
    return is_marked or not {"cases", "FULL"}.isdisjoint(vars(test.module))
