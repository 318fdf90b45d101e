"""The landing zone: what landed, file by file, and how files get there.

Knows file names, digests and partition folders. What a row means is `fraud_assets.silver`'s; nothing landed is changed.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_assets.errors import FraudAssetsError
from fraud_assets.silver.build import InputDigest, input_digest
from fraud_assets.silver.reading import MAX_JOINED_LINES, BrokenFileError, RawFile, open_csv
from fraud_assets.silver.source import Source, load_source
from fraud_assets.silver.splitting import partition_keys

LABELS_FOLDER: Final = "labels"
"""Folder of late labels under landing/; never a partition."""

_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
"""What can be read; anything else in a partition folder is reported."""

_QUOTE_STOP: Final = "\n" * MAX_JOINED_LINES
"""So many blank lines, which are no records, that a record with an open quote before them does not go on after them."""


class AnotherGrainError(FraudAssetsError):
    """The data directory holds partitions of another grain; the message names both."""


class NothingLandedError(FraudAssetsError):
    """Nothing landed for a partition; the message names the command that lands files."""


@dataclass(frozen=True)
class LandedFile:
    """One landed file. `name` is its path under landing/; `digest` the first 16 hexadecimal digits of its SHA-256."""

    path: Path
    name: str
    size: int
    digest: str

    @property
    def raw(self) -> RawFile:
        """The file as the Silver build wants it."""
        return RawFile(path=self.path, name=self.name)


@dataclass(frozen=True)
class Landing:
    """What lies in the landing zone: files per partition, files of late labels, and what a person should know."""

    partitions: Mapping[str, tuple[LandedFile, ...]]
    notes: tuple[str, ...] = ()
    labels: tuple[LandedFile, ...] = ()


@dataclass(frozen=True)
class LandedPiece:
    """One file that `land` wrote, or found already there; `superseded` files were put aside by `--replace`."""

    partition_key: str
    name: str
    records: int
    is_new: bool
    superseded: tuple[str, ...] = ()


class LandingZone(dg.ConfigurableResource):
    """Lists, digests and lands raw files of one feed."""

    data_dir: str
    source: str

    @cached_property
    def feed(self) -> Source:
        """The feed's source."""
        return load_source(self.source)

    @property
    def folder(self) -> Path:
        """Where files land: one folder per partition."""
        return Path(self.data_dir) / "landing"

    def claim(self) -> None:
        """Claim the data directory for the feed's grain, before anything is written there.

        Raises:
            AnotherGrainError: it holds partitions of another grain.
        """
        self.require_grain()
        if not self._grain_path.exists():
            self._grain_path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(self._grain_path, self.feed.partitions.grain)

    def require_grain(self) -> None:
        """Return where the data directory is free or holds partitions of the feed's grain; only looks.

        Raises:
            AnotherGrainError: it holds partitions of another grain.
        """
        grain = self.feed.partitions.grain
        held = self._grain_path.read_text() if self._grain_path.exists() else grain
        if held != grain:
            raise AnotherGrainError(
                f"{self.data_dir} holds {held} partitions and source {self.feed.name} is {grain}. "
                "Choose another FRAUD_DATA_DIR, or give the source another name."
            )

    @property
    def _grain_path(self) -> Path:
        return Path(self.data_dir) / ".grain"

    def input_digest(self, files: Sequence[LandedFile]) -> InputDigest:
        """Return the digest of what a partition would be built from: files, source and contract."""
        return input_digest([file.digest for file in files], self.feed)

    def count_records(self, file: LandedFile) -> tuple[int | None, str | None]:
        """Return the records of a file, good or bad, counted without splitting them; or None, and why not."""
        try:
            if file.raw.is_parquet:
                return pq.read_metadata(file.path).num_rows, None
            with open_csv(file.raw, self.feed.csv) as records:
                return sum(map(len, records.tables())), None
        except BrokenFileError as error:
            return None, str(error)
        except (pa.ArrowException, OSError) as error:
            return None, f"{file.name}: it cannot be read as Parquet ({str(error).splitlines()[0]})."

    def files(self, key: str) -> tuple[LandedFile, ...]:
        """Return the files of one partition in the order in which they landed.

        Raises:
            NothingLandedError: there is none.
            AnotherGrainError: the data directory holds partitions of another grain.
        """
        self.claim()
        files = self._look([key], settle=False).partitions.get(key, ())
        if not files:
            raise NothingLandedError(
                f"Nothing landed for {key} in {self.folder}. "
                "Land files with `fraud-assets land FILE`, or synthetic ones with `fraud-assets simulate`."
            )
        return files

    def label_files(self) -> tuple[LandedFile, ...]:
        """Return the files of late labels in the order in which they landed; there may be none.

        Raises:
            AnotherGrainError: the data directory holds partitions of another grain.
        """
        self.claim()
        return self._look([LABELS_FOLDER] if (self.folder / LABELS_FOLDER).exists() else [], settle=False).labels

    def look(self, *, settle: bool = False, remember: bool = True) -> Landing:
        """Return all that landed.

        Args:
            settle: leave out files whose size and time have not held since the last look. A sensor asks for it, so
                that a file that is still being written is not read.
            remember: let this look count as the last one.

        Raises:
            AnotherGrainError: the data directory holds partitions of another grain.
        """
        self.require_grain()
        names = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.is_dir() else []
        return self._look([name for name in names if not _is_ignored(name)], settle=settle, remember=remember)

    def _look(self, folders: Sequence[str], *, settle: bool, remember: bool = True) -> Landing:
        known = self._read_digests()
        seen: dict[str, list[Any]] = {}
        partitions: dict[str, tuple[LandedFile, ...]] = {}
        notes: list[str] = []
        for key in folders:
            if (why := self._why_no_partition(key)) is not None:
                notes.append(f"landing/{key} {why}")
                continue
            files = []
            for path in sorted((self.folder / key).glob("*"), key=lambda path: path.name):
                name = f"{key}/{path.name}"
                if _is_ignored(path.name):
                    continue
                if path.is_dir() or not path.name.lower().endswith(_SUFFIXES):
                    notes.append(f"landing/{name} is not one of {', '.join(_SUFFIXES)}")
                    continue
                try:
                    status = path.stat()
                    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
                    *as_before, digest, has_settled = known.get(name, [None, False])
                    # A look that is not remembered may follow the last one at once, so no file settles by it.
                    if settle and (as_before != identity or not (has_settled or remember)):
                        notes.append(f"landing/{name} has just been seen: it counts at the next look")
                        has_settled = False
                    elif not has_settled or as_before != identity:
                        digest, has_settled = _digest(path), True
                except FileNotFoundError:  # Taken away since it was listed.
                    continue
                seen[name] = [*identity, digest, has_settled]
                # Until a changed file has settled it counts as it was; without it its partition would seem changed.
                if digest is not None:
                    files.append((status.st_mtime_ns, LandedFile(path, name, status.st_size, str(digest))))
            if files:
                partitions[key] = tuple(file for _, file in sorted(files, key=lambda pair: (pair[0], pair[1].name)))
        if remember and any(known.get(name) != entry for name, entry in seen.items()):
            _write_whole(self._digests_path, json.dumps({**known, **seen}))
        labels = partitions.pop(LABELS_FOLDER, ())
        return Landing(partitions=partitions, notes=tuple(notes), labels=labels)

    def _why_no_partition(self, name: str) -> str | None:
        """Say why what lies in landing is neither labels nor a partition that can be built now, or None."""
        if not (self.folder / name).is_dir():
            return "is in no partition's folder; `fraud-assets land FILE` splits a file into partitions"
        return None if name == LABELS_FOLDER else self._why_no_key(name)

    def _why_no_key(self, name: str) -> str | None:
        try:
            start, _ = self.feed.bounds(name)
        except (ValueError, OverflowError):
            return f"is not a {self.feed.partitions.grain} partition ({self.feed.key_format})"
        if not self.feed.in_range(name):
            return "is outside the source's partitions"
        return "is in the future, and waits" if start > datetime.now(tz=UTC) else None

    # Landing files

    def land(self, connection: duckdb.DuckDBPyConnection, file: Path, *, replace: bool = False) -> list[LandedPiece]:
        """Split a raw file into the partitions of its rows, by event time, each record as the source wrote it.

        Files are named by the digest of their content, so that landing the same rows twice changes nothing. A row
        without a readable time goes to the file's first partition that can be built, to be quarantined there.

        Args:
            connection: DuckDB in UTC.
            file: CSV (also gzipped) or Parquet.
            replace: put the other files of the touched partitions aside, under a name that is ignored.

        Raises:
            BrokenFileError: the file cannot be read or lacks a column; nothing landed.
            AnotherGrainError: the data directory holds partitions of another grain; nothing landed.
        """
        raw = RawFile(path=file, name=file.name)
        keys = partition_keys(connection, self.feed, raw)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.claim()
        first = next(filter(lambda key: self._why_no_key(key) is None, sorted(set(keys.values()))), self.feed.first_key)
        with TemporaryDirectory(dir=self.folder, prefix=".") as scratch:
            split = _split_parquet if raw.is_parquet else _split_csv
            parts = split(self.feed, raw, Path(scratch), lambda line: keys.get(line, first))
            return [self._place(key, part, records, replace=replace) for key, (part, records) in sorted(parts.items())]

    def _place(self, key: str, part: Path, records: int, *, replace: bool) -> LandedPiece:
        folder = self.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{_digest(part)}{part.suffix}"
        is_new = not target.exists()
        if is_new:
            part.replace(target)
        superseded = []
        if replace:
            for other in sorted(folder.iterdir()):
                if other != target and other.is_file() and not _is_ignored(other.name):
                    # With its digest, since another file of this name may have been put aside before.
                    other.replace(other.with_name(f"_superseded-{_digest(other)}-{other.name}"))
                    superseded.append(other.name)
        return LandedPiece(key, target.name, records, is_new, tuple(superseded))

    # Digests, kept by path, size, time and inode

    @property
    def _digests_path(self) -> Path:
        return Path(self.data_dir) / ".landing_digests.json"

    def _read_digests(self) -> dict[str, list[Any]]:
        try:
            return json.loads(self._digests_path.read_bytes())
        except (FileNotFoundError, ValueError):  # A damaged cache is no cache.
            return {}


def _write_whole(path: Path, text: str) -> None:
    """Write beside and move over, so that no reader finds half of it."""
    fresh = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    fresh.write_text(text)
    fresh.replace(path)


def _split_csv(feed: Source, raw: RawFile, folder: Path, key_of: Callable[[int], str]) -> dict[str, tuple[Path, int]]:
    """Write each record's own bytes to a file per partition, below the header where there is one."""
    counts: Counter[str] = Counter()
    with open_csv(raw, feed.csv) as records:
        for batch in records.batches():
            texts: dict[str, list[str]] = {}
            for record in batch:
                is_open = record.fields is None and bool(feed.csv.quote) and feed.csv.quote in record.text
                # Other lines follow here than in the raw file, and none of them may close its quote.
                texts.setdefault(key_of(record.line), []).append(_ended(record.text) + is_open * _QUOTE_STOP)
            # Opened anew for each batch: a file may hold more partitions than a process may open files.
            for key, part in texts.items():
                with (folder / f"{key}.csv").open(
                    "a", encoding=feed.csv.encoding, errors="surrogateescape", newline=""
                ) as opened:
                    opened.writelines(part if counts[key] else [_ended(records.header), *part])
                counts[key] += len(part)
    return {key: (folder / f"{key}.csv", count) for key, count in counts.items()}


def _ended(text: str) -> str:
    """The last line of a file may lack its end; another record may follow it here."""
    return text if not text or text.endswith(("\n", "\r")) else f"{text}\n"


def _split_parquet(
    feed: Source, raw: RawFile, folder: Path, key_of: Callable[[int], str]
) -> dict[str, tuple[Path, int]]:
    """Write the rows of each partition to a file of the same columns and types."""
    del feed  # A Parquet file says itself how it is written.
    with pq.ParquetFile(raw.path) as parquet:
        rows = parquet.read()
    keys = pa.array([key_of(row) for row in range(1, rows.num_rows + 1)], pa.string())
    parts: dict[str, tuple[Path, int]] = {}
    for key in keys.unique().to_pylist():
        path = folder / f"{key}.parquet"
        part = rows.filter(pc.equal(keys, key))  # pyright: ignore[reportAttributeAccessIssue] made at import
        pq.write_table(part, path)
        parts[key] = (path, part.num_rows)
    return parts


def _is_ignored(name: str) -> bool:
    """Names that writers use while they write, or to put a file aside."""
    return name.startswith((".", "_")) or name.endswith((".tmp", ".part"))


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()[:16]
