"""A raw file as it landed: which kind it is, how its text is opened, and what makes it broken.

Here belongs what all formats share. How records are told apart is `csv_records`, `json_records` and `reading`.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Final, Literal, TextIO

import pyarrow as pa

from fraud_assets.errors import FraudAssetsError

NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
"""A null character, or a byte that the encoding does not know (see `open_text`)."""

_NOT_ASCII: Final = re.compile("[^\0-\x7f]")
_BROKEN: Final = re.compile("[\udc80-\udcff]")

_SEEN_BYTES: Final = 2**24
"""Of a file, to tell its encoding."""

OTHER_BYTES: Final = "characters that are not text in this encoding"

ROWS_IN_TURN: Final = 16_384
"""Of the rows handed to DuckDB, what one thread takes at a time."""

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
"""The names of what can be read."""


CANONICAL_SUFFIX: Final = ".canonical.jsonl"
"""The name of a file whose columns are the canonical ones, whatever the source's raw columns are."""


@dataclass(frozen=True)
class RawFile:
    """A landed file: where it lies, and the name that people know it by."""

    path: Path
    name: str

    @property
    def kind(self) -> Literal["parquet", "jsonl", "csv"]:
        """Its format, by its name; what has no other name is CSV."""
        name = self.path.name.lower().removesuffix(".gz")
        return "parquet" if name.endswith(".parquet") else "jsonl" if name.endswith((".jsonl", ".ndjson")) else "csv"

    @property
    def is_canonical(self) -> bool:
        """Whether its columns are the canonical ones, so that the source's expressions have nothing to say of it."""
        return self.path.name.lower().endswith(CANONICAL_SUFFIX)


class BrokenFileError(FraudAssetsError):
    """A landed file cannot be read as a table of the expected columns; the message names the file."""

    def __init__(self, file: str, problem: str, expected: str) -> None:
        super().__init__(f"{file}: {problem} Expected {expected}")


@dataclass(frozen=True)
class RawRows:
    """Some records of a file: the delimited ones as columns and the line or row that each begins on; and the others.

    Of those that could not be delimited: the line, the text, and why.
    """

    lines: Sequence[int]
    columns: Sequence[pa.Array | pa.ChunkedArray]
    unreadable: Sequence[tuple[int, str, str]]


def other_encoding(file: RawFile, encoding: str) -> str:
    """Say which [csv] encoding would read a file that is no text in this one; nothing where single bytes are broken."""
    with suppress(OSError, EOFError, zlib.error), file.path.open("rb") as raw:
        is_gzip, _ = raw.read(2) == b"\x1f\x8b", raw.seek(0)
        begin = (gzip.GzipFile(fileobj=raw) if is_gzip else raw).read(_SEEN_BYTES)
        is_utf16 = begin[:2] in (b"\xff\xfe", b"\xfe\xff")
        for one in ["utf-16"] if is_utf16 else [encoding, "utf-8", "cp1252", "latin-1"]:
            with suppress(UnicodeError):
                codecs.getincrementaldecoder(one)().decode(begin)
                text = begin.decode(encoding, "surrogateescape")
                broken, others = len(_BROKEN.findall(text)), len(_NOT_ASCII.findall(text))
                return f' [csv] encoding = "{one}" reads the file.' if one != encoding and broken > others / 2 else ""
    return ""


def printable(text: str) -> str:
    """Return a record's text without its line end, and with bytes that are no text written out."""
    return text.rstrip("\r\n").encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def open_text(file: RawFile, encoding: str) -> Iterator[TextIO]:
    """Open a text file, gzipped or not, with its line ends as they are.

    Bytes that the encoding does not know stand in the text as lone surrogates: written with the same encoding and
    `errors="surrogateescape"` they are the same bytes again. Raises BrokenFileError where the file cannot be read to
    its end, or has another encoding.
    """
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        with file.path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with TextIOWrapper(
                gzip.GzipFile(fileobj=raw) if is_gzip else raw, encoding, errors="surrogateescape", newline=""
            ) as stream:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenFileError(file.name, f"it cannot be read to its end ({error}).", "a whole file.") from error
    except UnicodeError as error:
        raise BrokenFileError(file.name, f"the text is not {encoding} ({error}).", "[csv] encoding.") from error
