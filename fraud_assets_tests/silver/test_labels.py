import gzip
import random
from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.labels import LabelsDigest, LateLabels, labels_digest, read_labels, with_late_labels
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import Source
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.cases import LABEL_CASES, LabelCase
from fraud_assets_tests.silver.feed import make_source, write_bytes, write_csv, write_parquet

HEADER = "TransactionID,isFraud"
SILVER = (
    "(SELECT * FROM (VALUES ('A', 0), ('B', NULL), ('C', 1), (' c', NULL), ('7', NULL)) AS s(TransactionID, isFraud))"
)


def write(folder: Path, *rows: str, name: str = "labels.csv", header: str = HEADER) -> RawFile:
    return write_csv(folder, *rows, name=name, header=header)


def read(con: duckdb.DuckDBPyConnection, *files: RawFile, source: Source | None = None) -> LateLabels:
    return read_labels(con, source or make_source(), files, silver=SILVER)


def late(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    return dict(con.execute("SELECT TransactionID, isFraud FROM late_labels").fetchall())


def test_a_late_label_counts_before_the_one_that_came_with_the_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    read(con, write(tmp_path, "A,1", "B,0"))
    rows = con.execute(f"SELECT TransactionID, isFraud FROM {with_late_labels(SILVER)}").fetchall()
    assert dict(rows) == {"A": 1, "B": 0, "C": 1, " c": None, "7": None}
    assert len(rows) == 5


def test_the_last_label_wins_by_the_order_of_files_and_lines(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    first = write(tmp_path, "A,1", "B,1", "B,0", name="z.csv")
    second = write(tmp_path, "A,0", name="a.csv")
    found = read(con, first, second)
    assert late(con) == {"A": 0, "B": 0}
    assert (found.files, found.records, found.labels, found.ignored) == (2, 4, 2, {})
    read(con, second, first)
    assert late(con) == {"A": 1, "B": 0}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.what) for case in LABEL_CASES])
def test_a_file_of_labels_gives_what_is_documented(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, case: LabelCase
) -> None:
    file = RawFile(write_bytes(tmp_path, case.content).path, "labels/a.csv")
    found = read(con, file)
    assert late(con) == case.labels
    assert list(found.broken) == ([file.name] if case.not_read else [])
    assert case.not_read in found.broken.get(file.name, "")
    assert (found.labels, found.ignored, found.unknown) == (len(case.labels), case.ignored, case.unknown)


def test_an_id_that_several_silver_rows_have_is_known_once(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    silver = "(SELECT unnest(['A', 'A', 'B', 'B', 'B', NULL]) AS TransactionID)"
    found = read_labels(con, make_source(), [write(tmp_path, "A,1", "X,0", "Y,0")], silver=silver)
    assert (found.labels, found.unknown) == (3, 2)


def test_what_label_files_hold_is_said_in_one_line(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = read(con, write(tmp_path, "a,1", "A,1", "B,2", ",1", "later,0"))
    assert found.summary() == (
        "1 file of late labels: 5 records, 3 transactions labelled; "
        "1 missing_transaction_id; 1 label_not_0_or_1; 2 of no Silver row"
    )


def test_a_file_that_cannot_be_read_costs_its_own_labels_and_is_named(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = write(tmp_path, "A,1", "B,1", name="a.csv")
    cut = write_bytes(tmp_path, gzip.compress(f"{HEADER}\nA,0\nB,0,0\n".encode())[:-9], "b.csv.gz")
    wrong = write(tmp_path, "C,0", name="c.csv", header="TransactionID,label")
    last = write(tmp_path, "B,0", name="d.csv")
    found = read(con, first, cut, wrong, last)
    assert late(con) == {"A": 1, "B": 0}
    assert (found.files, found.records, found.ignored) == (4, 3, {})
    assert found.broken[cut.name].startswith(f"{cut.name}: it cannot be read to its end")
    assert found.broken[wrong.name] == (
        "c.csv: column isFraud is missing; it has TransactionID, label. Expected the columns TransactionID, isFraud."
    )
    assert found.summary() == ("4 files of late labels: 3 records, 2 transactions labelled; not read: b.csv.gz, c.csv")


def test_csv_gzip_and_parquet_may_be_mixed_and_other_columns_do_not_matter(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    files = [
        write_parquet(tmp_path, [{"isFraud": 1, "TransactionID": 8}]),
        write_bytes(tmp_path, gzip.compress(f"{HEADER}\nA,1\n".encode()), "b.csv.gz"),
        write(tmp_path, "x,1,B", name="c.csv", header="note,ISFRAUD,transactionid"),
    ]
    assert read(con, *files).records == 3
    assert late(con) == {"8": 1, "A": 1, "B": 1}


def test_the_feeds_own_format_is_the_format_of_labels_but_they_have_a_header(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    columns = {name: f"c{i}" for i, name in enumerate(make_source().columns, start=1)}
    source = make_source(csv={"delimiter": "|", "header": False}, columns=columns, types={})
    read(con, write(tmp_path, "A|1", header="TransactionID|isFraud"), source=source)
    assert late(con) == {"A": 1}


def test_no_files_and_header_only_are_no_labels(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    nothing = LateLabels(files=0, records=0, labels=0, unknown=0, ignored={}, broken={})
    assert read(con) == nothing
    assert read(con, write(tmp_path)).records == 0
    assert late(con) == {}
    assert con.execute(f"SELECT isFraud FROM {with_late_labels(SILVER)} ORDER BY ALL").fetchall() == [
        (0,),
        (1,),
        (None,),
        (None,),
        (None,),
    ]


def test_the_labels_digest_says_which_part_changed_and_fits_the_logs_statistics() -> None:
    before = labels_digest(["a", "b"], ["p"])
    reordered = labels_digest(["b", "a"], ["p"])
    assert reordered.files != before.files, "the last label wins, so order counts"
    assert reordered.partitions == before.partitions
    grown = labels_digest(["a", "b"], ["p", "q"])
    assert (grown.files == before.files, grown.partitions == before.partitions) == (True, False)
    assert str(before) == f"{before.files}-{before.partitions}"
    assert LabelsDigest.parse(str(before)) == before
    assert len(str(before)) == 33


@pytest.mark.parametrize("seed", range(cases(20, 80)))
def test_whatever_lands_the_last_good_label_of_each_id_counts(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    expected: dict[str, int] = {}
    files, records = [], 0
    for number in range(chance.randrange(4)):
        rows = []
        for _ in range(chance.randrange(8)):
            identifier, label = chance.choice(["A", "B", "C", "X", "Y", ""]), chance.choice(["0", "1", "1", "", "x"])
            rows.append(f"{identifier},{label}")
            records += 1
            if identifier and label in ("0", "1"):
                expected[identifier] = int(label)
        files.append(write(tmp_path, *rows, name=f"{chance.randrange(100)}-{number}.csv"))
    found = read(con, *files)
    assert late(con) == expected
    unknown = len(expected.keys() - {"A", "B", "C"})
    assert (found.records, found.labels, found.unknown) == (records, len(expected), unknown)
