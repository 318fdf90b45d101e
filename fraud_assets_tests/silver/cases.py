"""What can land, and what becomes of it: the cases that `test_cases` proves and docs/bad_data.md shows.

Each is files of the feed in `feed`, landed for 2026-01-05. A case that is found later is added here.
"""

import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets_tests.silver.feed import EXPECTED_COLUMNS, GOOD, HEADER, make_source, row

CELLS, LINES, COPIES, FILES, TIMES, HABITS, PARQUET, JSON = (
    "One cell",
    "One line of a CSV file",
    "Rows with the same id",
    "A whole file",
    "Times",
    "Exports of other habits",
    "Parquet",
    "JSON Lines",
)

Refused = tuple[str, int, tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """Files that land together, and what they become: good rows and refused ones, or a message that stops all.

    Attributes:
        what: what landed, in words.
        topic: under which heading it is shown.
        files: name and content.
        good: values of `columns` of the good rows, sorted.
        refused: file, line and reasons of the refused rows, sorted.
        stopped: the message's own words, where nothing can be built.
        note: what else a feed's owner wants to know.
        source: sections of the source file that differ from the feed's.
    """

    topic: str
    what: str
    files: tuple[tuple[str, bytes], ...]
    good: tuple[tuple[Any, ...], ...] = ()
    columns: str = "TransactionID"
    refused: tuple[Refused, ...] = ()
    stopped: str = ""
    note: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What becomes of it, in words."""
        if self.stopped:
            said = f"the partition stops: “{self.stopped}”"
        elif self.refused:
            reasons = dict.fromkeys(reason for _, _, given in self.refused for reason in given)
            said = f"quarantined: {', '.join(f'`{reason}`' for reason in reasons)}"
        else:
            said = "accepted"
        return f"{said}; {self.note}" if self.note else said


def lines(*texts: str, end: str = "\n", header: str = HEADER) -> bytes:
    """Return a CSV file."""
    return "".join(text + end for text in (header, *texts)).encode()


def parquet(*rows: Mapping[str, Any], **columns: pa.Array) -> bytes:
    """Return a Parquet file of good rows with some cells or whole columns changed."""
    good = {
        "id": "T1",
        "time": datetime(2026, 1, 5, 12, tzinfo=UTC),
        "card": "card-1",
        "product": "W",
        "amount": 10.5,
        "abroad": False,
        "fraud": 0,
    }
    table = pa.Table.from_pylist([good | dict(changes) for changes in rows or [{}]]).slice(0, len(rows))
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none")
    return buffer.getvalue()


def bad_cell(what: str, *reasons: str, topic: str = CELLS, note: str = "", **changes: str) -> Case:
    """Return the case of a faulty row between two good ones."""
    content = lines(row(id="before"), row(**{"id": "X"} | changes), row(id="next"))
    good = (("before",), ("next",))
    return Case(topic, what, (("feed.csv", content),), good, refused=(("feed.csv", 3, reasons),), note=note)


def good_cell(what: str, column: str, value: object, note: str, *, topic: str = CELLS, **changes: str) -> Case:
    """Return the case of a row that is unusual and good."""
    return Case(topic, what, (("feed.csv", lines(row(**changes))),), ((value,),), columns=column, note=note)


def csv_lines(what: str, content: bytes, good: str = "", bad: tuple[int, ...] = (), *, note: str = "") -> Case:
    """Return the case of a file of which these ids are good and the records on these lines cannot be read."""
    return Case(
        LINES,
        what,
        (("feed.csv", content),),
        tuple((identifier,) for identifier in good),
        refused=tuple(("feed.csv", line, ("unreadable_line",)) for line in bad),
        note=note,
    )


def amounts(what: str, cells: Mapping[str, int | None], note: str, **csv: Any) -> Case:
    """Return the case of amounts written in another way: what each is in thousandths, None where it is refused."""
    rows = (row(id=f"T{at}", amount=cell) for at, cell in enumerate(cells))
    content = lines(*(text.replace(",", ";") if ";" in csv.values() else text for text in rows))
    if csv.get("delimiter") == ";":
        content = "\n".join(
            ";".join(
                (dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {"id": f"T{at}", "amount": cell}).values()
            )
            for at, cell in enumerate(cells)
        ).encode()
        content = HEADER.replace(",", ";").encode() + b"\n" + content
    refused = [at for at, value in enumerate(cells.values()) if value is None]
    return Case(
        HABITS,
        what,
        (("feed.csv", content),),
        tuple((f"T{at}", value) for at, value in enumerate(cells.values()) if value is not None),
        columns="TransactionID, amount_thousandths",
        refused=tuple(("feed.csv", at + 2, ("unreadable_amount",)) for at in refused),
        note=note,
        source={"csv": csv},
    )


def named(what: str, column: str, value: str, note: str, **source: Any) -> Case:
    """Return the case of a raw column of an awkward name, whose values are the cards."""
    content = lines(GOOD.replace("card-1", value), header=HEADER.replace("card", column))
    columns = make_source().columns | {"card_id": column}
    return Case(
        HABITS, what, (("feed.csv", content),), ((value,),), "card_id", note=note, source={"columns": columns} | source
    )


def json_lines(*rows: Mapping[str, Any] | str) -> bytes:
    """Return a JSON Lines file of good rows with some values changed, or of texts as they are."""
    good = {
        "id": "T1", "time": "2026-01-05 12:00:00", "card": "card-1", "product": "W",
        "amount": 10.5, "abroad": False, "fraud": 0,
    }  # fmt: skip
    texts = (one if isinstance(one, str) else json.dumps(good | dict(one)) for one in rows)
    return "".join(f"{text}\n" for text in texts).encode()


def bad_json(what: str, bad: Mapping[str, Any] | str, *reasons: str, note: str = "") -> Case:
    """Return the case of a faulty line between two good ones."""
    content = json_lines({"id": "before"}, bad, {"id": "next"})
    refused = (("feed.jsonl", 2, reasons or ("unreadable_line",)),)
    return Case(JSON, what, (("feed.jsonl", content),), (("before",), ("next",)), refused=refused, note=note)


def broken(what: str, name: str, content: bytes, stopped: str) -> Case:
    """Return the case of a file that stops its partition."""
    return Case(PARQUET if name.endswith("parquet") else FILES, what, ((name, content),), stopped=stopped)


def copies(what: str, *reasons: str, label: int | None = 0, note: str = "", **second: str) -> list[Case]:
    """Return two cases, shown as one: the good row and another with its id, in one file and in two."""
    conflict = "conflicting_id" in reasons
    good = () if conflict else (("T1", label),)
    one = [("feed.csv", 2, reasons)] if conflict else []
    return [
        Case(
            COPIES,
            what,
            (("feed.csv", lines(GOOD, row(**second))),),
            good,
            columns="TransactionID, isFraud",
            refused=(*one, ("feed.csv", 3, reasons)),
            note=note,
        ),
        Case(
            COPIES,
            what,
            (("a.csv", lines(GOOD)), ("b.csv", lines(row(**second)))),
            good,
            columns="TransactionID, isFraud",
            refused=tuple((name, 2, reasons) for name in (("a.csv", "b.csv") if conflict else ("b.csv",))),
            note=note,
        ),
    ]


@dataclass(frozen=True)
class LabelCase:
    """A file of late labels: the label of each transaction, what gives none and why, or why the file is left out.

    Silver has the ids A, B and 7.
    """

    what: str
    content: bytes
    labels: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    not_read: str = ""
    note: str = ""

    @property
    def outcome(self) -> str:
        """What becomes of it, in words."""
        if self.not_read:
            said = f"the file is not read, the others are: “{self.not_read}”"
        elif self.ignored:
            said = f"the record gives no label, counted as {', '.join(f'`{why}`' for why in self.ignored)}"
        else:
            said = "counted as of no Silver row" if self.unknown else "accepted"
        return f"{said}; {self.note}" if self.note else said


def bad_label(what: str, record: str, why: str, *, note: str = "") -> LabelCase:
    """Return the case of a record without a label between two good ones."""
    return LabelCase(what, late("A,1", record, "B,0"), {"A": 1, "B": 0}, {why: 1}, note=note)


def late(*records: str, header: str = "TransactionID,isFraud") -> bytes:
    """Return a file of late labels."""
    return lines(*records, header=header)


POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""

_LATIN_1 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"W\xe9")]
)
_WHOLE = parquet(*[{"id": f"T{i}"} for i in range(1000)])
NO_ROWS = parquet(**{name: pa.array([], pa.string()) for name in HEADER.split(",")})
_NUMBERS = {"types": {"time": "BIGINT", "amount": "DOUBLE", "abroad": "BOOLEAN"}}

_REST = {"time": "2026-01-05 12:00", "card": "1", "product": "W", "amount": 1, "abroad": 0, "fraud": 0}
"""What makes a row of an id."""

CASES = (
    # One cell
    bad_cell("no id", "missing_transaction_id", id=""),
    bad_cell("an id of blanks", "missing_transaction_id", id="  "),
    bad_cell("no card", "missing_card", card=""),
    bad_cell("no product", "missing_product", product=""),
    bad_cell("a cell of white space", "missing_product", product="\t\u00a0"),
    bad_cell("no amount", "missing_amount", amount=""),
    bad_cell("an amount that is no number", "unreadable_amount", amount="n/a"),
    bad_cell("an amount of 1,234.50 in quotes", "unreadable_amount", amount='"1,234.50"'),
    bad_cell("a decimal comma without quotes", "unreadable_line", amount="10,50"),
    bad_cell("an amount of NaN", "amount_not_finite", amount="nan"),
    bad_cell("an infinite amount", "amount_not_finite", amount="inf"),
    bad_cell("a minus infinite amount", "amount_not_finite", amount="-inf"),
    bad_cell("an amount beyond doubles (1e999)", "amount_not_finite", amount="1e999"),
    bad_cell("an amount of 1e308", "amount_too_large", amount="1e308"),
    bad_cell("an amount of 100,000,000,000", "amount_too_large", amount="1e11"),
    bad_cell("a negative amount", "amount_negative", note='accepted with `refunds = "absolute"`', amount="-0.001"),
    bad_cell("no word on whether it is international", "missing_international", abroad=""),
    bad_cell("a boolean that is none", "unreadable_abroad", abroad="maybe"),
    bad_cell("a label of 2", "label_not_0_or_1", fraud="2"),
    bad_cell("a label of one half", "label_not_0_or_1", fraud="0.5"),
    bad_cell("a label in words", "label_not_0_or_1", fraud="yes"),
    bad_cell("a label of nan", "label_not_0_or_1", fraud="nan"),
    bad_cell(
        "everything wrong at once",
        "unreadable_time",
        "missing_transaction_id",
        "missing_card",
        "missing_product",
        "missing_international",
        "amount_not_finite",
        "label_not_0_or_1",
        id="",
        time="x",
        card="",
        product="",
        amount="-inf",
        abroad="",
        fraud="x",
    ),
    good_cell("an amount of zero", "amount_thousandths", 0, "zero", amount="0"),
    good_cell("an amount of minus zero", "amount_thousandths", 0, "zero", amount="-0.0"),
    good_cell("an exponent, and blanks around", "amount_thousandths", 1_000_000, "1,000", amount=" 1e3 "),
    good_cell("an amount of 0.0005", "amount_thousandths", 0, "0.000, half to even", amount="0.0005"),
    good_cell("an amount of 0.0015", "amount_thousandths", 2, "0.002, half to even", amount="0.0015"),
    good_cell("an amount of 0.1", "amount_thousandths", 100, "exactly 100 thousandths", amount="0.1"),
    good_cell(
        "an amount of 99,999,999,999.999",
        "amount_thousandths",
        99_999_999_999_999,
        "the greatest amount",
        amount="99999999999.999",
    ),
    good_cell("a label of 1.0", "isFraud", 1, "fraud", fraud="1.0"),
    good_cell("no label", "isFraud", None, "not known yet", fraud=""),
    good_cell("an id in lower case", "TransactionID", "t1", "another id than T1", id="t1"),
    good_cell("an id with blanks around", "TransactionID", " T1 ", "another id than T1", id=" T1 "),
    good_cell("a code as a float", "card_id", "150.0", "another card than 150", card="150.0"),
    good_cell("the text nan", "card_id", "nan", "text like any other: say `nullif(card, 'nan')`", card="nan"),
    good_cell("a boolean as a number", "is_international_txn", 1, "true", abroad="1"),
    # Times
    bad_cell("no time", "missing_event_time", topic=TIMES, time=""),
    bad_cell("a time that is none", "unreadable_time", topic=TIMES, time="yesterday"),
    bad_cell("seconds where a timestamp was declared", "unreadable_time", topic=TIMES, time="1767614400"),
    bad_cell("infinity", "event_time_not_understood", topic=TIMES, time="infinity"),
    bad_cell("the year 12026", "event_time_not_understood", topic=TIMES, time="12026-01-05 12:00:00"),
    bad_cell(
        "a microsecond before the partition", "time_outside_partition", topic=TIMES, time="2026-01-04 23:59:59.999999"
    ),
    bad_cell("the first instant after it", "time_outside_partition", topic=TIMES, time="2026-01-06 00:00:00"),
    bad_cell(
        "an offset that makes it the day before", "time_outside_partition", topic=TIMES, time="2026-01-05 00:30:00+01"
    ),
    bad_cell("a time in the future", "time_outside_partition", topic=TIMES, time="2126-01-05 12:00:00"),
    Case(
        TIMES,
        "milliseconds where seconds were declared",
        (("feed.csv", lines(row(time="1767614400"), row(id="X", time="1767614400000"))),),
        (("T1",),),
        refused=(("feed.csv", 3, ("event_time_not_understood",)),),
        source={**_NUMBERS, "columns": make_source().columns | {"event_timestamp": "to_timestamp(time)"}},
    ),
    Case(
        TIMES,
        "seconds where milliseconds were declared",
        (("feed.csv", lines(row(time="1767614400000"), row(id="X", time="1767614400"))),),
        (("T1",),),
        refused=(("feed.csv", 3, ("time_outside_partition",)),),
        note="it is of January 1970",
        source={**_NUMBERS, "columns": make_source().columns | {"event_timestamp": "to_timestamp(time / 1000)"}},
    ),
    good_cell(
        "a time in UTC that says so (Z)",
        "event_timestamp",
        datetime(2026, 1, 5, tzinfo=UTC),
        "as it says",
        topic=TIMES,
        time="2026-01-05T00:00:00Z",
    ),
    good_cell(
        "a time with an offset",
        "event_timestamp",
        datetime(2026, 1, 5, 23, tzinfo=UTC),
        "in UTC",
        topic=TIMES,
        time="2026-01-06 01:00:00+02:00",
    ),
    good_cell(
        "the last microsecond of the partition",
        "event_timestamp",
        datetime(2026, 1, 5, 23, 59, 59, 999999, tzinfo=UTC),
        "to the microsecond",
        topic=TIMES,
        time="2026-01-05 23:59:59.999999",
    ),
    # One line of a CSV file
    csv_lines("an unterminated quote", lines(row(id="A"), row(id="X", product='"W'), row(id="B")), "AB", (3,)),
    csv_lines(
        "two unterminated quotes",
        lines(row(id="X", product='"W'), row(id="B"), row(id="Y", product='"W'), row(id="C", product='"W"')),
        "BC",
        (2, 4),
        note="what stands between them is read",
    ),
    csv_lines("an unterminated quote in the last field", lines(row(id="A"), row(id="X", fraud='"0')), "A", (3,)),
    csv_lines("text after a closing quote", lines(row(id="X", product='"W"x'), row(id="B")), "B", (2,)),
    csv_lines("too few fields", lines("too,few", row(id="B")), "B", (2,)),
    csv_lines("too many fields", lines(row(id="X") + ",9", row(id="B")), "B", (2,)),
    csv_lines(
        "a latin-1 byte in a file of UTF-8",
        lines(row(id="A"), row(id="X", card="<>"), row(id="B")).replace(b"<>", b"\xe9"),
        "AB",
        (3,),
        note='accepted with `encoding = "latin-1"`',
    ),
    csv_lines("a null character", lines(row(id="X", card="a\0b"), row(id="B")), "B", (2,)),
    csv_lines("a field of 200,000 characters", lines(row(id="X", card="c" * 200_000), row(id="B")), "B", (2,)),
    csv_lines("a delimiter in quotes", lines(row(id="A", product='"W, X"')), "A"),
    csv_lines("a quote in quotes", lines(row(id="A", product='"5"" screen"')), "A"),
    csv_lines("a quote within a field", lines(row(id="A", product='5" screen'), row(id="B")), "AB", note="text"),
    csv_lines("a newline in quotes", lines(row(id="A", product='"two\nlines"'), row(id="B")), "AB"),
    csv_lines(
        "CRLF and a blank line in quotes",
        lines(row(id="A", product='"two\r\n\r\nlines"'), row(id="B"), end="\r\n"),
        "AB",
    ),
    # Rows with the same id
    *copies("an equal row", "duplicate"),
    *copies("a row that is equal once read (10.50 and 10.5004)", "duplicate", amount="10.5004"),
    *copies("the same instant with another offset", "duplicate", time="2026-01-05 13:00:00+01"),
    *copies("an equal row with another label", "duplicate", label=1, note="the later label counts", fraud="1"),
    *copies("an equal row without a label", "duplicate", note="the label that is known stays", fraud=""),
    *copies("another time", "conflicting_id", time="2026-01-05 12:00:01"),
    *copies("another card", "conflicting_id", card="card-2"),
    *copies("another product", "conflicting_id", product="C"),
    *copies("another amount", "conflicting_id", note="all rows of the id", amount="10.501"),
    *copies("another place", "conflicting_id", abroad="1"),
    *copies("a faulty row", "unreadable_amount", note="the good row stays", amount="n/a"),
    Case(
        COPIES,
        "ids that differ in case or blanks",
        (("feed.csv", lines(GOOD, row(id="t1"), row(id="T1 "))),),
        (("T1",), ("T1 ",), ("t1",)),
        note="three transactions",
    ),
    Case(
        COPIES,
        'another row in a later file, with `on_conflict = "last_file"`',
        (("a.csv", lines(GOOD)), ("b.csv", lines(row(amount="11")))),
        ((11_000,),),
        columns="amount_thousandths",
        refused=(("a.csv", 2, ("superseded",)),),
        note="the later row counts",
        source={"rules": {"on_conflict": "last_file"}},
    ),
    # A whole file
    broken("nothing at all", "a.csv", b"", "a.csv: the file is empty. Expected at least a header line."),
    broken("blank lines only", "a.csv", b"\n \n", "a.csv: the file is empty. Expected at least a header line."),
    Case(FILES, "a header only", (("feed.csv", lines()),), note="built once, without rows"),
    Case(
        FILES,
        "bad rows only",
        (("feed.csv", lines("few", row(amount="x"))),),
        refused=(("feed.csv", 2, ("unreadable_line",)), ("feed.csv", 3, ("unreadable_amount",))),
        note="built once, without rows",
    ),
    broken(
        "a column is missing or renamed",
        "a.csv",
        lines(GOOD, header=HEADER.replace("amount", "amt")),
        "column amount is missing; it has id, time, card, product, amt, abroad, fraud. Did you mean amt? "
        f"Expected the columns {EXPECTED_COLUMNS}",
    ),
    broken(
        "another delimiter",
        "a.csv",
        lines(GOOD).replace(b",", b";"),
        "The file seems to use [csv] delimiter = ';'.",
    ),
    broken("tabs for a delimiter", "a.csv", lines(GOOD).replace(b",", b"\t"), "seems to use [csv] delimiter = '\\t'."),
    broken(
        "a column is there twice",
        "a.csv",
        lines(header=HEADER.replace("product", "ID")),
        "names id, ID are not unique.",
    ),
    broken("a column is called _line", "a.csv", lines(header=f"{HEADER},_Line"), "column names _Line are not unique."),
    broken(
        "an unterminated quote in the header", "a.csv", b'"id,time\n', "line 1 cannot be read: unexpected end of data."
    ),
    broken(
        "a byte in the header that is no text",
        "a.csv",
        lines(GOOD).replace(b"card,", b"c\xe9rd,"),
        "line 1 cannot be read: characters that are not text in this encoding.",
    ),
    broken("a pointer of Git LFS named .csv", "a.csv", POINTER, "is missing; it has version https://git-lfs"),
    broken("gzip without its end", "a.csv.gz", gzip.compress(lines(GOOD) * 100)[:-20], "it cannot be read to its end"),
    broken("gzip of a few bytes", "a.csv.gz", gzip.compress(lines(GOOD))[:15], "it cannot be read to its end"),
    broken(
        "gzip with another checksum",
        "a.csv.gz",
        gzip.compress(lines(GOOD))[:-8] + b"\0" * 8,
        "it cannot be read to its end",
    ),
    Case(
        FILES,
        "columns in another order and case, and surplus ones",
        (
            (
                "feed.csv",
                lines("0,x,T1,c,9.5,W,2026-01-05,1", header=" FRAUD ,extra,Id,CARD,amount,product,time,abroad"),
            ),
        ),
        (("T1", 9_500, 0),),
        columns="TransactionID, amount_thousandths, isFraud",
        note="columns are found by name",
    ),
    Case(FILES, "a byte order mark", (("feed.csv", b"\xef\xbb\xbf" + lines(GOOD)),), (("T1",),)),
    Case(FILES, "CRLF", (("feed.csv", lines(GOOD, row(id="T2"), end="\r\n")),), (("T1",), ("T2",))),
    Case(FILES, "CR alone", (("feed.csv", lines(GOOD, row(id="T2"), end="\r")),), (("T1",), ("T2",))),
    Case(FILES, "no line end at the end", (("feed.csv", lines(GOOD)[:-1]),), (("T1",),)),
    Case(FILES, "blank lines", (("feed.csv", b"\n\n" + lines(GOOD, "", row(id="T2"), "")),), (("T1",), ("T2",))),
    Case(FILES, "gzip named .csv", (("feed.csv", gzip.compress(lines(GOOD))),), (("T1",),)),
    # Parquet
    broken("nothing at all", "a.parquet", b"", "a.parquet: it cannot be read as Parquet"),
    broken("a pointer of Git LFS named .parquet", "a.parquet", POINTER, "it cannot be read as Parquet"),
    broken("a file without its end", "a.parquet", _WHOLE[:-100], "it cannot be read as Parquet"),
    broken(
        "a damaged page",
        "a.parquet",
        _WHOLE[:40] + b"\xff" * 200 + _WHOLE[240:],
        "it cannot be read as Parquet",
    ),
    broken(
        "columns are missing",
        "a.parquet",
        parquet({}).replace(b"amount", b"amounz"),
        "column amount is missing; it has id, time, card, product, amounz",
    ),
    broken(
        "a column name that is no text",
        "a.parquet",
        parquet({}).replace(b"amount", b"amoun\xe9"),
        "it cannot be read as Parquet",
    ),
    Case(
        PARQUET,
        "a text that is not UTF-8",
        (("feed.parquet", parquet({}, {"id": "X"}, product=_LATIN_1)),),
        (("T1",),),
        refused=(("feed.parquet", 2, ("unreadable_line",)),),
    ),
    Case(
        PARQUET,
        "amounts of NaN, infinity and null",
        (("feed.parquet", parquet({}, {"amount": float("nan")}, {"amount": float("inf")}, {"amount": None})),),
        (("T1",),),
        refused=(
            ("feed.parquet", 2, ("amount_not_finite",)),
            ("feed.parquet", 3, ("amount_not_finite",)),
            ("feed.parquet", 4, ("missing_amount",)),
        ),
    ),
    Case(
        PARQUET,
        "a label that is a boolean",
        (("feed.parquet", parquet({"fraud": True})),),
        refused=(("feed.parquet", 1, ("label_not_0_or_1",)),),
        note="accepted as `fraud::BOOLEAN::INTEGER`",
    ),
    Case(
        PARQUET,
        'a label that is a boolean, with `isFraud = "fraud::BOOLEAN::INTEGER"`',
        (("feed.parquet", parquet({"fraud": True})),),
        ((1,),),
        columns="isFraud",
        source={"columns": make_source().columns | {"isFraud": "fraud::BOOLEAN::INTEGER"}},
    ),
    Case(PARQUET, "no rows", (("feed.parquet", NO_ROWS),), note="built once, without rows"),
    Case(
        PARQUET,
        "other types in another file, or in CSV",
        (
            ("a.csv", lines(row(id="7", card="1", amount="10.5"))),
            ("b.parquet", parquet({"id": 7, "card": 1})),
            ("c.parquet", parquet({"id": "7", "card": "1", "amount": "10.50", "fraud": 1.0})),
        ),
        (("7", 10_500, 1),),
        columns="TransactionID, amount_thousandths, isFraud",
        refused=(("b.parquet", 1, ("duplicate",)), ("c.parquet", 1, ("duplicate",))),
        note="they are one feed: what counts is the text",
    ),
    Case(
        PARQUET,
        "codes as floats in one file and as integers in another",
        (("a.parquet", parquet({"card": 150.0})), ("b.parquet", parquet({"id": "T2", "card": 150}))),
        (("150",), ("150.0",)),
        columns="card_id",
        note="two cards: give the column a type in `[types]`",
    ),
    # Exports of other habits
    amounts(
        "German amounts",
        {"4.711": 4_711_000, "4.711,50": 4_711_500, "1.234.567,891": 1_234_567_891, "4.71": None},
        'with `[csv] decimal = ","` and `thousands = "."`; thousands that are not in threes are no number',
        delimiter=";",
        decimal=",",
        thousands=".",
    ),
    amounts(
        "Swiss amounts",
        {"1'234.50": 1_234_500, "1\u2019234": 1_234_000},
        'with `thousands = "\'"`',
        thousands="'",
    ),
    amounts(
        "amounts with a currency",
        {"$40.00": 40_000, "EUR 40.00": 40_000, "40.00 €": 40_000, "40.00 each": None},
        'with `thousands = ","`, or any other',
        thousands="'",
    ),
    Case(
        HABITS,
        "parentheses around a refund",
        (("feed.csv", lines(row(amount="(50.00)"))),),
        ((50_000,),),
        columns="amount_thousandths",
        note='with `thousands` and `refunds = "absolute"`',
        source={"csv": {"thousands": "'"}, "rules": {"refunds": "absolute"}},
    ),
    bad_cell(
        "thousands that nothing announces", "unreadable_amount", topic=HABITS, amount='"25,000"', note="say `thousands`"
    ),
    Case(
        HABITS,
        "lines before the header",
        (("feed.csv", b"Export of 2026-01-05\n\n" + lines(GOOD)),),
        (("T1",),),
        note="with `[csv] skip = 2`",
        source={"csv": {"skip": 2}},
    ),
    named("a column called order", "order", "c1", 'as `card_id = "order"`'),
    named("a column called when", "When", "c1", 'as `card_id = "When"`'),
    named("a column called Card Number", "Card Number", "c1", 'as `card_id = "Card Number"`'),
    # JSON Lines
    Case(
        JSON,
        "texts, numbers, booleans and nothing",
        (("feed.jsonl", json_lines({"amount": "10.5", "fraud": None, "abroad": "true"}, {"id": 7, "abroad": True})),),
        (("7", 10_500, 0), ("T1", 10_500, None)),
        columns="TransactionID, amount_thousandths, isFraud",
        note="as in CSV: what counts is the text",
    ),
    Case(
        JSON,
        "gzip",
        (("feed.ndjson.gz", gzip.compress(json_lines({}))),),
        (("T1",),),
        note="`.ndjson` is JSON Lines too",
    ),
    Case(
        JSON,
        "a number of more digits than a double has",
        (("feed.jsonl", json_lines('{"id": 12345678901234567890123, "card": 1.50, ' + json.dumps(_REST)[1:])),),
        (("12345678901234567890123", "1.50"),),
        columns="TransactionID, card_id",
        note="a number is what was written, and of a key that is there twice the first counts",
    ),
    Case(
        JSON,
        "other keys, in another order",
        (
            (
                "feed.jsonl",
                json_lines('{"extra": [1, {"x": null}], "id": "A", ' + json.dumps(_REST | {"card": "c"})[1:]),
            ),
        ),
        (("A",),),
    ),
    Case(
        JSON,
        "a nested value",
        (("feed.jsonl", json_lines({"card": {"number": "4-1"}})),),
        (("4-1",),),
        columns="card_id",
        note="with `card_id = \"json_extract_string(card, '$.number')\"`",
        source={"columns": make_source().columns | {"card_id": "json_extract_string(card, '$.number')"}},
    ),
    Case(
        JSON,
        "a key without a name, or in other letters, in one record",
        (("feed.jsonl", json_lines({}, {"id": "T2", "": 1, "ID": "x", "_line": 7})),),
        (("T1",), ("T2",)),
        note="of a key the spelling that comes first in the file counts",
    ),
    bad_json("a key that is not there", {"card": None}, "missing_card"),
    bad_json("a number that is none", {"amount": "n/a"}, "unreadable_amount"),
    bad_json("an amount of NaN", {"amount": float("nan")}, "amount_not_finite"),
    bad_json("a line that is no JSON", '{"id": "T1", "amount": 10.5'),
    bad_json("two objects on a line", '{"id": "a"}{"id": "b"}'),
    bad_json("two objects with a comma", '{"id": "a"}, {"id": "b"}'),
    bad_json("a list", "[1, 2]"),
    bad_json("a null character", '{"id": "a\\u0000"}'),
    bad_json("half of a character", '{"id": "\\ud800"}'),
    Case(
        JSON,
        "blank lines, and no line end at the end",
        (("feed.jsonl", b"\n" + json_lines("", {}, " ")[:-2]),),
        (("T1",),),
    ),
    Case(JSON, "nothing at all", (("feed.jsonl", b""),), note="built once, without rows"),
    broken(
        "JSON Lines called .csv",
        "a.csv",
        json_lines({}),
        "It seems to be JSON Lines: call it .jsonl.",
    ),
)

LABEL_CASES = (
    LabelCase("several labels of one transaction", late("A,1", "A,0"), {"A": 0}, note="the last one counts"),
    LabelCase("a label of 1.0", late("A,1.0"), {"A": 1}),
    LabelCase("an id that no Silver row has (yet)", late("X,1"), {"X": 1}, unknown=1, note="it counts once it has"),
    LabelCase("an id in another case, or with blanks", late("a,1", "A ,1"), {"a": 1, "A ": 1}, unknown=2),
    LabelCase("an id as a float", late("7.0,1"), {"7.0": 1}, unknown=1, note="Silver has 7"),
    LabelCase("other columns beside", late("x,1,A", header="note,ISFRAUD,transactionid"), {"A": 1}),
    LabelCase("a header only", late()),
    bad_label("no label", "A,", "blank", note="an earlier label stays"),
    bad_label("a label of 2", "A,2", "label_not_0_or_1", note="an earlier label stays"),
    bad_label("a label in words", "A,yes", "label_not_0_or_1"),
    bad_label("a label of nan", "A,nan", "label_not_0_or_1"),
    bad_label("no id", ",0", "missing_transaction_id"),
    bad_label("an id of blanks", "  ,0", "missing_transaction_id"),
    bad_label("too many fields", "A,0,0", "unreadable_line"),
    bad_label("an unterminated quote", '"A,0', "unreadable_line"),
    LabelCase("nothing at all", b"", not_read="labels/a.csv: the file is empty. Expected at least a header line."),
    LabelCase(
        "a column is missing",
        late("A,1", header="TransactionID,label"),
        not_read="labels/a.csv: column isFraud is missing; it has TransactionID, label.",
    ),
    LabelCase(
        "another delimiter", late("A;1", header="TransactionID;isFraud"), not_read="seems to use [csv] delimiter = ';'."
    ),
    LabelCase("gzip without its end", gzip.compress(late("A,1"))[:-9], not_read="it cannot be read to its end"),
)
