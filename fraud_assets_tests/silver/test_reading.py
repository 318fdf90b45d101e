import csv
import io
import random
import re
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.silver import csv_records
from fraud_assets.silver.csv_records import open_csv
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.reading import count_records
from fraud_assets.silver.source import CsvFormat
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.cases import parquet
from fraud_assets_tests.silver.feed import GOOD, HEADER, iter_records, make_source, read, write_bytes, write_csv


def row(identifier: str, **changes: str) -> str:
    cells = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {"id": identifier} | changes
    return ",".join(cells.values())


def ids(con: duckdb.DuckDBPyConnection) -> list[tuple[int, str | None]]:
    return con.execute("SELECT _line, id FROM raw ORDER BY _line").fetchall()


def unreadable(con: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    return con.execute("SELECT line, text FROM raw_unreadable ORDER BY line").fetchall()


def lines(*texts: str, end: str = "\n") -> bytes:
    return "".join(text + end for text in (HEADER, *texts)).encode()


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        pytest.param(lines(row("A"))[:-1], [(2, "A")], [], id="no line end at the end"),
        pytest.param(lines(row("A"), row("B"), end="\r"), [(2, "A"), (3, "B")], [], id="CR"),
        pytest.param(b"\n\n" + lines(row("A"), "", row("B"), ""), [(4, "A"), (6, "B")], [], id="blank lines"),
        pytest.param(HEADER.encode(), [], [], id="header without line end"),
        pytest.param(
            lines(row("A", product='"two\nlines"'), row("B")), [(2, "A"), (4, "B")], [], id="embedded newline"
        ),
        pytest.param(
            lines(row("A", product='"two\r\n\r\nlines"'), row("B"), end="\r\n"),
            [(2, "A"), (5, "B")],
            [],
            id="embedded CRLF and a blank line",
        ),
        pytest.param(
            lines(row("A"), row("X", fraud='0"')),
            [(2, "A"), (3, "X")],
            [],
            id="stray quote at the end of a field is text",
        ),
        pytest.param(
            lines(row("X", product='"' + "\n" * 150 + '"'), row("B")),
            [(153, "B")],
            [(2, row("X", product='"').split('"')[0] + '"'), (152, '",10.50,0,0')],
            id="quoted field of too many lines",
        ),
    ],
)
def test_a_record_is_known_by_the_line_that_it_begins_on(
    con: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    content: bytes,
    good: list[tuple[int, str]],
    bad: list[tuple[int, str]],
):
    landed = read(con, make_source(), write_bytes(tmp_path, content))
    assert ids(con) == good
    assert unreadable(con) == bad
    assert landed == len(good) + len(bad)


def test_records_of_several_lines_and_open_quotes_cost_nothing_where_the_reading_pauses(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
):
    # Several times as many lines as are read at once. Of two lines each after a first one of one line, the records
    # stand across the places where an even number of lines ends.
    rows = [row("0"), *(row(str(i), product='"two\nlines"') for i in range(1, 25_000))]
    opened = range(100, 25_000, 100)
    for i in opened:
        rows[i] = row(str(i), product='"open') + "\n"
    landed = read(con, make_source(), write_csv(tmp_path, *rows))
    assert landed == 25_000
    assert {text.split(",")[0] for _, text in unreadable(con)} == {str(i) for i in opened}
    assert {identifier for _, identifier in ids(con)} == {str(i) for i in range(25_000)} - set(map(str, opened))


def test_columns_are_found_by_name_whatever_their_order_case_or_company(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, "0,x,A,c,9.5,W,t,1", header=" FRAUD ,extra,Id,CARD,amount,product,time,abroad")
    read(con, make_source(), file)
    assert con.execute("SELECT fraud, id, card, amount, extra FROM raw").fetchall() == [("0", "A", "c", "9.5", "x")]


def test_cells_of_white_space_are_null_and_other_text_stays_as_it_came(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, "A, ,\t,\u00a0,, b ,!")
    read(con, make_source(), file)
    assert con.execute("SELECT * EXCLUDE (_line) FROM raw").fetchall() == [("A", None, None, None, None, " b ", "!")]


def test_a_column_without_a_name_gets_one(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    read(con, make_source(), write_csv(tmp_path, "7," + row("A"), header="," + HEADER))
    assert con.execute("SELECT c1, id FROM raw").fetchall() == [("7", "A")]


def test_the_source_says_delimiter_quote_and_encoding(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    source = make_source(csv={"delimiter": "|", "quote": "'", "encoding": "latin-1"})
    content = "\n".join([HEADER, row("é", product="'W,X'")]).replace(",", "|").encode("latin-1")
    read(con, source, write_bytes(tmp_path, content))
    assert con.execute("SELECT id, product FROM raw").fetchall() == [("é", "W|X")]


def test_without_a_quote_character_quotes_are_text(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    read(con, make_source(csv={"quote": ""}), write_csv(tmp_path, row('"A'), row("B")))
    assert ids(con) == [(2, '"A'), (3, "B")]


def test_utf_16_is_read(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    content = lines(row("é")).decode().encode("utf-16")
    read(con, make_source(csv={"encoding": "utf-16"}), write_bytes(tmp_path, content))
    assert ids(con) == [(2, "é")]


def test_without_a_header_columns_are_numbered(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = {name: f"c{i}" for i, name in enumerate(make_source().columns, start=1)}
    source = make_source(csv={"header": False}, columns=columns, types={})
    landed = read(con, source, write_bytes(tmp_path, b"1,2,3,4,5,6,7\n8,9,0,1,2,3,4\n"))
    assert landed == 2
    assert con.execute("SELECT _line, c1, c7 FROM raw").fetchall() == [(1, "1", "7"), (2, "8", "4")]


def test_parquet_values_become_the_text_that_casts_back(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    table = pa.table(
        {
            "id": pa.array([2987000, None], pa.int64()),
            "time": pa.array([1767614400000000, None], pa.timestamp("us", tz="America/New_York")),
            "card": pa.array([150.0, float("nan")], pa.float64()),
            "product": pa.array(["W", " "]).dictionary_encode(),
            "amount": pa.array([Decimal("10.50"), None]),
            "abroad": pa.array([True, None]),
            "fraud": pa.array([None, None], pa.null()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    landed = read(con, make_source(), RawFile(tmp_path / "a.parquet", "a.parquet"))
    assert landed == 2
    assert con.execute("FROM raw").fetchall() == [
        (1, "2987000", "2026-01-05 12:00:00+00", "150.0", "W", "10.50", "true", None),
        (2, None, None, "nan", None, None, None, None),
    ]


def test_a_parquet_file_without_rows_is_no_rows(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in HEADER.split(",")}), tmp_path / "a.parquet")
    assert read(con, make_source(), RawFile(tmp_path / "a.parquet", "a.parquet")) == 0


def test_a_file_that_is_gone_is_broken(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    for name in ("gone.csv", "gone.parquet"):
        with pytest.raises(BrokenFileError, match=f"{name}: it cannot be read"):
            read(con, make_source(), RawFile(tmp_path / name, name))


def test_text_in_another_encoding_than_the_source_says_breaks_the_file(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    with pytest.raises(BrokenFileError, match="encoding"):
        read(con, make_source(csv={"encoding": "utf-16"}), write_csv(tmp_path, row("A")))


def test_records_give_back_the_file_byte_for_byte(tmp_path: Path):
    content = (
        lines(row("A"), row("B", product='"two\nlines"'), row("X", product='"W'), "few", end="\r\n")
        + row("C").encode()
        + b"\xff\0"
    )
    file = write_bytes(tmp_path, content)
    with open_csv(file, CsvFormat()) as records:
        texts = [records.header, *(text for chunk in records.chunks() for _, text, _ in chunk.texts())]
    assert "".join(texts).encode("utf-8", "surrogateescape") == content
    assert [(r.line, r.fields is not None) for r in iter_records(file, CsvFormat())] == [
        (2, True),
        (3, True),
        (5, False),
        (6, False),
        (7, False),
    ]


CELL = st.text(st.sampled_from('ab ,"\n\r|é'), max_size=5)


@given(table=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=6), end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=cases(100, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path: Path, table: list[list[str]], end: str):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["x", "y", "z"], *table])
    file = write_bytes(tmp_path, text.getvalue().encode())
    assert [record.fields for record in iter_records(file, CsvFormat())] == table


PLAIN = st.sampled_from(["", " ", "a", "b c", "é"])
ODD = st.text(st.sampled_from('ab \t,"\r\0é\ufeff\x0b\x85\u2028\udcff'), max_size=4)
QUOTED = st.sampled_from(['"a"', '"a,b"', '"', 'a"', "b"])
CELLS = st.one_of(
    *(st.lists(cell, min_size=3, max_size=3) for cell in (PLAIN, ODD, QUOTED)), st.lists(PLAIN, max_size=4)
)


@given(
    rows=st.lists(CELLS, max_size=12),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", "\t", "é"]),
    quote=st.sampled_from(['"', ""]),
    at_once=st.integers(1, 5),
)
@settings(max_examples=cases(300, 1_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_taken_together_are_the_records_that_the_csv_module_finds_one_by_one(
    tmp_path: Path, rows: list[list[str]], end: str, delimiter: str, quote: str, at_once: int
):
    text = end.join(map(delimiter.join, ["xyz", *rows]))
    file = write_bytes(tmp_path, text.encode("utf-8", "surrogateescape"))
    csv_format = CsvFormat(delimiter=delimiter, quote=quote)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "MAX_JOINED_LINES", 2)
        found = list(iter_records(file, csv_format))
        patch.setattr(csv_records, "LINES_AT_ONCE", at_once)
        assert list(iter_records(file, csv_format)) == found
        assert count_records(file, csv_format) == len(found)
        patch.setattr(csv_records, "_single_lines", lambda lines, _: (np.zeros(len(lines), bool), b""))
        assert list(iter_records(file, csv_format)) == found


def test_a_field_longer_than_the_csv_module_takes_costs_its_record(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, row("A"), row("B", product="W" * 131_073), row("C"))
    assert read(con, make_source(), file) == 3
    assert [identifier for _, identifier in ids(con)] == ["A", "C"]
    assert [line for line, _ in unreadable(con)] == [3]


def mangled(content: bytes, chance: random.Random) -> bytes:
    """Flip, cut and repeat bytes at a few places."""
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(content))
        length = chance.choice([1, 1, 5, 60])
        piece = content[at : at + length]
        match chance.choice(["flip", "cut", "repeat", "quote", "join"]):
            case "flip":
                piece = bytes(byte ^ chance.randrange(1, 256) for byte in piece)
            case "cut":
                piece = b""
            case "repeat":
                piece = piece * 2
            case "quote":
                piece = b'"' + piece
            case "join":
                piece = piece.replace(b"\n", b"")
        content = content[:at] + piece + content[at + length :]
    return content


@pytest.mark.parametrize("seed", range(cases(60, 400)))
def test_a_mangled_file_is_broken_or_every_row_is_somewhere(con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int):
    chance = random.Random(seed)
    quote = '"' if seed % 2 else ""
    content = mangled(lines(*(row(f"T{i}", product=f"{quote}W{quote}") for i in range(30))), chance)
    file = write_bytes(tmp_path, content)
    try:
        landed = read(con, make_source(), file)
    except BrokenFileError:
        return
    found = {line for line, _ in ids(con)}
    assert landed == len(found) + len(unreadable(con))
    with open_csv(file, CsvFormat()) as records:
        width = len(records.names)
        kept = records.header + "".join(text for chunk in records.chunks() for _, text, _ in chunk.texts())
    text = content.decode("utf-8-sig", "surrogateescape")
    assert "".join(kept.split()) == "".join(text.split()), "not a character is lost"
    if '"' not in text:
        whole = {
            number
            for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1)
            if line.count(",") == width - 1 and not re.search("[\0\ud800-\udfff]", line) and (width > 1 or line)
        }
        assert whole - found <= {1 + text[: len(text) - len(text.lstrip())].count("\n")}, "only the header is no row"


@pytest.mark.parametrize("seed", range(cases(20, 100)))
def test_a_mangled_parquet_file_is_broken_or_every_row_is_somewhere(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int
):
    chance = random.Random(seed)
    content = bytearray(parquet(*({"id": f"T{i}", "card": f"card-{i % 7}"} for i in range(200))))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(content))
        for i in range(at, min(len(content), at + chance.choice([1, 1, 5, 60]))):
            content[i] ^= chance.randrange(1, 256)
    try:
        landed = read(con, make_source(), write_bytes(tmp_path, bytes(content), "a.parquet"))
    except BrokenFileError:
        assert con.execute("SELECT 1").fetchall() == [(1,)], "the next partition can be built"
    else:
        assert landed == len(ids(con)) + len(unreadable(con))
