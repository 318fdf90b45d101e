"""A posted body becomes transactions, or faults with field and reason: by the rules of cleaning, in every case.

The plainly good canonical record, which is nearly every one, is read here; of everything else `silver/single_records`
says what it is, as in a build. Here belong the two shapes of a record and what lands of it. Pure but for DuckDB.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from fraud_assets.serve.window import Transaction
from fraud_assets.silver.cleaning import REASONS, VALUES, reason_kind
from fraud_assets.silver.json_records import decode_record
from fraud_assets.silver.single_records import RecordCleaner
from fraud_assets.silver.source import CANONICAL_TYPES, OPTIONAL_COLUMNS, Source

REQUIRED: Final = tuple(name for name in CANONICAL_TYPES if name not in OPTIONAL_COLUMNS)
"""The keys of a canonical record; the label may be there too."""

_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)?", re.ASCII
)
"""Times that Python and DuckDB read alike; a naive one is UTC."""

_BLANK: Final = " \t\n\v\f\r\xa0"
"""A text of these alone is empty."""

_TOO_LARGE: Final = 1e11

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_MICROSECOND: Final = timedelta(microseconds=1)

_FIELDS: Final = {value: column for column, value in VALUES.items()}


class CanonicalRecord(msgspec.Struct):
    """A transaction under the names that the platform gives its columns."""

    TransactionID: str | int
    event_timestamp: str
    card_id: str | int
    TransactionAmt: float
    ProductCD: str | int
    is_international_txn: bool
    isFraud: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815 - the column's name


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one record of a request: which one, which field, the reason's name, and words for a person."""

    index: int
    field: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """A good transaction, and the line that lands of it: canonical, or raw as it came."""

    transaction: Transaction
    line: bytes
    is_canonical: bool


_decode = msgspec.json.Decoder(CanonicalRecord).decode
_encode = msgspec.json.Encoder().encode
_KEYS: Final = tuple(f'"{name}"'.encode() for name in REQUIRED)


class NotJsonError(Exception):
    """A body is neither a JSON object nor a list of them; the message says why."""


def split(body: bytes) -> tuple[list[bytes], bool]:
    """Return the records of a body, each as it came, and whether it was a list of them.

    Raises:
        NotJsonError: the body holds no records.
    """
    text = body.strip(b" \t\r\n")
    if not text.startswith(b"["):
        return [text], False
    try:
        return [bytes(one) for one in msgspec.json.decode(text, type=list[msgspec.Raw])], True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJsonError(f"The body is not JSON: {error}.") from error


def read_plain(raw: bytes, *, refunds_count: bool = False) -> Record | None:
    """Return a record that is canonical and plainly good; None where somebody else must look at it.

    It is the same transaction that `RecordReader` would find, in a hundredth of the time. What lands is written anew,
    so that the batch reads nothing but what was understood here.
    """
    if b"\\" in raw or any(raw.count(key) != 1 for key in _KEYS):  # a key that is doubled or spelled otherwise
        return None
    try:
        record = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    texts = []
    for text in (record.TransactionID, record.card_id, record.ProductCD):
        if isinstance(text, int):
            if text <= 0:
                return None
            text = str(text)
        if not text.strip(_BLANK) or "\0" in text:
            return None
        texts.append(text)
    amount = abs(record.TransactionAmt) if refunds_count else record.TransactionAmt
    if (
        record.isFraud is not msgspec.UNSET
        or not 0 <= amount < _TOO_LARGE
        or not _TIME.fullmatch(record.event_timestamp)
    ):
        return None
    try:
        time = datetime.fromisoformat(record.event_timestamp)
        time_us = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    if not _FIRST_TIME <= time_us < _LAST_TIME:
        return None
    transaction_id, card, product = texts
    found = Transaction(transaction_id, time_us, card, product, round(amount * 1000), record.is_international_txn)
    return Record(found, _line_of(found), is_canonical=True)


_FIRST_TIME: Final = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_TIME: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def utc_text(time_us: int) -> str:
    """Return a time as ISO 8601 with microseconds."""
    return (_EPOCH + time_us * _MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line_of(found: Transaction) -> bytes:
    # No last zero of an amount: the batch has a faster way for a number that has none.
    amount = f"{found.thousandths // 1000}.{found.thousandths % 1000:03d}".rstrip("0").rstrip(".")
    return _encode(
        {
            "TransactionID": found.id,
            "event_timestamp": utc_text(found.time_us),
            "card_id": found.card,
            "TransactionAmt": msgspec.Raw(amount.encode()),
            "ProductCD": found.product,
            "is_international_txn": found.is_international,
        }
    )


class RecordReader:
    """Reads records of any shape: canonical ones, or raw ones by the expressions of the source. Holds connections."""

    def __init__(self, source: Source) -> None:
        self._raw, self._canonical = RecordCleaner(source), RecordCleaner(source.canonical)
        self._raw_only = self._raw.raw_columns - {name.lower() for name in CANONICAL_TYPES}

    def close(self) -> None:
        """Close the connections."""
        self._raw.close()
        self._canonical.close()

    def read(self, raws: Sequence[bytes]) -> list[Record | list[Fault]]:
        """Return each record, or what is wrong with it."""
        read: dict[int, Record | list[Fault]] = {}
        shapes: dict[bool, list[tuple[int, bytes, dict[str, Any]]]] = {True: [], False: []}
        for at, raw in enumerate(raws):
            line = raw.replace(b"\r", b" ").replace(b"\n", b" ")
            decoded = decode_record(line.decode("utf-8", "surrogateescape"))
            if decoded is None:
                read[at] = [Fault(at, "", "unreadable_line", "It is no JSON object, or holds what is not text.")]
            else:
                shapes[self._is_canonical(decoded)].append((at, line, decoded))
        for is_canonical, some in shapes.items():
            cleaner = self._canonical if is_canonical else self._raw
            for (at, line, _), found in zip(some, cleaner.evaluate([one for _, _, one in some]), strict=True):
                if found.reasons:
                    read[at] = [_fault(at, reason) for reason in found.reasons]
                else:
                    read[at] = Record(_transaction(found.values), line, is_canonical)
        return [read[at] for at in range(len(raws))]

    def _is_canonical(self, record: dict[str, Any]) -> bool:
        """Whether a record has all canonical keys, or none that only the raw columns of the source have."""
        return all(name in record for name in REQUIRED) or not self._raw_only & {name.lower() for name in record}


def _transaction(values: tuple[Any, ...]) -> Transaction:
    transaction_id, time_us, card, product, thousandths, is_international = values
    return Transaction(transaction_id, time_us, card, product, thousandths, is_international)


def _fault(at: int, reason: str) -> Fault:
    """Say where a reason of cleaning points to."""
    kind = reason_kind(reason)
    if kind == "unreadable_<raw column>":
        field = reason.removeprefix("unreadable_")
    elif kind in ("missing_<value>", "<value>_not_understood"):
        field = _FIELDS[reason.removeprefix("missing_").removesuffix("_not_understood")]
    else:
        field = {"label_not_0_or_1": "isFraud", "unreadable_line": ""}.get(reason, "TransactionAmt")
    return Fault(at, field, reason, REASONS[kind])
