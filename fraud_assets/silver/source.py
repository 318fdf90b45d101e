"""A feed as its owner describes it: one TOML file that maps raw columns to the canonical ones.

Here belong the file's format, its validation and what follows from it alone: partition keys and bounds, the
digest, and the raw columns that its expressions refer to. Reading and evaluating rows are `reading` and
`cleaning`. Loading a source opens no database; only checking its expressions needs one.
"""

import codecs
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from fraud_assets.errors import FraudAssetsError

Grain = Literal["daily", "hourly"]

CANONICAL_TYPES: Final[Mapping[str, str]] = {
    "TransactionID": "VARCHAR",
    "event_timestamp": "TIMESTAMPTZ",
    "card_id": "VARCHAR",
    "TransactionAmt": "DOUBLE",
    "ProductCD": "VARCHAR",
    "is_international_txn": "BOOLEAN",
    "isFraud": "VARCHAR",
}
# The type each expression is cast to. The label stays text here, so that a wrong one is not a missing one.

OPTIONAL_COLUMNS: Final = frozenset({"isFraud"})
# A feed without labels can be scored; without any other column it cannot.

_SOURCES: Final = Path(__file__).with_name("sources")

_KEY_FORMATS: Final[Mapping[Grain, str]] = {"daily": "%Y-%m-%d", "hourly": "%Y-%m-%d-%H"}
# No colon, since a key is also a folder name.

_SCALAR_NODES: Final = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "OPERATOR",
        "TYPE",
    }
)
# What an expression over one row is made of. Subqueries, windows, stars and parameters are other classes.

_CLOCK_WORDS: Final = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
# SQL's functions without parentheses, which the parser shows as columns.


class SourceError(FraudAssetsError):
    """A source file cannot be used; the message names the file, the key and what is expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(_Section):
    """The days or hours that the feed covers, in UTC; `end` is exclusive and an open feed has none."""

    grain: Grain
    start: date
    end: date | None = None

    @model_validator(mode="after")
    def _end_follows_start(self) -> "Partitions":
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be later than start")
        return self


class Rules(_Section):
    """What a source may decide about its rows: whose copy wins a conflict, and what a negative amount is."""

    on_conflict: Literal["quarantine", "last_file"] = "quarantine"
    refunds: Literal["quarantine", "absolute"] = "quarantine"


class Features(_Section):
    """Limits that features need."""

    high_value_amount: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CsvFormat(_Section):
    """How the feed's CSV files are written; an empty quote means that fields are never quoted."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    header: bool = True
    encoding: str = "utf-8"

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
        return self


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

    @field_validator("columns")
    @classmethod
    def _columns_are_canonical(cls, columns: dict[str, str]) -> dict[str, str]:
        unknown = sorted(columns.keys() - CANONICAL_TYPES.keys())
        missing = [name for name in CANONICAL_TYPES if name not in columns and name not in OPTIONAL_COLUMNS]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; expected {', '.join(CANONICAL_TYPES)}")
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")
        return columns

    @cached_property
    def digest(self) -> str:
        """What the file means for a row, in 16 hex digits.

        Comments, the name, the description and the feed's first and last day are no part of it: none of them
        changes a row, and a feed that is prolonged must not be built again.
        """
        meaning = self.model_dump(
            mode="json", exclude={"name": True, "description": True, "partitions": {"start", "end"}}
        )
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def key_format(self) -> str:
        """The strftime format of a partition key."""
        return _KEY_FORMATS[self.partitions.grain]

    @property
    def first_key(self) -> str:
        """The key of the feed's first partition."""
        return self.partitions.start.strftime(self.key_format)

    @property
    def end_key(self) -> str | None:
        """The key of the first partition after the feed's end, or None for an open feed."""
        return None if self.partitions.end is None else self.partitions.end.strftime(self.key_format)

    def partition_key(self, time: datetime) -> str:
        """Return the key of the partition that an aware time belongs to."""
        return time.astimezone(UTC).strftime(self.key_format)

    def bounds(self, key: str) -> tuple[datetime, datetime]:
        """Return the first instant of a partition and the first instant after it, in UTC.

        Raises:
            ValueError: The text is not a partition key of this source.
        """
        start = datetime.strptime(key, self.key_format).replace(tzinfo=UTC)
        if start.strftime(self.key_format) != key:
            raise ValueError(f"{key!r} is not a partition key; expected the form {self.key_format}.")
        return start, start + (timedelta(days=1) if self.partitions.grain == "daily" else timedelta(hours=1))

    def previous_key(self, key: str) -> str:
        """Return the key of the partition just before."""
        return self.partition_key(self.bounds(key)[0] - timedelta(microseconds=1))

    def in_range(self, key: str) -> bool:
        """Say whether a key lies between the feed's start and its end, which is exclusive."""
        day = self.bounds(key)[0].date()
        return self.partitions.start <= day and (self.partitions.end is None or day < self.partitions.end)

    def raw_columns(self, con: duckdb.DuckDBPyConnection) -> frozenset[str]:
        """Return the raw columns that the expressions refer to, as spelled in [types] or where first used.

        Raises:
            SourceError: See `references`.
        """
        return frozenset().union(*self.references(con).values())

    def references(self, con: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
        """Return for each canonical column the raw columns that its expression refers to.

        Raises:
            SourceError: An expression is not one scalar, deterministic SQL expression over raw columns, or
            does
                not fit the raw columns' types. The message names the column and the expression.
        """
        if self._references is None:
            self._references = self._find_references(con)
        return self._references

    def _find_references(self, con: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
        found = {name: self._parsed(con, name) for name in self.columns}
        objections = _objections(con, _functions(node for nodes in found.values() for node in nodes))
        for name, nodes in found.items():
            for function in sorted(_functions(nodes) & objections.keys()):
                raise self._error(name, objections[function])
        spelling = {name.lower(): name for name in self.types}
        references = {
            name: frozenset(
                spelling.setdefault(node["column_names"][0].lower(), node["column_names"][0])
                for node in nodes
                if node["class"] == "COLUMN_REF"
            )
            for name, nodes in found.items()
        }
        for name, columns in references.items():
            self._require_binding(con, name, columns)
        return references

    def type_of(self, raw_column: str) -> str:
        """Return the declared type of a raw column: text, unless the file says otherwise."""
        return self.types.get(raw_column, "VARCHAR")

    def _error(self, column: str, problem: str) -> SourceError:
        return SourceError(f"Source {self.name}, [columns] {column} = {self.columns[column]!r}: {problem}")

    def _parsed(self, con: duckdb.DuckDBPyConnection, column: str) -> list[dict[str, Any]]:
        """Return the nodes of an expression's syntax tree, refusing all that is not one scalar expression."""
        parsed, blank = (_parse(con, text) for text in (self.columns[column], "1"))
        if parsed["error"]:
            raise self._error(column, f"is not SQL: {parsed['error_message']}.")
        shapes = [[_without_expressions(statement) for statement in tree["statements"]] for tree in (parsed, blank)]
        if shapes[0] != shapes[1] or len(parsed["statements"][0]["node"]["select_list"]) != 1:
            raise self._error(column, "must be one expression, not a list, a query or several statements.")
        nodes = list(_nodes(parsed["statements"][0]["node"]["select_list"]))
        for node in nodes:
            if node["class"] not in _SCALAR_NODES:
                raise self._error(column, f"must look at one row only: {node['class'].lower()} is not allowed.")
            if node["class"] == "COLUMN_REF" and len(node["column_names"]) > 1:
                dotted = ".".join(node["column_names"])
                raise self._error(column, f'{dotted} is not a raw column; write "{dotted}" if the dot is its own.')
            if _is_clock(node):
                raise self._error(column, f"must be deterministic: {node['column_names'][0]} is not.")
        return nodes

    def _require_binding(self, con: duckdb.DuckDBPyConnection, column: str, references: frozenset[str]) -> None:
        """Refuse an expression that does not fit the types of its raw columns."""
        raw = ", ".join(f"NULL::{self.type_of(name)} AS {quoted(name)}" for name in sorted(references))
        query = f"SELECT {self.expression(column)} FROM (SELECT {raw or 'NULL'}) LIMIT 0"
        try:
            con.execute(query).fetchall()
        except duckdb.Error as error:
            problem = str(error).splitlines()[0]
            raise self._error(column, f"{problem} Raw columns are text unless [types] names them.") from error

    def expression(self, column: str) -> str:
        """Return the SQL of a canonical column in its type, NULL where a row's values do not allow it.

        Empty text is NULL, and so is a time outside the years 1 to 9999 (infinity included), which neither
        Python nor a partition key can say.
        """
        type_ = CANONICAL_TYPES[column]
        # The line break ends a trailing comment in the expression.
        cast = f"TRY(CAST(({self.columns[column]}\n) AS {type_}))"
        if type_ == "TIMESTAMPTZ":
            return f"CASE WHEN year({cast}) BETWEEN 1 AND 9999 THEN {cast} END"
        return f"nullif({cast}, '')" if type_ == "VARCHAR" else cast


def quoted(identifier: str) -> str:
    """Return an identifier as SQL text, whatever characters it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def load_source(name_or_path: str) -> Source:
    """Return the source with a packaged name, or the one in a file whose path ends in .toml.

    Raises:
        SourceError: There is no such source, or its file is not valid.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else _SOURCES / f"{name_or_path}.toml"
    if not path.is_file():
        packaged = ", ".join(sorted(p.stem for p in _SOURCES.glob("*.toml")))
        raise SourceError(f"No source {name_or_path!r}: expected one of {packaged}, or the path of a .toml file.")
    try:
        return Source.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not a TOML file in UTF-8: {error}.") from error
    except ValidationError as error:
        problems = "; ".join(f"{_key(e['loc'])}: {e['msg']}" for e in error.errors())
        raise SourceError(f"{path}: {problems}.") from error


def _key(location: tuple[int | str, ...]) -> str:
    """Write a place in the file as its reader sees it: [section] key."""
    first, *rest = (str(part) for part in location)
    return f"[{first}] {'.'.join(rest)}" if rest else first


def _parse(con: duckdb.DuckDBPyConnection, expression: str) -> dict[str, Any]:
    """Return DuckDB's syntax tree of a SELECT of one expression."""
    [(tree,)] = con.execute("SELECT json_serialize_sql($query)", {"query": f"SELECT {expression}"}).fetchall()
    return json.loads(tree)


def _functions(nodes: Iterable[dict[str, Any]]) -> frozenset[str]:
    return frozenset(node["function_name"].lower() for node in nodes if node["class"] == "FUNCTION")


def _is_clock(node: dict[str, Any]) -> bool:
    return node["class"] == "COLUMN_REF" and node["column_names"][0].lower() in _CLOCK_WORDS


def _objections(con: duckdb.DuckDBPyConnection, names: frozenset[str]) -> dict[str, str]:
    """Say which functions look at more than one row or give another value another time, macros included."""
    if not names:
        return {}
    objections = {}
    for name, types, is_unstable, macros in con.execute(
        "SELECT function_name, list(DISTINCT function_type), bool_or(stability <> 'CONSISTENT'),"
        " list(macro_definition) FILTER (WHERE macro_definition IS NOT NULL)"
        " FROM duckdb_functions() WHERE list_contains($names, function_name) GROUP BY function_name",
        {"names": sorted(names)},
    ).fetchall():
        inside = list(_nodes([_parse(con, macro)["statements"] for macro in macros or ()]))
        if not {"scalar", "macro"} & set(types):
            objections[name] = f"must look at one row only: {name} does not."
        elif is_unstable or any(map(_is_clock, inside)):
            objections[name] = f"must be deterministic: {name} is not."
        elif below := _objections(con, _functions(inside) - names):
            objections[name] = f"{name} calls another function. {' '.join(below.values())}"
    return objections


def _without_expressions(statement: dict[str, Any]) -> dict[str, Any]:
    return statement | {"node": statement["node"] | {"select_list": []}}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every expression node of a syntax tree, except references to a lambda's own parameters."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree
        below = [node for value in tree.values() for node in _nodes(value)]
        if tree.get("class") == "LAMBDA":
            parameters = [n["column_names"] for n in _nodes(tree["lhs"]) if n["class"] == "COLUMN_REF"]
            below = [n for n in below if n.get("column_names") not in parameters]
        yield from below
