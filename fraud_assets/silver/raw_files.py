"""A raw file as it landed: which kind it is, how its text is opened, and what makes it broken.

Here belongs what all formats share. How records are told apart is `csv_records` and `reading`.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from fraud_assets.errors import FraudAssetsError


@dataclass(frozen=True)
class RawFile:
    """A landed file: where it lies, and the name that people know it by."""

    path: Path
    name: str

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet; every other file is CSV."""
        return self.path.suffix.lower() == ".parquet"


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


@contextmanager
def open_text(file: RawFile, encoding: str) -> Iterator[TextIO]:
    """Open a text file, gzipped or not, with its line ends as they are.

    Bytes that the encoding does not know stand in the text as lone surrogates: written with the same encoding and
    `errors="surrogateescape"` they are the same bytes again.

    Raises:
        BrokenFileError: the file cannot be read to its end, or has another encoding.
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
