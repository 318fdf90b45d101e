"""How many cases a test runs: few by default, all of them with FRAUD_TEST_DEPTH=full (`make verify`)."""

import os

FULL = os.environ.get("FRAUD_TEST_DEPTH") == "full"


def cases(quick: int, full: int) -> int:
    """Return how many cases to run at the depth asked for."""
    return full if FULL else quick
