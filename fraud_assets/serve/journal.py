"""The journal: what was accepted and answered, durable before the answer is sent.

A journal is a folder of segments, files of one line per answered transaction, each with its own checksum. One process
appends to one segment; what is sealed lands (`landing`), and stays as the record of what was answered. A segment's
state is its name: `<number>.open`, `.sealed`, `.landed`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal, Self
from zlib import crc32

import msgspec
from filelock import FileLock, Timeout

from fraud_assets.errors import FraudAssetsError

State = Literal["open", "sealed", "landed"]

_OFFSET_BITS: Final = 32

_LARGEST: Final = 2**28
"""Bytes of a segment at which the next one is begun, whatever the interval."""

LOCK_SECONDS: Final = 10.0
"""So long a new process waits for the one before to end."""

_LEAST_AHEAD: Final = 2**16
_MOST_AHEAD: Final = 2**22
"""Bytes of zeros that are written behind a segment's entries at a time, as many as it holds already within these: to
write over them changes neither the file's size nor where it lies, so that a sync waits for its own bytes alone. What
reads a segment takes them for no entry."""

_CHECKSUM: Final = 8
"""Hexadecimal digits before each line."""


class JournalError(FraudAssetsError):
    """What was accepted cannot be made durable, or another process writes the journal."""


class Entry(msgspec.Struct):
    """One answered transaction.

    The line that lands of it, or none where it had landed as a file before it was posted; whether that is canonical;
    its id, time (microseconds since 1970), card, product, amount in thousandths; the answer as it was sent.
    """

    line: str | None
    is_canonical: bool
    id: str
    time_us: int
    card: str
    product: str
    thousandths: int
    is_international: bool
    answered_us: int
    answer: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """The journal that this process writes. What is appended before a commit begins is one group: all durable or none.

    Belongs to one thread, but for what `begin_commit` returns.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise JournalError(f"Another process writes {folder}: each needs a --port of its own.") from error
        for segment in segments(folder, "open"):
            segment.rename(segment.with_suffix(".sealed"))
        self._number = max((number_of(segment) for segment in segments(folder)), default=0)
        self._file: int | None = None
        self._size = 0
        self._zeroed = 0
        self._group: list[bytes] = []
        self._group_size = 0
        self._unsent: dict[int, bytes] = {}
        self._writing_size = 0
        self._writing: dict[int, bytes] = {}
        self._latest: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.seal()
        self._lock.release()

    def append(self, entry: Entry) -> int:
        """Add an entry to the group and return its place, which is final once the group is committed."""
        if self._file is None:
            self._begin()
        line = _encode(entry)
        place = self._number << _OFFSET_BITS | self._size + self._writing_size + self._group_size
        self._group.append(b"%08x %b\n" % (crc32(line), line))
        self._group_size += len(self._group[-1])
        self._unsent[place] = bytes(entry.answer)
        self._latest[self._number] = max(entry.time_us, self._latest.get(self._number, entry.time_us))
        return place

    def begin_commit(self) -> Callable[[], OSError | None]:
        """Return what makes the group durable, and says why it could not; any thread may call it, then `end_commit`.

        What is appended meanwhile is the next group: it shares the fate of this one where that fails.
        """
        group = b"".join(self._group)
        self._writing, self._writing_size = self._unsent, self._group_size
        self._group, self._group_size, self._unsent = [], 0, {}
        return partial(self._write, self._file, group, self._size)

    def _write(self, file: int | None, group: bytes, at: int) -> OSError | None:
        if file is None or not group:
            return None
        try:
            end = at + len(group)
            while at < end:
                at += os.pwrite(file, group[at - end :], at)
            if self._durable:
                if end > self._zeroed:
                    self._write_ahead(file, end)
                os.fdatasync(file)
        except OSError as error:
            return error
        return None

    def _write_ahead(self, file: int, end: int) -> None:
        ahead = min(max(end, _LEAST_AHEAD), _MOST_AHEAD)
        with suppress(OSError):  # the entries are there without
            self._zeroed = end + os.pwrite(file, bytes(ahead), end)

    def end_commit(self, problem: OSError | None) -> None:
        """Take note of how the writing of the group ended.

        Raises:
            JournalError: It failed: nothing of it is durable, nor what was appended since.
        """
        size, self._writing, self._writing_size = self._writing_size, {}, 0
        if problem is not None:
            self._give_up(problem)
        self._size += size

    @property
    def is_full(self) -> bool:
        """Whether the segment should be sealed, whatever the interval."""
        return self._size > _LARGEST

    def seal(self) -> None:
        """End the segment, so that it lands; the next entry begins another one. Without entries nothing happens.

        Nothing may be appended that is not committed.
        """
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            os.close(self._file)
            self._file = None
            path = self._folder / _name(self._number, "open")
            path.rename(path.with_suffix(".sealed")) if self._size else path.unlink()
            self._size = 0

    def forget(self, before_us: int) -> None:
        """Delete the sealed segments of this process in which every transaction is earlier."""
        for number in [number for number, latest in self._latest.items() if latest < before_us]:
            if number != self._number or self._file is None:
                (self._folder / _name(number, "sealed")).unlink(missing_ok=True)
                del self._latest[number]

    def answer(self, place: int) -> bytes:
        """Return the answer that was given at a place, as it was sent."""
        for waiting in (self._unsent, self._writing):
            if place in waiting:
                return waiting[place]
        number, offset = place >> _OFFSET_BITS, place & 2**_OFFSET_BITS - 1
        for state in ("open", "sealed", "landed"):  # in the order of time: it may be renamed meanwhile
            with suppress(FileNotFoundError), (self._folder / _name(number, state)).open("rb") as segment:
                segment.seek(offset)
                return bytes(_decode(segment.readline()[_CHECKSUM + 1 :]).answer)
        raise JournalError(f"{self._folder} has lost its segment {number}.")

    def _begin(self) -> None:
        self._number += 1
        path = self._folder / _name(self._number, "open")
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._zeroed = 0
            if self._durable:
                sync_folder(self._folder)
        except OSError as error:
            # Of a segment whose name is not durable nothing is: the next entry begins another one.
            with suppress(OSError):
                self.seal()
            raise JournalError(f"{self._folder} cannot be written: {error.strerror}.") from error

    def _give_up(self, error: OSError) -> None:
        assert self._file is not None
        self._group, self._group_size, self._unsent = [], 0, {}
        # After a failed sync nobody knows what the disk holds of these bytes: the next group begins another segment.
        with suppress(OSError):
            self.seal()
        raise JournalError(f"{self._folder} cannot be written: {error.strerror}.") from error


def segments(folder: Path, state: State | None = None) -> list[Path]:
    """Return the segments of a journal in a state, or all, the oldest first."""
    return sorted(folder.glob(f"*.{state}" if state else "*.[osl]*[ned]"), key=number_of)


def number_of(segment: Path) -> int:
    """Return the number of a segment."""
    return int(segment.stem)


def entries(segment: Path) -> Iterator[tuple[int, Entry]]:
    """Yield the whole entries of a segment with their places; what a dying process half wrote is none."""
    offset, number = 0, number_of(segment)
    with segment.open("rb") as opened:
        for line in opened:
            checked = line[_CHECKSUM + 1 : -1]
            if line.endswith(b"\n") and line[:_CHECKSUM] == b"%08x" % crc32(checked):
                yield number << _OFFSET_BITS | offset, _decode(checked)
            offset += len(line)


def landed_entries(journals: Path) -> Iterator[Entry]:
    """Yield what landed of every journal in a folder of them, in the order of each; there may be no such folder."""
    for journal in sorted(journals.glob("*/")):
        for segment in segments(journal, "landed"):
            yield from (entry for _, entry in entries(segment))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _name(number: int, state: State) -> str:
    return f"{number:010d}.{state}"
