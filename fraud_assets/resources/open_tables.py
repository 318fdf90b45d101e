"""Delta tables that are open already: a log is read anew only where somebody committed since.

To open a table costs milliseconds, more as its log grows, and a run looks at its tables a hundred times. Whether a
table is as it was takes two looks at its log: the last entry is the file that it was, and there is no next one.
"""

from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from deltalake import DeltaTable

_MOST: Final = 64
"""Tables that stay open: all those of a few data directories."""


class _Open(NamedTuple):
    table: DeltaTable
    last: Path
    identity: tuple[int, int, int]
    following: Path

    def is_latest(self) -> bool:
        return _identity(self.last) == self.identity and not self.following.exists()


_known: Final[dict[str, _Open]] = {}
_changing: Final = Lock()


def open_latest(location: str) -> DeltaTable:
    """Return the table as its latest commit left it. It is shared, to be read: who writes opens one of their own.

    Raises deltalake's TableNotFoundError where there is none.
    """
    known = _known.get(location)
    if known is not None and known.is_latest():
        return known.table
    table = DeltaTable(location)
    log, version = Path(location, "_delta_log"), table.version()
    last = log / f"{version:020}.json"
    identity = _identity(last)
    with _changing:
        _known.pop(location, None)
        if identity is not None:  # An entry that a checkpoint made needless may be gone: then nothing is known.
            _known[location] = _Open(table, last, identity, log / f"{version + 1:020}.json")
        while len(_known) > _MOST:
            del _known[next(iter(_known))]
    return table


def _identity(entry: Path) -> tuple[int, int, int] | None:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
