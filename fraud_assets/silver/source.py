"""A feed as its owner describes it: one TOML file that maps raw columns to the canonical ones.

Here belong the file's format, its validation and what follows from it alone: its range, its digest, and the SQL of each
canonical column. What an expression may be is `expressions`; what rows become is `reading` and `cleaning`.
Loading a source opens no database; only checking its expressions needs one.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from fraud_assets.digests import digest_lines
from fraud_assets.errors import FraudAssetsError
from fraud_assets.partition_keys import KEY_FORMATS, LENGTHS, Grain, bounds, key_of
from fraud_assets.silver.expressions import ExpressionError, find_columns, typed
from fraud_assets.silver.numbers import number
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.sql import identifier, literal

CANONICAL_TYPES: Final[Mapping[str, str]] = {
    "TransactionID": "VARCHAR",
    "event_timestamp": "TIMESTAMPTZ",
    "card_id": "VARCHAR",
    "TransactionAmt": "DOUBLE",
    "ProductCD": "VARCHAR",
    "is_international_txn": "BOOLEAN",
    "isFraud": "VARCHAR",
}
"""The type each expression is cast to. The label stays text here, so that a wrong one is not a missing one."""

OPTIONAL_COLUMNS: Final = frozenset({"isFraud"})
"""A feed without labels can be scored; without any other column it cannot."""

_NUMERIC: Final = re.compile("DOUBLE|FLOAT|REAL|DEC|NUMERIC|U?(TINY|SMALL|BIG|HUGE)?INT", re.IGNORECASE)

_SOURCES: Final = Path(__file__).with_name("sources")


class SourceError(FraudAssetsError):
    """A source file cannot be used; the message names the file, the key and what is expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(_Section):
    """The days or hours that the feed covers, in UTC; `end` is exclusive and an open feed has none."""

    grain: Grain
    start: date
    end: date | None = None
    late_after_hours: Annotated[float | None, Field(ge=0.02)] = None
    """An open feed of which nothing was built for so long is late: a minute at least, by default two partitions."""

    @model_validator(mode="after")
    def _end_follows_start(self) -> "Partitions":
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be later than start")
        return self

    @property
    def late_after(self) -> timedelta | None:
        """How long nothing may land before an open feed is late; None for a feed that has an end."""
        if self.end is not None:
            return None
        return timedelta(hours=self.late_after_hours) if self.late_after_hours else 2 * LENGTHS[self.grain]


class Rules(_Section):
    """What a source may decide about its rows: whose copy wins a conflict, and what a negative amount is."""

    on_conflict: Literal["quarantine", "last_file"] = "quarantine"
    refunds: Literal["quarantine", "absolute"] = "quarantine"


class Features(_Section):
    """Limits that features need."""

    high_value_amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CsvFormat(_Section):
    """How the feed's CSV files are written.

    An empty quote means that fields are never quoted; `skip` lines stand before the header. Where `thousands` or
    another `decimal` is given, numbers are read as people write them (see `numbers`).
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    header: bool = True
    encoding: str = "utf-8"
    skip: Annotated[int, Field(ge=0)] = 0
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", "'", " "] = ""

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ValueError("expected an encoding that Python knows, e.g. utf-8 or latin-1") from error
        return codecs.lookup(encoding).name

    @model_validator(mode="after")
    def _characters_differ(self) -> "CsvFormat":
        if {self.delimiter, self.quote} & {"\n", "\r"} or self.delimiter == self.quote:
            raise ValueError("delimiter and quote must be two characters, and neither a line end")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must be two characters")
        return self

    def number(self, cell: str, type_: str) -> str:
        """Return the SQL of a number in a type, NULL where the cell holds none; see `numbers`."""
        if self.decimal == "." and not self.thousands:
            return f"TRY_CAST({cell} AS {type_})"
        return number(cell, type_, decimal=self.decimal, thousands=self.thousands)


class Source(_Section):
    """One feed: its partitions, raw types, canonical expressions, rules, limits and CSV format."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    description: str = ""
    partitions: Partitions
    types: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_ ]*(\(\d+(, *\d+)?\))?$")]] = {}
    columns: dict[str, str]
    rules: Rules = Rules()
    features: Features
    csv: CsvFormat = CsvFormat()
    _references: dict[str, frozenset[str]] | None = PrivateAttr(default=None)
    _of_files: dict[tuple[str, ...], "Source"] = PrivateAttr(default_factory=dict)

    @field_validator("columns")
    @classmethod
    def _columns_are_canonical(cls, columns: dict[str, str]) -> dict[str, str]:
        unknown = sorted(columns.keys() - CANONICAL_TYPES.keys())
        missing = [name for name in CANONICAL_TYPES if name not in columns and name not in OPTIONAL_COLUMNS]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; expected {', '.join(CANONICAL_TYPES)}")
        if missing:
            raise ValueError(f'missing: {", ".join(missing)}; add {missing[0]} = "the raw column, or SQL over some"')
        return columns

    @cached_property
    def digest(self) -> str:
        """What the file means for a row, in 16 hex digits.

        Comments, the name, the description and the feed's first and last day are no part of it: none of them
        changes a row, and a feed that is prolonged must not be built again. Nor are defaults, so that an option that
        is new changes nothing for those who do not use it.
        """
        meaning = self.model_dump(
            mode="json",
            exclude={"name": True, "description": True, "partitions": {"start", "end", "late_after_hours"}},
            exclude_defaults=True,
        )
        return digest_lines([json.dumps(meaning, sort_keys=True)])

    @property
    def first_key(self) -> str:
        """The key of the feed's first partition."""
        return self._key_of(self.partitions.start)

    @property
    def end_key(self) -> str | None:
        """The key of the first partition after the feed's end, or None for an open feed."""
        return None if self.partitions.end is None else self._key_of(self.partitions.end)

    def _key_of(self, day: date) -> str:
        return key_of(datetime.combine(day, time(), UTC), self.partitions.grain)

    def in_range(self, key: str) -> bool:
        """Say whether a key lies between the feed's start and its end, which is exclusive; ValueError for no key."""
        day = bounds(key, self.partitions.grain)[0].date()
        return self.partitions.start <= day and (self.partitions.end is None or day < self.partitions.end)

    def outside_advice(self, keys: Iterable[str]) -> str:
        """Say which of the keys lie outside the source's days and what would take them in; nothing where none does."""
        outside = sorted(key for key in keys if not self.first_key <= key < (self.end_key or "~"))
        if not outside:
            return ""
        what = f"{len(outside)} {self.partitions.grain} partitions, {outside[0]} to {outside[-1]}, lie"
        until = f"to {self.partitions.end}, exclusive" if self.partitions.end else "without end"
        return (
            f"{what if len(outside) > 1 else f'{outside[0]} lies'} outside the days of source {self.name} "
            f"({self.partitions.start} {until}): to build it, give its file another start or end in [partitions]"
        )

    def references(self, con: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
        """Return for each canonical column the raw columns that its expression refers to.

        Raises SourceError for an expression that cannot be used: the message names the column, the expression and why.
        """
        if self._references is None:
            try:
                self._references = find_columns(con, self.columns, self.types, CANONICAL_TYPES)
            except ExpressionError as error:
                raise SourceError(
                    f"Source {self.name}, [columns] {error.name} = {self.columns[error.name]!r}: {error}"
                ) from error
        return self._references

    def needed(self, con: duckdb.DuckDBPyConnection) -> frozenset[str]:
        """Return the raw columns that any expression refers to; raises what `references` does."""
        return frozenset().union(*self.references(con).values())

    @property
    def key_of_time(self) -> str:
        """The SQL of the partition key of `event_timestamp`."""
        return f"strftime(event_timestamp AT TIME ZONE 'UTC', {literal(KEY_FORMATS[self.partitions.grain])})"

    @cached_property
    def canonical(self) -> "Source":
        """The same feed for records whose columns are the canonical ones already."""
        types = {name: type_ for name, type_ in CANONICAL_TYPES.items() if type_ != "VARCHAR"}
        same = {"columns": {name: name for name in CANONICAL_TYPES}, "types": types}
        return Source.model_validate(self.model_dump(exclude={"columns", "types", "csv"}) | same)

    def of(self, file: RawFile, names: Sequence[str]) -> "Source":
        """Return the source for a file with these columns; one that is canonical needs no expressions."""
        return (self.canonical if file.is_canonical else self).of_file(names)

    def of_file(self, names: Sequence[str]) -> "Source":
        """Return the source for a file with these columns: an entry that is exactly one of them means that column."""
        known = tuple(sorted({name.lower() for name in names}))
        if known not in self._of_files:
            columns = {
                column: identifier(text.strip()) if text.strip().lower() in known else text
                for column, text in self.columns.items()
            }
            self._of_files[known] = Source.model_validate(self.model_dump() | {"columns": columns})
        return self._of_files[known]

    def cell(self, raw_column: str, kind: str) -> str:
        """Return the SQL of a raw column in its declared type, NULL where the cell of such a file is not of it."""
        type_ = self.types.get(raw_column, "VARCHAR")
        if kind == "csv" and _NUMERIC.match(type_):
            return self.csv.number(identifier(raw_column), type_)
        return f"TRY_CAST({identifier(raw_column)} AS {type_})"

    def expression(self, column: str) -> str:
        """Return the SQL of a canonical column in its type."""
        return typed(self.columns[column], CANONICAL_TYPES[column])


def label_of(text: str) -> str:
    """Return the SQL of a label that stands as text: 0 or 1, NULL where the text is neither."""
    return f"CASE TRY_CAST({text} AS DOUBLE) WHEN 0 THEN 0 WHEN 1 THEN 1 END"


def load_source(name_or_path: str) -> Source:
    """Return the source with a packaged name, or in a file whose path ends in .toml; SourceError for no valid one."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else _SOURCES / f"{name_or_path}.toml"
    if not path.is_file():
        packaged = ", ".join(sorted(p.stem for p in _SOURCES.glob("*.toml")))
        beside = sorted(map(str, Path(name_or_path).parent.glob("*.toml")))
        above = [str(place / path) for place in Path.cwd().parents if (place / path).is_file()]
        meant = (above or get_close_matches(f"{path.stem}.toml", beside, 1))[:1]
        raise SourceError(
            f"No source {name_or_path!r} in {Path.cwd()}: expected one of {packaged}, or the path of a .toml file, "
            f"best its whole one.{''.join(f' Did you mean {one}?' for one in meant)}"
        )
    try:
        return Source.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not a TOML file in UTF-8: {error}.") from error
    except ValidationError as error:
        problems = "; ".join(f"{_key(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise SourceError(f"{path}: {problems}.") from error


def _key(location: tuple[int | str, ...]) -> str:
    """Write a place in the file as its reader sees it: [section] key."""
    first, *rest = (str(part) for part in location)
    return f"[{first}] {'.'.join(rest)}" if rest else first if first in ("name", "description") else f"[{first}]"
