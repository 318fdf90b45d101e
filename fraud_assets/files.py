"""Files that are whole or not there: what is written stands beside its place until it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

LEFT_BEHIND: Final = f".*.{'[0-9a-f]' * 32}.tmp"
"""Pattern of the names that a killed process may leave where it wrote; nobody else's temporary file is called so."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move it over `path` when the block ends: no reader finds half of it.

    Its time is set last, a nanosecond back: a file whose times of writing and of change differ is known to be whole,
    and clocks are too coarse to tell a rename from the write before it. After an error the old file stays. A killed
    process may leave a file beside it (`LEFT_BEHIND`).
    """
    fresh = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield fresh
        written = fresh.stat()
        os.utime(fresh, ns=(written.st_atime_ns, written.st_mtime_ns - 1))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
