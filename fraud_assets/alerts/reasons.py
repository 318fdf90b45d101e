"""Why a transaction stands on the list, in words: the one list of sentences about features.

What belongs here: which contributions become reasons, and every phrase that says one. What does not: how contributions
are found (`fraud_assets.model.attribution`) and what is usual (`usual.sql`). The table of alerts, the report and the
HTTP service show these texts as they are.

Several features may say one thing: an amount is in three, and in a fourth where it is the only one in its window. They
are merged by subject. Such a reason carries the subject's plain feature and its value, and what its features contribute
together; a subject whose features add up to less suspicion gives no reason, however strong one of them is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from fraud_assets.silver.contract import FEATURE_NAMES, WINDOW

MOST_REASONS: Final = 3
"""More than three are not read, and the fourth hardly ever adds a tenth."""

_LEAST_SHARE: Final = 0.1
"""Of what makes a row suspicious altogether: a reason below this would distract from those that decided."""

_FAR: Final = 1.5
"""As many times the usual, or less than one part in as many of it, is clearly apart from it; else they are alike."""

_FAR_BELOW: Final = 5.0
"""Less than one part in as many is far below."""

_ALIKE: Final = 0.1
"""Amounts whose standard deviation is below this share of their mean look alike to a reader."""

USUAL_DAYS: Final = 30
"""A card's usual is taken from so many days before: a month has its salary, its rent and its weekends."""

LEAST_PURCHASES: Final = 3
"""Of fewer earlier purchases nobody would say what is usual for the card."""

_MINUTES: Final = f"{WINDOW // timedelta(minutes=1)} minutes"


@dataclass(frozen=True)
class Usual:
    """What is usual, by feature: medians of numbers, and of `is_international_txn` the share abroad.

    `card_most_in_5min` is the most purchases that the card had in one window. What is not known is not spoken of.
    """

    of_card: Mapping[str, float] = field(default_factory=dict)
    of_everybody: Mapping[str, float] = field(default_factory=dict)
    card_most_in_5min: float | None = None


@dataclass(frozen=True)
class Reason:
    """One reason: the feature that people know, its value, what it adds, and the sentence about it.

    A contribution is part of a mean path length (`fraud_assets.model.attribution`), below 0: a shorter path is more
    suspicious.
    """

    feature: str
    value: float
    contribution: float
    text: str


def reasons(
    values: Sequence[float], contributions: Sequence[float], usual: Usual, *, most: int = MOST_REASONS
) -> tuple[Reason, ...]:
    """Return what makes a transaction suspicious, the strongest first; none where nothing does.

    Args:
        values: the eight features, in contract order.
        contributions: theirs, as `Attribution.contributions` gives them.
        usual: what to compare with.
        most: how many reasons at most.
    """
    row = dict(zip(FEATURE_NAMES, map(float, values), strict=True))
    subjects = [subject_of(name, row) for name in FEATURE_NAMES]
    found: list[Reason] = []
    for subject, raised in strongest(subjects, [-contribution for contribution in contributions], most=most):
        # Whoever was told of the purchases in the window need not be told again which they are.
        known = any(reason.feature in _OF_THE_WINDOW for reason in found)
        told = _SENTENCES[subject](_Purchase(row, usual, "they" if known else ""))
        found.append(Reason(subject, row[subject], -raised, told))
    return tuple(found)


def strongest(subjects: Sequence[str], raised: Sequence[float], *, most: int) -> list[tuple[str, float]]:
    """Return the subjects that make a row suspicious by how much each does, the strongest first.

    `raised` is what each of the features adds to the suspicion; those of one subject are taken together.
    """
    added: dict[str, float] = {}
    for subject, one in zip(subjects, raised, strict=True):
        added[subject] = added.get(subject, 0.0) + one
    suspicious = sorted((-one, subject) for subject, one in added.items() if one > 0)
    least = -_LEAST_SHARE * sum(one for one, _ in suspicious)
    return [(subject, -one) for one, subject in suspicious[:most] if -one >= least]


def in_one_sentence(found: Sequence[Reason]) -> str:
    """Return the texts of reasons as one, the strongest first."""
    text = "; ".join(reason.text for reason in found)
    return text[:1].upper() + text[1:]


def sentence(feature: str, row: Mapping[str, float], usual: Usual | None = None) -> str:
    """Return what is said of one of the features that reasons carry; without a usual nothing is compared."""
    return _SENTENCES[feature](_Purchase(row, usual or Usual(), ""))


def subject_of(feature: str, row: Mapping[str, float]) -> str:
    """Return the plain feature that stands for what a feature says of this row."""
    alone = row["txn_count_5min"] == 1
    if feature in ("log_transaction_amount", "is_high_value_txn"):
        return "TransactionAmt"
    if feature == "avg_amount_5min" and (alone or abs(row[feature] / (row["TransactionAmt"] or 1.0) - 1) < _ALIKE):
        return "TransactionAmt"
    if alone and feature in ("stddev_amount_5min", "product_diversity_5min"):
        return "txn_count_5min"
    return feature


_OF_THE_WINDOW: Final = ("txn_count_5min", "avg_amount_5min", "stddev_amount_5min", "product_diversity_5min")


@dataclass(frozen=True)
class _Purchase:
    """What a sentence is made of; `known` is a word for the purchases in the window where they were named before."""

    row: Mapping[str, float]
    usual: Usual
    known: str

    def __getitem__(self, feature: str) -> float:
        return self.row[feature]

    @property
    def together(self) -> str:
        return self.known or f"the {self.row['txn_count_5min']:,.0f} purchases in {_MINUTES}"


# The sentences. Each begins in lower case, since it may follow another, and holds no semicolon, which parts them.


def _amount(of: _Purchase) -> str:
    return _compared(money(of["TransactionAmt"]), of["TransactionAmt"], of.usual)


def _place(of: _Purchase) -> str:
    share = of.usual.of_card.get("is_international_txn")
    if of["is_international_txn"] == 0:
        if share is not None and share > 0.5:
            return "at home, though this card is mostly used abroad"
        return f"at home, {_RARE}"
    if share is None:
        return "abroad"
    if share == 0:
        return f"abroad, for the first time in {USUAL_DAYS} days"
    return "abroad, as this card often is" if share >= 0.2 else "abroad, as this card seldom is"


def _pace(of: _Purchase) -> str:
    count, own, most = of["txn_count_5min"], of.usual.of_card.get("txn_count_5min"), of.usual.card_most_in_5min
    if count == 1:
        return f"nothing else on this card within {_MINUTES}, {_RARE}"
    said = "so many in so short a time" if of.known else f"{count:,.0f} purchases in {_MINUTES}"
    if most is not None and most >= count:
        return f"{said}, though this card has had {most:,.0f} before"
    return said if own is None or round(own) >= count else f"{said}, where this card's usual is {own:,.0f}"


def _average(of: _Purchase) -> str:
    average = of["avg_amount_5min"]
    return _compared(f"{of.together} average {money(average)}", average, of.usual)


def _spread(of: _Purchase) -> str:
    spread, average = of["stddev_amount_5min"], of["avg_amount_5min"]
    if spread == 0:
        return f"{of.together} cost exactly the same"
    if spread < _ALIKE * average:
        return f"{of.together} cost nearly the same"
    return f"{of.together} {'differ widely' if spread > average / 2 else 'differ'} in amount"


def _products(of: _Purchase) -> str:
    products = of["product_diversity_5min"]
    if products == 1:
        return f"{of.together} are all of one product"
    return f"{of.together} are of {products:,.0f} different products"


_SENTENCES: Final[Mapping[str, Callable[[_Purchase], str]]] = {
    "TransactionAmt": _amount,
    "is_international_txn": _place,
    "txn_count_5min": _pace,
    "avg_amount_5min": _average,
    "stddev_amount_5min": _spread,
    "product_diversity_5min": _products,
}

_RARE: Final = "which is rare for a purchase like this"
"""Said of what is common by itself: the forest found the combination rare."""


def _compared(said: str, amount: float, usual: Usual) -> str:
    """Add to what is said of an amount how it compares with the card's usual one, and else with everybody's.

    The forest knows no cards: where a card's usual speaks for it, both are said.
    """
    own, all_cards = usual.of_card.get("TransactionAmt"), usual.of_everybody.get("TransactionAmt")
    own_side = None if own is None else _side(amount, own)
    side = None if all_cards is None else _side(amount, all_cards)
    if own is not None and own_side and side in (None, 0, own_side):
        return f"{said}, {times(amount, own)} this card's usual {money(own)}"
    if all_cards is None or not side:
        return said if own is None and all_cards is None else f"{said}, an ordinary amount, {_RARE}"
    said = f"{said}, {times(amount, all_cards)} the usual {money(all_cards)} of all cards"
    if own is None:
        return said
    but = {0: "but like", -1: "but below", 1: "but above"}[own_side or 0]
    return f"{said}, {but} this card's usual {money(own)}"


def _side(amount: float, usual: float) -> int:
    """Return -1 where an amount is clearly below what is usual, 1 where clearly above, else 0."""
    return int(amount > usual * _FAR) - int(amount * _FAR < usual)


def times(amount: float, usual: float) -> str:
    """Return how an amount compares with a usual one, as the words before it."""
    if amount < usual:
        return "far below" if amount * _FAR_BELOW < usual else "below"
    if usual == 0:
        return "above"
    ratio = amount / usual
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times".replace(".0 ", " ")


def money(amount: float) -> str:
    """Return an amount as people read it."""
    return f"{amount:,.2f}"
