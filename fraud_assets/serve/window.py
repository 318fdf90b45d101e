"""The last minutes of every card in memory, and the features of a transaction from what is known now.

Here belong the rows that a window may still see, and the eight features of one of them: the bits that
`silver/windows.py` and `silver/features.sql` give for the same rows. Where transactions come from and what is
answered is `service`. No clock: time is what the transactions say.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from operator import mul
from typing import Final

import numpy as np

from fraud_assets.silver.contract import WINDOW

WINDOW_US: Final = WINDOW // timedelta(microseconds=1)

NOT_ANSWERED: Final = -1
"""The place of an answer that was never given: the transaction landed as a file."""

_FEW: Final = 100
"""Up to here Python adds up a window in less time than numpy needs to begin, or moves the sums of a larger one by so
many rows, and looks through a list as fast as through a set."""

_EXACT: Final = 2**14
"""So many products of two numbers below 2**24 still add up within 64 bits."""

_LOW_BITS: Final = 24
_LOW: Final = 2**_LOW_BITS - 1
"""An amount, below 2**47, is squared as its upper and its lower bits."""

_PRODUCTS: Final = 10_000
"""So many names of products are kept once for all rows: a feed has few, a hostile one shall not fill memory."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A good transaction: its time in microseconds since 1970 (UTC), its amount in thousandths."""

    id: str
    time_us: int
    card: str
    product: str
    thousandths: int
    is_international: bool


Features = tuple[float, float, int, int, int, float, float, int]
"""The eight features in contract order."""


class ConflictingIdError(Exception):
    """The card has another transaction of this id in the same partition."""


class _Card:
    """One card's transactions in the order of their times; columns, since a million rows are held."""

    __slots__ = ("amounts", "answers", "crowd", "ids", "international", "known", "products", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.amounts = array("q")
        self.answers = array("q")
        self.international = bytearray()
        self.products: list[str] = []
        self.ids: list[str] = []
        self.known: set[str] | None = None  # the ids once more, where a list takes long to look through
        self.crowd: _Crowd | None = None  # the sums of the large window that was asked for last

    def has(self, transaction_id: str) -> bool:
        return transaction_id in (self.ids if self.known is None else self.known)

    def insert(self, row: Transaction, answer: int, product: str) -> None:
        at = bisect_right(self.times, row.time_us)
        self.times.insert(at, row.time_us)
        self.amounts.insert(at, row.thousandths)
        self.answers.insert(at, answer)
        self.international.insert(at, row.is_international)
        self.products.insert(at, product)
        self.ids.insert(at, row.id)
        if self.known is not None:
            self.known.add(row.id)
        elif len(self.ids) > _FEW:
            self.known = set(self.ids)
        if self.crowd is not None:
            self.crowd.see(at, row.thousandths, product)

    def delete(self, start: int, end: int) -> None:
        for column in (self.times, self.amounts, self.answers, self.international, self.products, self.ids):
            del column[start:end]
        if self.known is not None:
            self.known = set(self.ids) if len(self.ids) > _FEW else None
        if self.crowd is not None:
            self.crowd = self.crowd.without(start, end)

    def crowd_of(self, start: int, end: int) -> "_Crowd":
        """Return the sums of a window of many rows: those of the last one, moved, or added up where it is far away."""
        if self.crowd is None or abs(start - self.crowd.start) + abs(end - self.crowd.end) > _FEW:
            self.crowd = _Crowd(self, start, end)
        else:
            self.crowd.move(self, start, end)
        return self.crowd

    def place(self, row: Transaction) -> int:
        """Return where a row that was inserted stands."""
        return self.ids.index(row.id, bisect_left(self.times, row.time_us), bisect_right(self.times, row.time_us))


class _Crowd:
    """The sums of a card's rows from `start` to before `end`, which move with the window.

    Whole numbers, so that what is added and taken again leaves nothing behind.
    """

    __slots__ = ("end", "products", "squares", "start", "total")

    def __init__(self, card: _Card, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.total = self.squares = 0
        for first in range(start, end, _EXACT):
            some = np.frombuffer(card.amounts[first : min(first + _EXACT, end)], np.int64)
            upper, lower = some >> _LOW_BITS, some & _LOW
            self.total += int(some.sum())
            self.squares += int((upper * upper).sum()) << 2 * _LOW_BITS
            self.squares += (int((upper * lower).sum()) << _LOW_BITS + 1) + int((lower * lower).sum())
        self.products = Counter(card.products[start:end])

    def move(self, card: _Card, start: int, end: int) -> None:
        """Become the sums of other rows, by those that are not in both."""
        amounts, products = card.amounts, card.products
        for at in (*range(start, self.start), *range(self.end, end)):
            self._add(amounts[at], products[at])
        for at in (*range(self.start, start), *range(end, self.end)):
            self.total -= amounts[at]
            self.squares -= amounts[at] * amounts[at]
            if self.products[products[at]] == 1:
                del self.products[products[at]]
            else:
                self.products[products[at]] -= 1
        self.start, self.end = start, end

    def see(self, at: int, amount: int, product: str) -> None:
        """Take note of a row that was inserted at a place of the card."""
        if at < self.end:
            self.end += 1
            if at <= self.start:
                self.start += 1
            else:
                self._add(amount, product)

    def without(self, start: int, end: int) -> "_Crowd | None":
        """Return the sums once a stretch of the card's rows is deleted; None where some of these were among them."""
        if end <= self.start:
            self.start -= end - start
            self.end -= end - start
            return self
        return self if start >= self.end else None

    def _add(self, amount: int, product: str) -> None:
        self.total += amount
        self.squares += amount * amount
        self.products[product] += 1


class Windows:
    """What is known of every card, as far back as the window of a late transaction may reach.

    Time goes by with the transactions: the latest one is the watermark. A transaction may be `lateness` behind it, and
    whatever the window of such a one can see is kept. What is older is forgotten by `forget`, whole cards too.
    """

    def __init__(self, *, lateness: timedelta, partition: timedelta) -> None:
        self._lateness_us = lateness // timedelta(microseconds=1)
        self._partition_us = partition // timedelta(microseconds=1)
        # Those that were not seen for longest stand first. A dict would do, but looks for its first key among all that
        # were deleted before it.
        self._cards: OrderedDict[str, _Card] = OrderedDict()
        self._products: dict[str, str] = {}
        self.watermark: int | None = None
        self.rows = 0

    @property
    def cards(self) -> int:
        """How many cards are known."""
        return len(self._cards)

    @property
    def accepted_since(self) -> int | None:
        """The earliest time that a transaction may still have; None before the first."""
        return None if self.watermark is None else self.watermark - self._lateness_us

    @property
    def kept_since(self) -> int | None:
        """The earliest time that is kept: what the window of a transaction at `accepted_since` begins with."""
        return None if self.watermark is None else self.watermark - self._lateness_us - WINDOW_US

    def find(self, row: Transaction) -> int | None:
        """Return the place of the first answer to this transaction; None where it is new.

        Raises:
            ConflictingIdError: The card has an unequal transaction of this id in the same partition.
        """
        card = self._cards.get(row.card)
        if card is None or not card.has(row.id):
            return None
        for at, other in enumerate(card.ids):
            if other == row.id and card.times[at] // self._partition_us == row.time_us // self._partition_us:
                found = (card.times[at], card.products[at], card.amounts[at], bool(card.international[at]))
                if found != (row.time_us, row.product, row.thousandths, row.is_international):
                    raise ConflictingIdError
                return card.answers[at]
        return None

    def add(self, row: Transaction, answer: int = NOT_ANSWERED) -> None:
        """Let later transactions see this one; nothing is forgotten yet."""
        card = self._cards.get(row.card)
        if card is None:
            card = self._cards[row.card] = _Card()
        self._cards.move_to_end(row.card)
        if len(self._products) > _PRODUCTS:
            self._products.clear()
        card.insert(row, answer, self._products.setdefault(row.product, row.product))
        self.rows += 1
        if self.watermark is None or row.time_us > self.watermark:
            self.watermark = row.time_us

    def set_answer(self, row: Transaction, answer: int) -> None:
        """Remember where the answer to a transaction that was added is kept."""
        card = self._cards[row.card]
        card.answers[card.place(row)] = answer

    def remove(self, row: Transaction) -> None:
        """Take back a transaction that was added; the watermark stays."""
        card = self._cards[row.card]
        at = card.place(row)
        card.delete(at, at + 1)
        self.rows -= 1
        if not card.times:
            del self._cards[row.card]

    def features(self, row: Transaction, high_value_amount: float) -> Features:
        """Return the features of a transaction that was added, from everything that is known now, ties included."""
        count, total, squares, products = self._aggregate(row)
        amount = row.thousandths / 1e3
        deviation = 0.0
        if count > 1:
            deviation = math.sqrt(_as_double(count * squares - total * total) / (count * (count - 1))) / 1e3
        return (
            amount,
            math.log(1 + amount),
            int(amount >= high_value_amount),
            int(row.is_international),
            count,
            float(total) / (1000 * count),
            deviation,
            products,
        )

    def forget(self, touched: Iterable[str]) -> None:
        """Forget what no window can see any more: of these cards, and cards that have nothing else."""
        since = self.kept_since
        if since is None:
            return
        for name in touched:
            card = self._cards.get(name)
            # By the quarter, so that a busy card is not moved together at every transaction.
            if card is not None and card.times[len(card.times) // 4] < since:
                self._drop(card, bisect_left(card.times, since))
        while self._cards:
            name, card = next(iter(self._cards.items()))
            if card.times and card.times[-1] >= since:
                break
            self._drop(card, len(card.times))
            del self._cards[name]

    def _drop(self, card: _Card, rows: int) -> None:
        card.delete(0, rows)
        self.rows -= rows

    def _aggregate(self, row: Transaction) -> tuple[int, int, int, int]:
        """Return count, sum, sum of squares and distinct products of a window, exactly."""
        card = self._cards[row.card]
        start, end = bisect_left(card.times, row.time_us - WINDOW_US), bisect_right(card.times, row.time_us)
        if end - start == 1:
            return 1, row.thousandths, row.thousandths * row.thousandths, 1
        if end - start > _FEW:
            crowd = card.crowd_of(start, end)
            return end - start, crowd.total, crowd.squares, len(crowd.products)
        amounts = card.amounts[start:end]
        return end - start, sum(amounts), sum(map(mul, amounts, amounts)), len(set(card.products[start:end]))


def _as_double(number: int) -> float:
    """Return a whole number as DuckDB casts a HUGEINT: its halves are rounded, and then their sum."""
    return float(number >> 64) * 2.0**64 + float(number & (2**64 - 1))
