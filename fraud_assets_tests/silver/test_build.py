import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from fraud_assets.partition_keys import previous_key
from fraud_assets.silver.build import InputDigest, SilverBuild, build_partition, input_digest
from fraud_assets.silver.contract import (
    CONTRACT_DIGEST,
    ContractCheck,
    check_features,
    quarantine_schema,
    silver_schema,
)
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.source import Source
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import GOOD, HEADER, make_source, write_csv

KEY = "2026-01-05"
INPUT = InputDigest("files", "source", "contract")


def row(**changes: str) -> str:
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | changes).values())


def read(con: duckdb.DuckDBPyConnection, table: str) -> pa.Table:
    return con.sql(f"FROM {table}").to_arrow_reader().read_all()


def test_a_build_says_what_it_was_made_of_and_became(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, GOOD, GOOD, row(id="T2", amount="500"), row(amount="x"))
    build = build_partition(con, make_source(), KEY, [file], None, INPUT)
    assert (build.landed_rows, build.silver_rows, build.quarantined_rows) == (4, 2, 2)
    assert build.quarantine_reasons == {"duplicate": 1, "unreadable_amount": 1}
    assert (build.input_digest, build.lookback_digest, build.tail_digest) == (
        INPUT,
        EMPTY_TAIL,
        EMPTY_TAIL,
    )
    assert check_features(con, "silver_rows") == ContractCheck(rows=2, violations={})
    rows = read(con, "silver_rows").to_pylist()
    assert [(r["TransactionID"], r["is_high_value_txn"], r["txn_count_5min"]) for r in rows] == [
        ("T1", 0, 2),
        ("T2", 1, 2),
    ]
    assert {(r["input_version"], r["silver_version"], r["partition_key"]) for r in rows} == {
        ("files-source-contract", build.silver_digest, KEY)
    }
    refused = read(con, "quarantine_rows").to_pylist()
    assert [(r["line"], r["reasons"], r["partition_key"]) for r in refused] == [
        (3, ["duplicate"], KEY),
        (5, ["unreadable_amount"], KEY),
    ]


@pytest.mark.parametrize("rows", [[GOOD, "few"], ["few"], []], ids=["good and bad", "all bad", "header only"])
def test_the_tables_are_exactly_the_contracts_schemas(con: duckdb.DuckDBPyConnection, tmp_path: Path, rows: list[str]):
    build_partition(con, make_source(), KEY, [write_csv(tmp_path, *rows)], None, INPUT)
    for table, schema in (("silver_rows", silver_schema()), ("quarantine_rows", quarantine_schema())):
        found = read(con, table)
        assert found.schema.names == schema.names
        assert [str(f.type).replace("l:", "item:") for f in found.schema] == [str(f.type) for f in schema]
        assert found.cast(schema).num_rows == len(found)


def test_one_connection_builds_many_partitions(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    first = [write_csv(tmp_path, GOOD, "few", name="1.csv"), write_csv(tmp_path, row(id="T2"), name="2.csv")]
    build_partition(con, make_source(), KEY, first, None, INPUT)
    second = [write_csv(tmp_path, row(time="2026-01-06 00:00:01"), name="3.csv")]
    build = build_partition(con, make_source(), "2026-01-06", second, "silver_rows", INPUT)
    assert (build.silver_rows, build.quarantined_rows) == (1, 0)
    assert read(con, "quarantine_rows").num_rows == 0


def test_a_partition_without_files_or_good_rows_is_built_all_the_same(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    for files in ([], [write_csv(tmp_path, "few")]):
        build = build_partition(con, make_source(), KEY, files, None, INPUT)
        assert build.silver_rows == 0
        assert build.silver_digest == EMPTY_TAIL
        assert check_features(con, "silver_rows").passed


def test_a_broken_file_stops_the_build_before_anything_is_replaced(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    build_partition(con, make_source(), KEY, [write_csv(tmp_path, GOOD)], None, INPUT)
    with pytest.raises(BrokenFileError, match=r"2\.csv"):
        build_partition(
            con, make_source(), KEY, [write_csv(tmp_path, header="x", name="2.csv")], None, INPUT._replace(files="more")
        )
    assert read(con, "silver_rows")["input_version"].to_pylist() == [str(INPUT)]


def test_a_label_that_arrives_late_changes_the_table_but_not_the_silver_version(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    first = write_csv(tmp_path, row(fraud=""), name="1.csv")
    before = build_partition(con, make_source(), KEY, [first], None, INPUT)
    after = build_partition(
        con, make_source(), KEY, [first, write_csv(tmp_path, row(fraud="1"))], None, INPUT._replace(files="more")
    )
    assert read(con, "silver_rows")["isFraud"].to_pylist() == [1]
    assert after.silver_digest == before.silver_digest


def test_the_input_digest_names_files_source_and_contract():
    source = make_source()
    digest = input_digest(["b" * 64, "a" * 64], source)
    assert digest == (
        hashlib.sha256(f"{'b' * 64}\n{'a' * 64}".encode()).hexdigest()[:16],
        source.digest,
        CONTRACT_DIGEST,
    )
    assert InputDigest.parse(str(digest)) == digest
    assert len(str(digest).encode()) <= 64, "Delta cuts its statistics there"


def test_the_order_of_files_is_part_of_the_input_since_the_last_label_wins():
    assert input_digest(["a", "b"], make_source()) != input_digest(["b", "a"], make_source())


@dataclass
class Platform:
    """Landed files and built partitions, and the rule that says which partition is due."""

    source: Source
    folder: Path
    con: duckdb.DuckDBPyConnection
    landed: dict[str, list[RawFile]] = field(default_factory=dict)
    builds: dict[str, SilverBuild] = field(default_factory=dict)

    def land(self, key: str, *rows: str) -> None:
        files = self.landed.setdefault(key, [])
        name = f"{key}-{len(files)}.csv"
        files.append(write_csv(self.folder, *rows, name=name))

    def input_digest(self, key: str) -> InputDigest:
        return input_digest([file.path.read_text() for file in self.landed[key]], self.source)

    def is_due(self, key: str) -> bool:
        built = self.builds.get(key)
        before = self.builds.get(previous_key(key, self.source.partitions.grain))
        tail = before.tail_digest if before else EMPTY_TAIL
        return built is None or (built.input_digest, built.lookback_digest) != (self.input_digest(key), tail)

    def build(self, key: str) -> None:
        before = previous_key(key, self.source.partitions.grain)
        self.builds[key] = build_partition(
            self.con,
            self.source,
            key,
            self.landed[key],
            self.table(before) if before in self.builds else None,
            self.input_digest(key),
        )
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {self.table(key)} AS FROM silver_rows")

    def build_what_is_due(self, choose: Callable[[list[str]], str]) -> None:
        while due := [key for key in self.landed if self.is_due(key)]:
            self.build(choose(due))

    def table(self, key: str) -> str:
        return f'"silver {key}"'

    def bits(self) -> dict[str, list[str]]:
        return {
            key: self.con.execute(f"SELECT x::VARCHAR FROM {self.table(key)} x ORDER BY ALL").fetchall()
            for key in sorted(self.builds)
        }


def random_rows(chance: random.Random, hour: int) -> list[str]:
    """Make rows of an hour that crowd around its end and its beginning, some of them copies or corrections."""
    times = ["00:00", "00:00.000001", "02:30", "04:59.999999", "05:00", "55:00", "57:30", "59:59.999999"]
    return [
        row(
            id=f"{hour}-{chance.randrange(6)}",
            time=f"2026-01-05 {hour:02}:{chance.choice(times)}",
            card=chance.choice("ab"),
            product=chance.choice("WC"),
            amount=chance.choice(["10.1", "0.3", "700", "n/a"]),
        )
        for _ in range(chance.randrange(5))
    ]


@pytest.mark.parametrize("seed", range(cases(6, 20)))
@pytest.mark.parametrize("on_conflict", ["quarantine", "last_file"])
def test_whatever_lands_in_whatever_order_building_what_is_due_equals_building_everything_anew(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int, on_conflict: str
):
    chance = random.Random(seed)
    source = make_source(partitions={"grain": "hourly", "start": "2026-01-01"}, rules={"on_conflict": on_conflict})
    platform = Platform(source, tmp_path, con)
    for _ in range(chance.randint(3, 7)):
        hour = chance.choice([10, 11, 12])
        platform.land(f"2026-01-05-{hour}", *random_rows(chance, hour))
        if chance.random() < 0.6:
            platform.build_what_is_due(chance.choice)
    platform.build_what_is_due(chance.choice)
    anew = Platform(source, tmp_path, con, landed=platform.landed)
    incremental = platform.bits()
    for key in sorted(anew.landed):
        anew.build(key)
    assert anew.bits() == incremental
    assert anew.builds == platform.builds
