"""Why a ranker puts a transaction where it stands, in words: its own reasons, beside those of the forest's score.

What belongs here: which of its contributions become reasons, and the phrases of what only the ranker sees. What does
not: the phrases of the eight features (`reasons`) and how contributions are found (`fraud_assets.model.ranker`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fraud_assets.alerts.reasons import MOST_REASONS, Reason, money, sentence, strongest, subject_of, times
from fraud_assets.model.ranker import RANKER_FEATURES
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.history import HISTORY_DAYS


def ranker_reasons(
    values: Sequence[float], contributions: Sequence[float], *, most: int = MOST_REASONS
) -> tuple[Reason, ...]:
    """Return what raised a transaction's score by the ranker, the strongest first; none where nothing did.

    Args:
        values: what the ranker looked at, in the order of `RANKER_FEATURES`.
        contributions: theirs to the log odds, as `Ranker.contributions` gives them: above 0 is more suspicious.
        most: how many reasons at most.
    """
    row = dict(zip(RANKER_FEATURES, values, strict=True))
    subjects = [_subject(name, row) for name in RANKER_FEATURES]
    return tuple(
        Reason(subject, 0.0 if math.isnan(row[subject]) else row[subject], raised, _say(subject, row))
        for subject, raised in strongest(subjects, contributions, most=most)
    )


def _subject(feature: str, row: Mapping[str, float]) -> str:
    """Return the feature that stands for what a feature says of this row."""
    if feature in ("card_mean_log_amount_30d", "card_stddev_log_amount_30d"):
        feature = "log_amount_over_card_mean"
    if row["card_txn_count_30d"] == 0 and feature in _OF_HISTORY:
        return "card_txn_count_30d"
    return subject_of(feature, row) if feature in FEATURE_NAMES else feature


_OF_HISTORY: Final = ("log_amount_over_card_mean", "days_since_last_txn", "is_new_product")
"""What is the same as to say that nothing is known of the card."""


def _say(subject: str, row: Mapping[str, float]) -> str:
    return _SENTENCES[subject](row) if subject in _SENTENCES else sentence(subject, row)


# The sentences. Each begins in lower case, since it may follow another, and holds no semicolon, which parts them.


def _own_amount(row: Mapping[str, float]) -> str:
    amount, usual = row["TransactionAmt"], math.expm1(row["card_mean_log_amount_30d"])
    if abs(row["log_amount_over_card_mean"]) < math.log(1.5):
        return f"{money(amount)}, about what this card usually pays"
    return f"{money(amount)}, {times(amount, usual)} this card's usual {money(usual)}"


def _count(row: Mapping[str, float]) -> str:
    count = row["card_txn_count_30d"]
    if count == 0:
        return f"a card without any purchase in the {HISTORY_DAYS} days before"
    return f"a card with {count:,.0f} purchase{'s' * (count != 1)} in the {HISTORY_DAYS} days before"


def _since(row: Mapping[str, float]) -> str:
    days = row["days_since_last_txn"]
    said = f"{days * 24:.0f} hours" if days < 2 else f"{days:.0f} days"
    return f"{said} since the card's last purchase on an earlier day"


def _product(row: Mapping[str, float]) -> str:
    known = "did not buy" if row["is_new_product"] else "has bought"
    return f"a product that this card {known} in the {HISTORY_DAYS} days before"


def _hour(row: Mapping[str, float]) -> str:
    hour = int(row["hour_of_day"])
    return f"between {hour:02d}:00 and {hour + 1:02d}:00 UTC"


def _forest(row: Mapping[str, float]) -> str:
    side = "unusual" if row["fraud_score"] > 0 else "usual"
    return f"{side} among all transactions, by a forest score of {row['fraud_score']:.3f}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, float]], str]]] = {
    "log_amount_over_card_mean": _own_amount,
    "card_txn_count_30d": _count,
    "days_since_last_txn": _since,
    "is_new_product": _product,
    "hour_of_day": _hour,
    "fraud_score": _forest,
}
