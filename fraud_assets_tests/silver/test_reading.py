import csv
import gzip
import io
import random
import re
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.silver.reading import BrokenFileError, RawFile, iter_records, open_csv, read_raw
from fraud_assets.silver.source import CsvFormat
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import EXPECTED_COLUMNS, GOOD, HEADER, make_source, write_bytes, write_csv

POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


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
        pytest.param(lines(row("A"), row("B")), [(2, "A"), (3, "B")], [], id="plain"),
        pytest.param(lines(row("A"))[:-1], [(2, "A")], [], id="no line end at the end"),
        pytest.param(lines(row("A"), row("B"), end="\r\n"), [(2, "A"), (3, "B")], [], id="CRLF"),
        pytest.param(lines(row("A"), row("B"), end="\r"), [(2, "A"), (3, "B")], [], id="CR"),
        pytest.param(b"\xef\xbb\xbf" + lines(row("A")), [(2, "A")], [], id="BOM"),
        pytest.param(b"\n\n" + lines(row("A"), "", row("B"), ""), [(4, "A"), (6, "B")], [], id="blank lines"),
        pytest.param(lines(), [], [], id="header only"),
        pytest.param(HEADER.encode(), [], [], id="header without line end"),
        pytest.param(gzip.compress(lines(row("A"))), [(2, "A")], [], id="gzip under another name"),
        pytest.param(lines(row("A", product='"W, X"')), [(2, "A")], [], id="delimiter in quotes"),
        pytest.param(lines(row("A", product='"5"" screen"')), [(2, "A")], [], id="quote in quotes"),
        pytest.param(lines(row("A", product='5" screen'), row("B")), [(2, "A"), (3, "B")], [], id="quote inside"),
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
            lines(row("A"), row("X", product='"W'), row("B"), row("C")),
            [(2, "A"), (4, "B"), (5, "C")],
            [(3, row("X", product='"W'))],
            id="unterminated quote",
        ),
        pytest.param(
            lines(row("X", product='"W'), row("B"), row("Y", product='"W'), row("C", product='"W"')),
            [(3, "B"), (5, "C")],
            [(2, row("X", product='"W')), (4, row("Y", product='"W'))],
            id="two unterminated quotes",
        ),
        pytest.param(
            lines(row("A"), row("X", fraud='0"')),
            [(2, "A"), (3, "X")],
            [],
            id="stray quote at the end of a field is text",
        ),
        pytest.param(lines(row("A"), row("X", fraud='"0')), [(2, "A")], [(3, row("X", fraud='"0'))], id="at the end"),
        pytest.param(
            lines(row("X", product='"W"x'), row("B")),
            [(3, "B")],
            [(2, row("X", product='"W"x'))],
            id="text after a closing quote",
        ),
        pytest.param(lines("too,few", row("B")), [(3, "B")], [(2, "too,few")], id="too few fields"),
        pytest.param(lines(row("X") + ",9", row("B")), [(3, "B")], [(2, row("X") + ",9")], id="too many fields"),
        pytest.param(
            lines(row("A"), "<>", row("B")).replace(b"<>", row("X").encode() + b"\xe9"),
            [(2, "A"), (4, "B")],
            [(3, row("X") + r"\udce9")],
            id="latin-1 byte in UTF-8",
        ),
        pytest.param(
            lines(row("X", card="a\0b"), row("B")), [(3, "B")], [(2, row("X", card="a\0b"))], id="null character"
        ),
        pytest.param(
            lines(row("X", card="c" * 200_000), row("B")),
            [(3, "B")],
            [(2, row("X", card="c" * 200_000))],
            id="endless field",
        ),
        pytest.param(
            lines(row("X", product='"' + "\n" * 150 + '"'), row("B")),
            [(153, "B")],
            [(2, row("X", product='"').split('"')[0] + '"'), (152, '",10.50,0,0')],
            id="quoted field of too many lines",
        ),
    ],
)
def test_every_record_that_the_format_delimits_is_read_and_every_other_is_kept_as_text(
    con: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    content: bytes,
    good: list[tuple[int, str]],
    bad: list[tuple[int, str]],
):
    landed = read_raw(con, make_source(), write_bytes(tmp_path, content), "raw")
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
    landed = read_raw(con, make_source(), write_csv(tmp_path, *rows), "raw")
    assert landed == 25_000
    assert {text.split(",")[0] for _, text in unreadable(con)} == {str(i) for i in opened}
    assert {identifier for _, identifier in ids(con)} == {str(i) for i in range(25_000)} - set(map(str, opened))


def test_columns_are_found_by_name_whatever_their_order_case_or_company(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, "0,x,A,c,9.5,W,t,1", header=" FRAUD ,extra,Id,CARD,amount,product,time,abroad")
    read_raw(con, make_source(), file, "raw")
    assert con.execute("SELECT fraud, id, card, amount, extra FROM raw").fetchall() == [("0", "A", "c", "9.5", "x")]


def test_cells_of_white_space_are_null_and_other_text_stays_as_it_came(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    file = write_csv(tmp_path, "A, ,\t,\u00a0,, b ,!")
    read_raw(con, make_source(), file, "raw")
    assert con.execute("SELECT * EXCLUDE (_line) FROM raw").fetchall() == [("A", None, None, None, None, " b ", "!")]


def test_a_column_without_a_name_gets_one(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    read_raw(con, make_source(), write_csv(tmp_path, "7," + row("A"), header="," + HEADER), "raw")
    assert con.execute("SELECT c1, id FROM raw").fetchall() == [("7", "A")]


def test_the_source_says_delimiter_quote_and_encoding(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    source = make_source(csv={"delimiter": "|", "quote": "'", "encoding": "latin-1"})
    content = "\n".join([HEADER, row("é", product="'W,X'")]).replace(",", "|").encode("latin-1")
    read_raw(con, source, write_bytes(tmp_path, content), "raw")
    assert con.execute("SELECT id, product FROM raw").fetchall() == [("é", "W|X")]


def test_without_a_quote_character_quotes_are_text(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    read_raw(con, make_source(csv={"quote": ""}), write_csv(tmp_path, row('"A'), row("B")), "raw")
    assert ids(con) == [(2, '"A'), (3, "B")]


def test_utf_16_is_read(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    content = lines(row("é")).decode().encode("utf-16")
    read_raw(con, make_source(csv={"encoding": "utf-16"}), write_bytes(tmp_path, content), "raw")
    assert ids(con) == [(2, "é")]


def test_without_a_header_columns_are_numbered(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    columns = {name: f"c{i}" for i, name in enumerate(make_source().columns, start=1)}
    source = make_source(csv={"header": False}, columns=columns, types={})
    landed = read_raw(con, source, write_bytes(tmp_path, b"1,2,3,4,5,6,7\n8,9,0,1,2,3,4\n"), "raw")
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
    landed = read_raw(con, make_source(), RawFile(tmp_path / "a.parquet", "a.parquet"), "raw")
    assert landed == 2
    assert con.execute("FROM raw").fetchall() == [
        (1, "2987000", "2026-01-05 12:00:00+00", "150.0", "W", "10.50", "true", None),
        (2, None, None, "nan", None, None, None, None),
    ]


def test_a_parquet_file_without_rows_is_no_rows(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in HEADER.split(",")}), tmp_path / "a.parquet")
    assert read_raw(con, make_source(), RawFile(tmp_path / "a.parquet", "a.parquet"), "raw") == 0


def parquet_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table([pa.array(["x"] * 1000)] * len(names), names=list(names)), buffer)
    return buffer.getvalue()


WHOLE_PARQUET = parquet_bytes(*HEADER.split(","))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: the file is empty. Expected at least a header line."),
        ("a.csv", b"\n \n", "a.csv: the file is empty. Expected at least a header line."),
        ("a.csv", POINTER, f"is missing; it has version https.*Expected the columns {EXPECTED_COLUMNS}"),
        ("a.csv", lines(row("A")).replace(b",", b";"), r"it has id;time.*seems to use \[csv\] delimiter = ';'"),
        ("a.csv", lines(row("A")).replace(b",", b"\t"), r"seems to use \[csv\] delimiter = '\\t'"),
        ("a.csv", lines(row("A")).replace(b"amount", b"amt"), "column amount is missing; it has id, time, card"),
        ("a.csv", lines(row("A")).replace(b"product", b"ID"), "column names id, ID are not unique"),
        ("a.csv", lines(row("A")).replace(b"product", b"_Line"), "column names _Line are not unique"),
        ("a.csv", b'"id,time\n', "line 1 cannot be read: unexpected end of data"),
        ("a.csv", lines(row("A")).replace(b"card", b"c\xe9rd"), "line 1 cannot be read: .*not text"),
        ("a.csv.gz", gzip.compress(lines(row("A")) * 100)[:-20], "it cannot be read to its end"),
        ("a.csv.gz", gzip.compress(lines(row("A")) * 100)[:15], "it cannot be read to its end"),
        ("a.csv.gz", gzip.compress(lines(row("A")))[:-8] + b"\0" * 8, "it cannot be read to its end"),
        ("a.parquet", b"", "it cannot be read as Parquet.*Expected a whole Parquet file"),
        ("a.parquet", POINTER, "it cannot be read as Parquet"),
        ("a.parquet", WHOLE_PARQUET[:-100], "it cannot be read as Parquet"),
        ("a.parquet", WHOLE_PARQUET[:40] + b"\xff" * 200 + WHOLE_PARQUET[240:], "it cannot be read as Parquet"),
        ("a.parquet", parquet_bytes("id", "time"), "column abroad, amount, card, fraud, product is missing"),
    ],
)
def test_a_broken_file_says_its_name_the_problem_and_what_was_expected(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, content: bytes, message: str
):
    with pytest.raises(BrokenFileError, match=message) as caught:
        read_raw(con, make_source(), write_bytes(tmp_path, content, name), "raw")
    assert str(caught.value).startswith(f"{name}: ")


def test_a_file_that_is_gone_is_broken(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    for name in ("gone.csv", "gone.parquet"):
        with pytest.raises(BrokenFileError, match=f"{name}: it cannot be read"):
            read_raw(con, make_source(), RawFile(tmp_path / name, name), "raw")


def test_text_in_another_encoding_than_the_source_says_breaks_the_file(con: duckdb.DuckDBPyConnection, tmp_path: Path):
    with pytest.raises(BrokenFileError, match="encoding"):
        read_raw(con, make_source(csv={"encoding": "utf-16"}), write_csv(tmp_path, row("A")), "raw")


def test_records_give_back_the_file_byte_for_byte(tmp_path: Path):
    content = (
        lines(row("A"), row("B", product='"two\nlines"'), row("X", product='"W'), "few", end="\r\n")
        + row("C").encode()
        + b"\xff\0"
    )
    file = write_bytes(tmp_path, content)
    with open_csv(file, CsvFormat()) as records:
        texts = [records.header, *(record.text for batch in records.batches() for record in batch)]
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
@settings(max_examples=cases(100, 2_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path: Path, table: list[list[str]], end: str):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["x", "y", "z"], *table])
    file = write_bytes(tmp_path, text.getvalue().encode())
    assert [record.fields for record in iter_records(file, CsvFormat())] == table


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


@pytest.mark.parametrize("seed", range(cases(60, 2_000)))
def test_a_mangled_file_is_broken_or_every_row_is_somewhere(con: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int):
    chance = random.Random(seed)
    quote = '"' if seed % 2 else ""
    content = mangled(lines(*(row(f"T{i}", product=f"{quote}W{quote}") for i in range(30))), chance)
    file = write_bytes(tmp_path, content)
    try:
        landed = read_raw(con, make_source(), file, "raw")
    except BrokenFileError:
        return
    read = {line for line, _ in ids(con)}
    assert landed == len(read) + len(unreadable(con))
    with open_csv(file, CsvFormat()) as records:
        width = len(records.names)
        kept = records.header + "".join(record.text for batch in records.batches() for record in batch)
    text = content.decode("utf-8-sig", "surrogateescape")
    assert "".join(kept.split()) == "".join(text.split()), "not a character is lost"
    if '"' not in text:
        whole = {
            number
            for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1)
            if line.count(",") == width - 1 and not re.search("[\0\ud800-\udfff]", line) and (width > 1 or line)
        }
        assert whole - read <= {1 + text[: len(text) - len(text.lstrip())].count("\n")}, "only the header is no row"
