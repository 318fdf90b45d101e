"""Writes the tables of the documentation that say what the code says, between their markers.

`python docs/generate.py` rewrites them; with `--check` it writes nothing and exits with 1 where a file would change.
What a person has to say about a table stands around the markers, never here.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from fraud_assets.alerts.schemas import CARD_TRANSACTION, REASON
from fraud_assets.resources.tables import TABLES
from fraud_assets.settings import Settings
from fraud_assets.silver.cleaning import REASONS
from fraud_assets.silver.contract import FEATURES
from fraud_assets_tests.silver.cases import CASES, LABEL_CASES

ROOT: Final = Path(__file__).resolve().parents[1]

_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "text",
    pa.float64(): "double",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.bool_(): "boolean",
    pa.timestamp("us", tz="UTC"): "timestamp (UTC)",
    pa.list_(pa.string()): "list of text",
    pa.list_(REASON): "list of feature, value, contribution, text",
    pa.list_(CARD_TRANSACTION): "list of transactions",
}
# The words that the rest of the documentation uses; a new type fails here until it has one.


def features() -> str:
    """Return the eight features, in contract order."""
    return _table(["feature", "type", "meaning"], [[f"`{f.name}`", f.type, f.meaning] for f in FEATURES])


def settings() -> str:
    """Return every setting with its default and meaning."""
    return _table(
        ["variable", "default", "meaning"],
        [
            [
                f"`{field.validation_alias or f'FRAUD_{name.upper()}'}`",
                "" if field.default is None else f"`{field.default}`",
                field.description or "",
            ]
            for name, field in Settings.model_fields.items()
        ],
    )


def reasons() -> str:
    """Return every reason for quarantine."""
    return _table(["reason", "meaning"], [[f"`{reason}`", meaning] for reason, meaning in REASONS.items()])


def tables() -> str:
    """Return every table of the lake with its grain and columns."""
    return "\n\n".join(
        f"### {table.address}\n\n{table.description} Partitioned by `{table.partition_by}`.\n\n"
        + _table(
            ["column", "type", "meaning"],
            [[f"`{field.name}`", _TYPES[field.type], table.meanings[field.name]] for field in table.schema],
        )
        for table in TABLES
    )


def example() -> str:
    """Return the source file of the example feed."""
    return f"```toml\n{(ROOT / 'docs/example_feed/shop.toml').read_text(encoding='utf-8').rstrip()}\n```"


def cases() -> str:
    """Return what becomes of each case that the tests prove."""
    shown: dict[str, list[list[str]]] = {}
    # What is the same in one file and in two is two cases of the same words.
    for topic, *line in dict.fromkeys((case.topic, case.what, case.outcome) for case in CASES):
        shown.setdefault(topic, []).append(line)
    shown["Late labels"] = [[case.what, case.outcome] for case in LABEL_CASES]
    return "\n\n".join(
        f"## {topic}\n\n{_table(['what landed', 'what becomes of it'], rows)}" for topic, rows in shown.items()
    )


BLOCKS: Final[Mapping[str, tuple[Callable[[], str], ...]]] = {
    "README.md": (features, settings),
    "docs/configuration.md": (settings,),
    "docs/bad_data.md": (cases,),
    "docs/tables.md": (tables,),
    "docs/your_own_feed.md": (example, reasons),
}
# What each file must hold: a block called `name` stands between `<!-- name -->` and `<!-- /name -->`.


def with_blocks(text: str, blocks: Iterable[Callable[[], str]]) -> str:
    """Return the text with each block written anew.

    Raises:
        ValueError: A marker is missing, or is there twice.
    """
    for block in blocks:
        start, end = f"<!-- {block.__name__} -->\n", f"<!-- /{block.__name__} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"{start.strip()} and {end} must each stand there once, on lines of their own")
        before, rest = text.split(start)
        _, after = rest.split(end)
        text = f"{before}{start}{block()}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Rewrite the files, or with `--check` only say which would change; return the exit status."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("Usage: python docs/generate.py [--check]\n")
        return 2
    failed = False
    for name, blocks in BLOCKS.items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        try:
            after = with_blocks(before, blocks)
        except ValueError as error:
            sys.stderr.write(f"{name}: {error}.\n")
            failed = True
            continue
        if after == before:
            continue
        if arguments:
            sys.stderr.write(f"{name} is not what the code says; `python docs/generate.py` rewrites it.\n")
            failed = True
        else:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{name} rewritten\n")
    return int(failed)


def _table(names: list[str], rows: Iterable[list[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return Markdown that shows the text as it is: outside of code, an angle bracket would begin a tag."""
    text = text.replace("|", "\\|")
    return text if text.startswith("`") else text.replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
