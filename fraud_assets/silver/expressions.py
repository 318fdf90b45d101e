"""SQL expressions over the raw columns of one row: which columns they need, and whether they may be used at all.

Here belongs the analysis before any row is seen: an expression must be scalar and deterministic, and fit the types of
its columns. Which expressions a feed has is `source`; what they give for a row is `cleaning`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import duckdb

from fraud_assets.errors import FraudAssetsError
from fraud_assets.sql import identifier

_SCALAR_NODES: Final = re.compile(
    "BETWEEN|CASE|CAST|COLLATE|COLUMN_REF|COMPARISON|CONJUNCTION|CONSTANT|FUNCTION|LAMBDA|OPERATOR|TYPE"
)
"""What an expression over one row is made of. Subqueries, windows, stars and parameters are other classes."""

_CLOCK_WORDS: Final = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""SQL's functions without parentheses, which the parser shows as columns."""


class ExpressionError(FraudAssetsError):
    """An expression cannot be used: `name` says which one, the message says why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


def find_columns(
    con: duckdb.DuckDBPyConnection, expressions: Mapping[str, str], types: Mapping[str, str], results: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Return the raw columns that each expression refers to, as spelled in `types` or where first used.

    `expressions` are SQL by the name of what each gives, and `results` its type; raw columns are text unless `types`
    names them. Raises ExpressionError for what is not one scalar, deterministic expression, or does not fit the types.
    """
    parsed = {name: _parsed(con, name, text) for name, text in expressions.items()}
    objections = _objections(con, _functions(node for nodes in parsed.values() for node in nodes))
    for name, nodes in parsed.items():
        for function in sorted(_functions(nodes) & objections.keys()):
            raise ExpressionError(name, objections[function])
    spelling = {name.lower(): name for name in types}
    columns = {
        name: frozenset(
            spelling.setdefault(node["column_names"][0].lower(), node["column_names"][0])
            for node in nodes
            if node["class"] == "COLUMN_REF"
        )
        for name, nodes in parsed.items()
    }
    for name, needed in columns.items():
        raw = ", ".join(f"NULL::{types.get(one, 'VARCHAR')} AS {identifier(one)}" for one in sorted(needed))
        try:
            con.execute(
                f"SELECT {typed(expressions[name], results[name])} FROM (SELECT {raw or 'NULL'}) LIMIT 0"
            ).fetchall()
        except duckdb.Error as error:
            problem = f"{str(error).splitlines()[0]} Raw columns are text unless [types] names them."
            raise ExpressionError(name, problem) from error
    return columns


def typed(expression: str, type_: str) -> str:
    """Return the SQL of an expression in a type, NULL where a row's values do not allow it.

    Empty text is NULL, and so is a time outside the years 1 to 9999 (infinity included), which neither Python nor a
    partition key can say.
    """
    # The line break ends a trailing comment in the expression.
    cast = f"TRY(CAST(({expression}\n) AS {type_}))"
    if type_ == "TIMESTAMPTZ":
        return f"CASE WHEN year({cast}) BETWEEN 1 AND 9999 THEN {cast} END"
    return f"nullif({cast}, '')" if type_ == "VARCHAR" else cast


@contextmanager
def row_by_row(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep a row that TRY cannot evaluate from failing a query.

    DuckDB takes what two expressions have in common out of the TRY around each, and an error there is everybody's.
    """
    con.execute("SET disabled_optimizers = 'common_subexpressions'")
    try:
        yield
    finally:
        con.execute("RESET disabled_optimizers")


def _parsed(con: duckdb.DuckDBPyConnection, name: str, text: str) -> list[dict[str, Any]]:
    """Return the nodes of an expression's syntax tree, refusing all that is not one scalar expression."""
    tree, blank = (_parse(con, one) for one in (text, "1"))
    if tree["error"]:
        raise ExpressionError(name, f"is not SQL: {tree['error_message']}.")
    shapes = [[one | {"node": one["node"] | {"select_list": []}} for one in t["statements"]] for t in (tree, blank)]
    if shapes[0] != shapes[1] or len(tree["statements"][0]["node"]["select_list"]) != 1:
        raise ExpressionError(name, "must be one expression, not a list, a query or several statements.")
    nodes = list(_nodes(tree["statements"][0]["node"]["select_list"]))
    for node in nodes:
        if not _SCALAR_NODES.fullmatch(node["class"]):
            raise ExpressionError(name, f"must look at one row only: {node['class'].lower()} is not allowed.")
        if node["class"] == "COLUMN_REF" and len(node["column_names"]) > 1:
            dotted = ".".join(node["column_names"])
            raise ExpressionError(name, f'{dotted} is not a raw column; write "{dotted}" if the dot is its own.')
        if _is_clock(node):
            raise ExpressionError(name, f"must be deterministic: {node['column_names'][0]} is not.")
    return nodes


def _parse(con: duckdb.DuckDBPyConnection, expression: str) -> dict[str, Any]:
    """Return DuckDB's syntax tree of a SELECT of one expression."""
    [(tree,)] = con.execute("SELECT json_serialize_sql($query)", {"query": f"SELECT {expression}"}).fetchall()
    return json.loads(tree)


def _functions(nodes: Iterable[dict[str, Any]]) -> frozenset[str]:
    return frozenset(node["function_name"].lower() for node in nodes if node["class"] == "FUNCTION")


def _is_clock(node: dict[str, Any]) -> bool:
    return node["class"] == "COLUMN_REF" and node["column_names"][0].lower() in _CLOCK_WORDS


def _objections(con: duckdb.DuckDBPyConnection, names: frozenset[str]) -> dict[str, str]:
    """Say which functions look at more than one row, or give another value another time; macros are looked into."""
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
