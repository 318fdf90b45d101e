"""The eight features in plain Python and exact fractions, independent of SQL and slow on purpose."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

FIVE_MINUTES_US = 5 * 60 * 1_000_000


@dataclass(frozen=True)
class Transaction:
    """A good transaction: its time in microseconds since 1970, its amount in thousandths."""

    id: str
    time_us: int
    card: str
    product: str
    thousandths: int
    is_international: bool = False


def features_of(row: Transaction, history: list[Transaction], high_value_amount: float) -> dict[str, Any]:
    """Return the features of a row, given every transaction there is."""
    window = [
        other
        for other in history
        if other.card == row.card and row.time_us - FIVE_MINUTES_US <= other.time_us <= row.time_us
    ]
    n = len(window)
    amounts = [Fraction(other.thousandths, 1000) for other in window]
    mean = sum(amounts) / n
    variance = sum((amount - mean) ** 2 for amount in amounts) / (n - 1) if n > 1 else Fraction(0)
    amount = Fraction(row.thousandths, 1000)
    return {
        "TransactionAmt": float(amount),
        "log_transaction_amount": math.log(1 + float(amount)),
        "is_high_value_txn": int(float(amount) >= high_value_amount),
        "is_international_txn": int(row.is_international),
        "txn_count_5min": n,
        "avg_amount_5min": float(mean),
        "stddev_amount_5min": math.sqrt(variance),
        "product_diversity_5min": len({other.product for other in window}),
    }
