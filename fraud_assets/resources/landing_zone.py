"""The landing zone: what landed, file by file, and how files get there.

Knows file names, digests and partition folders. What a row means, and how a file is split, is `fraud_assets.silver`'s;
nothing landed is changed. A data directory of another grain is refused everywhere (AnotherGrainError).
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Final

import dagster as dg
import duckdb
from filelock import FileLock

from fraud_assets.digests import DIGITS, digest_file, digest_lines
from fraud_assets.errors import FraudAssetsError
from fraud_assets.files import replacing
from fraud_assets.partition_keys import KEY_FORMATS, bounds
from fraud_assets.resources.grain import record_grain, require_grain
from fraud_assets.silver.build import InputDigest, input_digest
from fraud_assets.silver.raw_files import SUFFIXES, BrokenFileError, RawFile
from fraud_assets.silver.reading import count_records
from fraud_assets.silver.source import Source, load_source
from fraud_assets.silver.splitting import partition_keys, split

LABELS_FOLDER: Final = "labels"
"""Folder of late labels under landing/; never a partition."""

REVIEWS_FOLDER: Final = "reviews"
"""Folder of analysts' decisions under landing/; never a partition."""

SCRATCH: Final = ".fraud-assets-land-"
"""Begins the name of the folder in which `land` splits a file. Other dot names belong to whoever delivers."""

_NAMED: Final = 3
"""Paths that a person would still copy from a message."""

_SETTLES_MS, _QUIET_MS = 1_000, 50
"""One file that is split lands as many: what follows within 50 ms is taken together, for a second at most."""

_OUTSIDE: Final = "is outside the source's partitions"


class NothingLandedError(FraudAssetsError):
    """Nothing landed where it is needed; the message names the command that lands files."""

    def __init__(self, what: str, source: Source) -> None:
        super().__init__(f"{what}. {how_to_land(source)}")


_UNREADABLE: Final = (
    "landing/{} cannot be read ({}) and does not count: let the platform's user read it, or take it away"
)


def how_to_land(source: Source) -> str:
    """Say by which command files of a feed land."""
    synthetic = ", or synthetic ones with `fraud-assets simulate`" if source.name == "simulated" else ""
    return f"Land files with `fraud-assets land FILE`{synthetic}."


@dataclass(frozen=True)
class LandedFile:
    """One landed file. `name` is its path under landing/; `digest` is of its content; `written_ns` counts from 1970."""

    path: Path
    name: str
    size: int
    digest: str
    written_ns: int

    @property
    def raw(self) -> RawFile:
        """The file as the Silver build wants it."""
        return RawFile(path=self.path, name=self.name)


@dataclass(frozen=True)
class Landing:
    """What lies in the landing zone: files per partition, files of late labels, and what a person should know.

    `unreadable` are files and folders that the system does not let us read, by their paths under landing/, with why;
    they are among the notes.
    """

    partitions: Mapping[str, tuple[LandedFile, ...]]
    notes: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[LandedFile, ...] = ()
    reviews: tuple[LandedFile, ...] = ()


@dataclass(frozen=True)
class LandedPiece:
    """One file that `land` wrote, or found already there."""

    partition_key: str
    name: str
    records: int
    is_new: bool


@dataclass(frozen=True)
class Landed:
    """What became of one raw file: its pieces, the files that were put aside for them, what a person should know."""

    pieces: tuple[LandedPiece, ...]
    put_aside: tuple[str, ...]
    notes: tuple[str, ...]


class LandingZone(dg.ConfigurableResource):
    """Lists, digests and lands raw files of one feed."""

    data_dir: str
    source_file: str

    @cached_property
    def source(self) -> Source:
        """What the raw columns mean."""
        return load_source(self.source_file)

    @property
    def folder(self) -> Path:
        """Where files land: one folder per partition."""
        return Path(self.data_dir) / "landing"

    def input_digest(self, files: Sequence[LandedFile]) -> InputDigest:
        """Return the digest of what a partition would be built from: files, source and contract."""
        return input_digest([file.digest for file in files], self.source)

    def count_records(self, file: LandedFile) -> tuple[int | None, str | None]:
        """Return the records of a file, good or bad; or None, and why they cannot be counted."""
        try:
            return count_records(file.raw, self.source.csv), None
        except BrokenFileError as error:
            return None, str(error)

    def files(self, key: str) -> tuple[LandedFile, ...]:
        """Return the files of one partition in the order in which they landed.

        Raises:
            NothingLandedError: there is none.
        """
        if not (files := self.files_of([key])[key]):
            raise self.nothing_landed(key)
        return files

    def files_of(self, keys: Sequence[str]) -> dict[str, tuple[LandedFile, ...]]:
        """Return the files of partitions, each in the order in which they landed; there may be none."""
        record_grain(Path(self.data_dir), self.source)
        found = self._look(keys).partitions
        return {key: found.get(key, ()) for key in keys}

    def nothing_landed(self, key: str) -> NothingLandedError:
        """Return the error of a partition that nothing landed for."""
        return NothingLandedError(f"Nothing landed for {key} in {self.folder}", self.source)

    def label_files(self) -> tuple[LandedFile, ...]:
        """Return the files of late labels in the order in which they landed; there may be none."""
        record_grain(Path(self.data_dir), self.source)
        return self._look([LABELS_FOLDER] if (self.folder / LABELS_FOLDER).exists() else []).labels

    def review_files(self) -> tuple[LandedFile, ...]:
        """Return the files of analysts' decisions in the order in which they landed; there may be none."""
        record_grain(Path(self.data_dir), self.source)
        return self._look([REVIEWS_FOLDER] if (self.folder / REVIEWS_FOLDER).exists() else []).reviews

    def land_review(self, text: str) -> tuple[str, bool]:
        """Land decisions as a CSV file named by the digest of its text; return its name, and whether it is new.

        What landed last is not landed again. What landed before other decisions is: it takes these back.
        """
        folder = self.folder / REVIEWS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        record_grain(Path(self.data_dir), self.source)
        target = folder / f"{digest_lines([text])}.csv"
        latest = self._look([REVIEWS_FOLDER], remember=False).reviews[-1:]
        is_new = [file.path for file in latest] != [target]
        if is_new:
            with replacing(target) as fresh:
                fresh.write_text(text, encoding="utf-8", newline="")
        return f"{REVIEWS_FOLDER}/{target.name}", is_new

    def look(self, *, only_stable: bool = False, remember: bool = True) -> Landing:
        """Return all that landed; unless it shall be remembered, this look does not count as the last one.

        Args:
            only_stable: leave out files whose size and time have not held since the last look, unless they were put in
                place whole. A sensor asks for it, so that a file that is still being written is not read.
            remember: let this look count as the last one.
        """
        require_grain(Path(self.data_dir), self.source)
        names = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.is_dir() else []
        return self._look([one for one in names if not _is_ignored(one)], only_stable=only_stable, remember=remember)

    def _look(self, folders: Sequence[str], *, only_stable: bool = False, remember: bool = True) -> Landing:
        known: dict[str, list[Any]] = _read_json(self._digests_path)
        seen: dict[str, list[Any]] = {}
        partitions: dict[str, tuple[LandedFile, ...]] = {}
        notes: list[str] = []
        unreadable: dict[str, str] = {}
        outside: list[str] = []
        landing = self.folder
        for key in folders:
            if (why := self._why_no_partition(key)) is not None:
                notes.append(f"landing/{key} {why}") if why != _OUTSIDE else outside.append(key)
                continue
            files = []
            try:
                with os.scandir(landing / key) as found:  # a tick looks at thousands: pathlib takes twice as long
                    entries = sorted(found, key=lambda entry: entry.name)
            except FileNotFoundError:  # Taken away since it was listed.
                continue
            except OSError as error:
                unreadable[key] = str(error.strerror)
                continue
            for entry in entries:
                path, name = Path(entry.path), f"{key}/{entry.name}"
                if _is_ignored(entry.name):
                    continue
                try:
                    if entry.is_dir() or not entry.name.lower().endswith(SUFFIXES):
                        notes.append(f"landing/{name} is not one of {', '.join(SUFFIXES)}")
                        continue
                    status = path.stat()
                    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
                    *as_before, digest, is_stable = known.get(name, [None, False])
                    # A look that is not remembered may follow the last one at once, so no file is stable by it.
                    holds = as_before == identity and (is_stable or remember)
                    if only_stable and not holds and not _was_put_in_place(path, status):
                        notes.append(f"landing/{name} has just been seen: it counts at the next look")
                        is_stable = False
                    elif not is_stable or as_before != identity:
                        digest, is_stable = digest_file(path), True
                    seen[name] = [*identity, digest, is_stable]
                except FileNotFoundError:  # Taken away since it was listed.
                    continue
                except OSError as error:
                    unreadable[name] = str(error.strerror)
                    *identity, digest, _ = known.get(name, [0, 0, 0, None, False])
                # Until a changed file is stable, or can be read, it counts as it was; without it its partition would
                # seem changed.
                if digest is not None:
                    size, written_ns, _ = identity
                    files.append(LandedFile(path, name, size, str(digest), written_ns))
            if files:
                partitions[key] = tuple(sorted(files, key=lambda file: (file.written_ns, file.name)))
        if remember and any(known.get(name) != entry for name, entry in seen.items()):
            with replacing(self._digests_path) as fresh:
                fresh.write_text(json.dumps({**known, **seen}))
        if advice := self.source.outside_advice(outside):
            notes.append(f"landing: {advice}")
        notes += [_UNREADABLE.format(name, why) for name, why in unreadable.items()]
        labels = partitions.pop(LABELS_FOLDER, ())
        reviews = partitions.pop(REVIEWS_FOLDER, ())
        return Landing(partitions, tuple(notes), unreadable, labels=labels, reviews=reviews)

    @contextmanager
    def watched(self) -> Iterator[Callable[[float], bool]]:
        """Give a function that waits so many seconds at most, and says whether something landed since the block began.

        Where there is no folder to watch, or the system watches no more, it does not wait.
        """
        from watchfiles._rust_notify import RustNotify  # only where a tick watches: a run starts without it

        try:
            watcher = RustNotify([str(self.folder)], False, False, 300, True, True) if self.folder.is_dir() else None
        except (OSError, RuntimeError):
            watcher = None
        if watcher is None:
            yield lambda _: False
            return
        with watcher:

            def wait(seconds: float) -> bool:
                until = monotonic() + seconds
                while (left := until - monotonic()) > 0:
                    seen = watcher.watch(_SETTLES_MS, _QUIET_MS, max(int(left * 1000), 1), None)
                    if not isinstance(seen, set):
                        return False
                    if any(self._counts(Path(path)) for _, path in seen):
                        return True
                return False

            yield wait

    def _counts(self, path: Path) -> bool:
        return not any(map(_is_ignored, path.relative_to(self.folder).parts))

    def _why_no_partition(self, name: str) -> str | None:
        """Say why what lies in landing is neither labels, reviews nor a partition that can be built now, or None."""
        if not (self.folder / name).is_dir():
            return "is in no partition's folder; `fraud-assets land FILE` splits a file into partitions"
        return None if name in (LABELS_FOLDER, REVIEWS_FOLDER) else self._why_no_key(name)

    def _why_no_key(self, name: str) -> str | None:
        grain = self.source.partitions.grain
        try:
            start, _ = bounds(name, grain)
        except (ValueError, OverflowError):
            return f"is not a {grain} partition ({KEY_FORMATS[grain]})"
        if not self.source.in_range(name):
            return _OUTSIDE
        return "is in the future, and waits" if start > datetime.now(tz=UTC) else None

    def land(self, connection: duckdb.DuckDBPyConnection, file: Path, *, replace: bool = False) -> Landed:
        """Split a raw file into the partitions of its rows, by event time, each record as the source wrote it.

        Files are named by the digest of their content, so that landing the same rows twice changes nothing. A row
        without a usable time goes to the file's first partition that can be built, to be quarantined there.
        What the same raw file became before, by another source, is put aside, under a name that is ignored; `replace`
        puts the other files of the touched partitions aside, too. Nothing lands of a file that cannot be read or lacks
        a column (BrokenFileError), nor where no record has a usable time (NoUsableTimeError).
        """
        raw = RawFile(path=file, name=file.name)
        keys, notes = partition_keys(connection, self.source, raw)
        self.folder.mkdir(parents=True, exist_ok=True)
        record_grain(Path(self.data_dir), self.source)
        found = sorted(set(keys.values()))
        first = next((key for key in found if self._why_no_key(key) is None), min(found, default=""))
        with TemporaryDirectory(dir=self.folder, prefix=SCRATCH) as scratch:
            parts = split(self.source, raw, Path(scratch), lambda line: keys.get(line, first))
            pieces = [self._place(key, part, records) for key, (part, records) in sorted(parts.items())]
        names = {f"{piece.partition_key}/{piece.name}" for piece in pieces}
        stale = self._landed_before(digest_file(file), names)
        if replace:
            stale |= {f"{key}/{other.name}" for key in parts for other in (self.folder / key).iterdir()}
        put_aside = [name for name in sorted(stale - names) if self._put_aside(self.folder / name)]
        new = [self.folder / piece.partition_key / piece.name for piece in pieces if piece.is_new]
        added = [file for file in new if sum(not _is_ignored(one.name) for one in file.parent.iterdir()) > 1]
        if added:
            back = f"`rm {' '.join(map(str, added))}` takes this one back, " if len(added) <= _NAMED else ""
            said = f"other files landed before in {len(added)} of these partitions, and stay: of equal rows one counts"
            notes = [*notes, f"{said}; {back}`fraud-assets land --replace {file}` puts the others aside"]
        return Landed(tuple(pieces), tuple(put_aside), tuple(notes))

    def _place(self, key: str, part: Path, records: int) -> LandedPiece:
        target = self.folder / key / f"{digest_file(part)}{part.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        is_new = not target.exists()
        if is_new:
            part.replace(target)
        return LandedPiece(key, target.name, records, is_new)

    def _put_aside(self, file: Path) -> bool:
        if _is_ignored(file.name) or not file.is_file():
            return False
        # With its digest, since another file of this name may have been put aside before.
        file.replace(file.with_name(f"_superseded-{digest_file(file)}-{file.name}"))
        return True

    def _landed_before(self, digest: str, names: set[str]) -> set[str]:
        """Remember the pieces of a raw file, and return those that it alone had before."""
        path = Path(self.data_dir) / ".landed_files.json"
        with FileLock(path.with_suffix(".lock")):  # of two landings at once none may lose what the other wrote
            known: dict[str, list[str]] = _read_json(path)
            before = set(known.get(digest, ()))
            known[digest] = sorted(names)
            with replacing(path) as fresh:
                fresh.write_text(json.dumps(known))
        return before.difference(*known.values())

    @property
    def _digests_path(self) -> Path:
        """Digests, kept by path, size, time and inode."""
        return Path(self.data_dir) / ".landing_digests.json"


def _was_put_in_place(path: Path, status: os.stat_result) -> bool:
    """Whether a file is known to be whole: nobody has to wait and see whether it grows.

    A writer sets both times of a file at once; who renames it, or gives it its time or mode at the end, sets only one.
    And `land` names a file by its content's digest. Where the system's clock is too coarse to tell, or the file system
    keeps no time of change, a file waits.
    """
    if status.st_size and status.st_ctime_ns != status.st_mtime_ns:
        return True
    return len(path.stem) == DIGITS and path.stem == digest_file(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # What is damaged is made anew.
        return {}


def _is_ignored(name: str) -> bool:
    """Names that writers use while they write, or to put a file aside."""
    return name.startswith((".", "_")) or name.endswith((".tmp", ".part"))
