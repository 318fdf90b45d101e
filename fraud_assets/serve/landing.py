"""Sealed segments of a journal land: one file per partition and shape, each accepted transaction exactly once.

The name of a file is the digest of its content and a segment never changes, so whoever does the same again after a
death in between finds the same files there. The landing protocol is the landing zone's: what is written is renamed.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from fraud_assets.digests import digest_file
from fraud_assets.partition_keys import Grain, key_of
from fraud_assets.serve.journal import Entry, entries, segments, sync_folder
from fraud_assets.silver.raw_files import CANONICAL_SUFFIX

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def land_sealed(journal: Path, landing: Path, grain: Grain) -> int:
    """Land what is sealed in a journal; return how many transactions of it are in the landing zone now."""
    return sum(_land(segment, landing, grain) for segment in segments(journal, "sealed"))


def forget_landed(journal: Path, is_old: Callable[[float], bool]) -> None:
    """Delete the segments that landed and are old, by the time of their last entry."""
    for segment in segments(journal, "landed"):
        if is_old(segment.stat().st_mtime):
            segment.unlink()


def _land(segment: Path, landing: Path, grain: Grain) -> int:
    parts: dict[tuple[str, bool], list[str]] = {}
    for _, entry in entries(segment):
        if entry.line is not None:
            parts.setdefault((_key(entry, grain), entry.is_canonical), []).append(entry.line)
    for (key, is_canonical), lines in parts.items():
        _place(landing / key, "\n".join([*lines, ""]), CANONICAL_SUFFIX if is_canonical else ".jsonl")
    with suppress(FileNotFoundError):  # two services that share a data directory may land the same one
        segment.rename(segment.with_suffix(".landed"))
    sync_folder(segment.parent)
    return sum(map(len, parts.values()))


def _key(entry: Entry, grain: Grain) -> str:
    return key_of(_EPOCH + timedelta(microseconds=entry.time_us), grain)


def _place(folder: Path, content: str, suffix: str) -> None:
    """Write a file whole and durable, under the digest of its content."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".served.{uuid4().hex}.tmp"
    try:
        with fresh.open("w", encoding="utf-8", newline="") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(folder / f"{digest_file(fresh)}{suffix}")
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(folder)
    sync_folder(folder.parent)
