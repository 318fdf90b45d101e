"""Files that are whole or not there: what is written stands beside its place until it is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move it over `path` when the block ends: no reader finds half of it.

    After an error the old file stays. A killed process may leave `.<name>.*.tmp` beside it.
    """
    fresh = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield fresh
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
