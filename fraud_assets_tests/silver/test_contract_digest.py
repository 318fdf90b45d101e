"""The contract's digest is of what landed rows become: of the definitions, and of what hostile rows give."""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb

from fraud_assets.digests import digest_lines
from fraud_assets.partition_keys import previous_key
from fraud_assets.silver import cleaning
from fraud_assets.silver.build import InputDigest, build_partition
from fraud_assets.silver.cleaning import REASONS
from fraud_assets.silver.contract import (
    CONTRACT_DIGEST,
    FEATURES,
    check_features,
    quarantine_schema,
    silver_schema,
)
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import CANONICAL_TYPES, Source
from fraud_assets_tests.silver.cases import json_lines
from fraud_assets_tests.silver.feed import HEADER, make_source, row, write_bytes, write_csv, write_parquet

KEYS = ("2026-01-05", "2026-01-06")

# The day before: its last five minutes are looked back on, the first row is just too early.
EARLIER = [
    row(id="E1", time="2026-01-05 23:54:59.999999", product="A"),
    row(id="E2", time="2026-01-05 23:55:00", product="B", amount="20"),
    row(id="E3", time="2026-01-05 23:59:59.999999", card="other", amount="99999999999.999"),
]

WINDOWS = [
    # Exactly five minutes after E2, and just beyond.
    row(id="W1", time="2026-01-06 00:00:00", product="C", amount="30.001"),
    row(id="W2", time="2026-01-06 00:00:00.000001"),
    # Ties see each other, whatever their order; a window is closed at its beginning too.
    row(id="W3", time="2026-01-06 12:00:00", amount="0.1"),
    row(id="W4", time="2026-01-06 12:00:00", amount="0.2", product="X"),
    row(id="W5", time="2026-01-06 12:05:00", amount="0.3", product="X"),
    row(id="W6", time="2026-01-06 12:05:00.000001", amount="0.7", product="Y"),
    row(id="W7", time="2026-01-06 12:10:00", amount="700"),
    # Sums beyond 64 bits, in and out of the window again.
    *(row(id=f"B{i}", time=f"2026-01-06 15:0{i}:00", card="big", amount="99999999999.999") for i in range(8)),
    # The last five minutes, for the day after.
    row(id="L1", time="2026-01-06 23:54:59.999999", card="late"),
    row(id="L2", time="2026-01-06 23:55:00", card="late", product="Z"),
    row(id="L3", time="2026-01-07 00:30:00+01", card="late", amount="1e2"),
]

VALUES = [
    # Half even: 0.0005 is 0, 0.0015 is 0.002, and 499.9995 is 500, which is high.
    *(
        row(id=f"A{amount}", time=f"2026-01-06 03:0{i}:00", card=f"a{i}", amount=amount)
        for i, amount in enumerate(["0.0005", "0.0015", "0.0025", "499.9995", "499.9994", "0", "-0.0", "1e-9"])
    ),
    *(
        row(id=f"I{text}", time="2026-01-06 04:00", card=f"i{text}", abroad=text)
        for text in ("1", "true", "f", "maybe")
    ),
    *(
        row(id=f"F{text}", time="2026-01-06 05:00", card=f"f{text}", fraud=text)
        for text in ("1", "1.0", "00", "2", "no")
    ),
    *(row(id=f"T{text}", time=text) for text in ("yesterday", "", "9999-12-31", "infinity", "0001-01-01 (BC)")),
    *(row(id=f"N{text}", time="2026-01-06 06:00", amount=text) for text in ("nan", "-inf", "-3", "1e11", "ten", "")),
    row(id="", time="2026-01-06 07:00", card=" \t\u00a0", product="", abroad="", amount=""),
    row(id=" T1", time="2026-01-06 07:00", card=" c", product="W "),
]

COPIES = [
    row(id="D1", time="2026-01-06 08:00"),
    row(id="D1", time="2026-01-06 08:00", fraud="1"),
    row(id="D1", time="2026-01-06 08:00", fraud=""),
    row(id="C1", time="2026-01-06 08:00", card="k"),
    row(id="C1", time="2026-01-06 08:00", card="k", amount="10.5004"),
    row(id="C2", time="2026-01-06 08:00", card="l"),
    row(id="C2", time="2026-01-06 08:00", card="l", product="V"),
    row(id="Q1", time="2026-01-06 09:00", card='"a ""b"",\nc"'),
    row(id="Q2", time="2026-01-06 09:00", card='"open'),
    row(id="Q3", time="2026-01-06 09:00", card='st"ray'),
    "few,fields",
    "",
    row(id="bytes", time="2026-01-06 09:00", product="\0"),
]


HABITS = make_source(
    csv={"delimiter": ";", "skip": 1, "decimal": ",", "thousands": "."},
    columns=make_source().columns | {"card_id": "order"},
)
HABIT = "\n".join(
    ["an export", HEADER.replace(",", ";").replace("card", "Order")]
    + [
        f"H{i};2026-01-05 10:00;c;W;{amount};0;0"
        for i, amount in enumerate(["4.711,5", "4.71", "$5", "(5)", "5-", "5,0001"])
    ]
)
JSON = json_lines(
    *({"id": f"J{i}", "order": card} for i, card in enumerate(["c", 1.50, {"x": 1.0}, True, None])), "no json", "[1]"
)


def files_of(folder: Path) -> dict[str, list[RawFile]]:
    table = [dict(zip(HEADER.split(","), text.split(","), strict=True)) for text in WINDOWS]
    later = [
        row(id="C2", time="2026-01-06 08:00", card="l", amount="11"),
        row(id="D1", time="2026-01-06 08:00", fraud=""),
    ]
    return {
        KEYS[0]: [write_csv(folder, *EARLIER, name="earlier.csv")],
        KEYS[1]: [
            write_parquet(folder, table, name="windows.parquet"),
            write_csv(folder, *VALUES, *COPIES, name="values.csv"),
            write_bytes(folder, "\r\n".join(["\ufeff" + HEADER, "", *later]).encode(), name="later.csv"),
        ],
    }


def values(con: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    """Return a view's rows as text, every double by its bits; what the contract's digest is a part of is left out."""
    rows = con.execute(f"SELECT * EXCLUDE (input_version) FROM {view}").fetchall()
    return sorted(" ".join(v.hex() if isinstance(v, float) else str(v) for v in one) for one in rows)


def outputs(con: duckdb.DuckDBPyConnection, source: Source, files: dict[str, list[RawFile]]) -> Iterator[str]:
    lookback = None
    for key, landed in files.items():
        build = build_partition(con, source, key, landed, lookback, InputDigest("", "", ""))
        assert check_features(con, "silver_rows").passed
        yield f"{build.landed_rows} {build.lookback_digest} {build.tail_digest} {build.silver_digest}"
        yield from values(con, "silver_rows")
        yield from values(con, "quarantine_rows")
        con.execute("CREATE OR REPLACE TEMP TABLE lookback AS FROM silver_rows")
        assert previous_key(KEYS[1], "daily") == KEYS[0]
        lookback = "lookback"


def meaning(con: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
    """Return line by line what decides the stored values."""
    sources = [make_source(), make_source(rules={"on_conflict": "last_file", "refunds": "absolute"})]
    return [
        *(f"{feature.name} {feature.type} {feature.rule}" for feature in FEATURES),
        *(f"{name} {type_}" for name, type_ in CANONICAL_TYPES.items()),
        *(f"{field.name} {field.type}" for schema in (silver_schema(), quarantine_schema()) for field in schema),
        *(line for source in sources for line in outputs(con, source, files_of(folder))),
        *outputs(con, HABITS, {KEYS[0]: [write_bytes(folder, HABIT.encode()), write_bytes(folder, JSON, "a.jsonl")]}),
    ]


def test_the_contract_digest_is_of_what_landed_rows_become(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    digest = digest_lines(meaning(con, tmp_path))
    assert digest == CONTRACT_DIGEST, (
        "Landed rows become something else than before. If that is meant, every partition has to be built anew: "
        f'write CONTRACT_DIGEST = "{digest}" in fraud_assets/silver/contract.py.'
    )


def test_the_rows_behind_the_digest_have_every_reason_that_there_is(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    reasons = {reason for line in meaning(con, tmp_path) for reason in re.findall("'([a-z_0-9]+)'", line)}
    assert {f"missing_{value}" for value in cleaning.VALUES.values()} <= reasons
    assert {"unreadable_time", "unreadable_amount", "unreadable_abroad", "event_time_not_understood"} <= reasons
    assert {reason for reason in REASONS if "<" not in reason} <= reasons
