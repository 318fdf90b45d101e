"""Transactions in, answers out: the window, the model and the journal, one request after the other.

Here belong the order of the steps and what an answer is. How a request arrives is `application`, what a feature is
`window`. Belongs to one thread.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Final, Self

import msgspec
import numpy as np

from fraud_assets.alerts.reasons import Reason, Usual, reasons
from fraud_assets.model.attribution import Attribution
from fraud_assets.model.scorer import Scorer, is_anomaly
from fraud_assets.partition_keys import LENGTHS
from fraud_assets.serve.journal import Entry, Journal, JournalError
from fraud_assets.serve.records import Fault, Record
from fraud_assets.serve.window import NOT_ANSWERED, ConflictingIdError, Transaction, Windows
from fraud_assets.silver.source import Source

AHEAD_US: Final = 60_000_000
"""A minute: so much may a sender's clock be ahead. A time beyond would make every other transaction a late one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Answer(msgspec.Struct):
    """What the platform says of one transaction, under the names that the tables give it."""

    TransactionID: str
    fraud_score: float
    is_anomaly: bool
    score_percentile: float | None
    reasons: tuple[Reason, ...]
    model_version: str
    TransactionAmt: float
    log_transaction_amount: float
    is_high_value_txn: int
    is_international_txn: int
    txn_count_5min: int
    avg_amount_5min: float
    stddev_amount_5min: float
    product_diversity_5min: int


class RefusedError(Exception):
    """A request is not accepted, nothing of it: its faults, and the HTTP status that says so best."""

    def __init__(self, faults: Sequence[Fault], status: int = 422) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults
        self.status = status


class NotReadyError(Exception):
    """There is no model yet, or what was accepted cannot be made durable; the message says which."""


@dataclass(frozen=True)
class Model:
    """The version that scores, its compiled scorer, and what credits the features."""

    version: str
    scorer: Scorer
    attribution: Attribution

    @classmethod
    def of(cls, version: str, scorer: Scorer) -> Self:
        """Return the model of a version; raises AttributionError where its forest cannot be explained."""
        return cls(version, scorer, Attribution.of(scorer))


@dataclass
class Service:
    """One feed's transactions of some cards: scores them from what is known, and remembers what it answered."""

    source: Source
    windows: Windows
    journal: Journal
    now_us: Callable[[], int]
    observe: Callable[[float, bool], None] = lambda score, is_anomaly: None
    """Told of every score that is answered for the first time."""
    model: Model | None = None
    _group: list[tuple[Transaction, bool]] = field(default_factory=list)
    """What was answered since the last commit, and whether it was new: durable together, or taken back together."""
    _writing: list[tuple[Transaction, bool]] = field(default_factory=list)
    """The group before, while its commit has begun and not ended."""

    @classmethod
    def of(cls, source: Source, journal: Journal, *, lateness: timedelta, now_us: Callable[[], int]) -> "Service":
        """Return the service of a feed; nothing is known yet."""
        windows = Windows(lateness=lateness, partition=LENGTHS[source.partitions.grain])
        return cls(source, windows, journal, now_us)

    @cached_property
    def _first_us(self) -> int:
        return _midnight_us(self.source.partitions.start)

    @cached_property
    def _end_us(self) -> float:
        end = self.source.partitions.end
        return math.inf if end is None else _midnight_us(end)

    def score(self, records: Sequence[Record]) -> list[bytes]:
        """Return the answers to the transactions of one request; they count once they are committed.

        All of a request is known before its first transaction is scored, so the order within it changes nothing.

        Raises:
            RefusedError: One of them cannot be accepted, so none is.
            NotReadyError: There is no model to score with, or no journal to write.
        """
        model = self.model
        if model is None:
            raise NotReadyError("no model version is behind @prod yet")
        places = self._place(records)
        fresh = [at for at, place in enumerate(places) if place in (None, NOT_ANSWERED)]
        answered: dict[tuple[str, str], bytes] = {}
        if fresh:
            transactions = [records[at].transaction for at in fresh]
            for at, answer in zip(fresh, self._answers(model, transactions), strict=True):
                transaction = records[at].transaction
                entry = self._entry(records[at], answer, has_landed=places[at] == NOT_ANSWERED)
                try:
                    place = self.journal.append(entry)
                except JournalError as error:
                    self._take_back()
                    raise NotReadyError(str(error)) from error
                self.windows.set_answer(transaction, place)
                answered[transaction.card, transaction.id] = answer
            self.windows.forget({transaction.card for transaction in transactions})
        return [
            answered[record.transaction.card, record.transaction.id]
            if place is None or place < 0
            else self.journal.answer(place)
            for record, place in zip(records, places, strict=True)
        ]

    def begin_commit(self) -> Callable[[], OSError | None]:
        """Return what makes durable all that was answered since the last commit, and says why it could not.

        Any thread may call it; then `end_commit` must follow. Requests are scored meanwhile: they are the next group.
        """
        self._writing, self._group = self._group, []
        return self.journal.begin_commit()

    def end_commit(self, problem: OSError | None) -> None:
        """Take note of how it ended.

        Raises:
            NotReadyError: It failed, and neither it nor what was answered since is known any more: that saw it.
        """
        try:
            self.journal.end_commit(problem)
        except JournalError as error:
            self._group = self._writing + self._group
            self._take_back()
            raise NotReadyError(str(error)) from error
        finally:
            self._writing = []

    def _take_back(self) -> None:
        for transaction, is_new in self._group:
            if is_new:
                self.windows.remove(transaction)
            else:
                self.windows.set_answer(transaction, NOT_ANSWERED)
        self._group.clear()

    def _place(self, records: Sequence[Record]) -> list[int | None]:
        """Add what is new, and return of each record where its first answer is: None of one that was new.

        What stands twice in one request is added once: the second one's place is `_IN_THIS_REQUEST`.
        """
        faults: list[Fault] = []
        since, until = self.windows.accepted_since, self.now_us() + AHEAD_US
        places: list[int | None] = []
        touched: list[tuple[Transaction, bool]] = []
        for at, record in enumerate(records):
            transaction = record.transaction
            try:
                place = self.windows.find(transaction)
            except ConflictingIdError:
                faults.append(Fault(at, "TransactionID", "conflicting_id", _CONFLICT))
                continue
            if place is None:
                fault = self._fault_of_time(at, transaction.time_us, since, until)
                if fault is not None:
                    faults.append(fault)
                    continue
                self.windows.add(transaction, _IN_THIS_REQUEST)
            if place in (None, NOT_ANSWERED):
                touched.append((transaction, place is None))
            places.append(place)
        if faults:
            for transaction, is_new in touched:
                if is_new:
                    self.windows.remove(transaction)
            raise RefusedError(faults, 409 if all(fault.reason == "conflicting_id" for fault in faults) else 422)
        self._group += touched
        return places

    def _fault_of_time(self, at: int, time_us: int, since: int | None, until: int) -> Fault | None:
        if time_us > until:
            return Fault(at, "event_timestamp", "time_in_future", "The time is later than now.")
        if since is not None and time_us < since:
            minutes = (self.windows.watermark or 0) - since
            return Fault(at, "event_timestamp", "too_late", _TOO_LATE.format(minutes / 60_000_000))
        if not self._first_us <= time_us < self._end_us:
            return Fault(at, "event_timestamp", "time_outside_source", "The time is outside the days of the source.")
        return None

    def _answers(self, model: Model, transactions: Sequence[Transaction]) -> list[bytes]:
        limit = self.source.features.high_value_amount
        features = [self.windows.features(transaction, limit) for transaction in transactions]
        matrix = np.array(features, np.float64)
        scores, contributions = model.attribution.scores_and_contributions(matrix)
        percentiles = model.scorer.percentile(scores)
        flags = is_anomaly(scores, model.scorer.threshold)
        for score, flag in zip(scores.tolist(), flags.tolist(), strict=True):
            self.observe(score, flag)
        return [
            _encode(
                Answer(
                    transaction.id,
                    score,
                    flag,
                    None if percentile != percentile else percentile,
                    reasons(values, added, _USUAL),
                    model.version,
                    *values,
                )
            )
            for transaction, score, flag, percentile, values, added in zip(
                transactions,
                scores.tolist(),
                flags.tolist(),
                percentiles.tolist(),
                features,
                contributions.tolist(),
                strict=True,
            )
        ]

    def _entry(self, record: Record, answer: bytes, *, has_landed: bool) -> Entry:
        found = record.transaction
        return Entry(
            line=None if has_landed else record.line.decode(),
            is_canonical=record.is_canonical,
            id=found.id,
            time_us=found.time_us,
            card=found.card,
            product=found.product,
            thousandths=found.thousandths,
            is_international=found.is_international,
            answered_us=self.now_us(),
            answer=msgspec.Raw(answer),
        )


def _midnight_us(day: date) -> int:
    return (datetime.combine(day, time(), UTC) - _EPOCH) // timedelta(microseconds=1)


_IN_THIS_REQUEST: Final = -2
_USUAL: Final = Usual()
"""The service knows minutes, not the month before that a card's usual is taken from."""

_CONFLICT: Final = "The card has another transaction of this id in the same partition."
_TOO_LATE: Final = "The time is more than {:g} minutes before the latest one. Land it as a file: `fraud-assets land`."

_encode = msgspec.json.Encoder().encode
