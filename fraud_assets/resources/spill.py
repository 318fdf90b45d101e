"""Folders for what DuckDB puts aside while it computes: one for each connection, gone with it, also after a crash.

DuckDB knows whose files are whose by the number of the process alone, which says nothing where several containers work
on one data directory. A lock on the folder holds there as well.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Final

SPILL: Final = ".spill"
"""Folder of the data directory in which the folders lie; it is there while one of them is."""

_YOUNG_SECONDS: Final = 60
"""A folder is locked just after it was made; until long after that it is nobody's to remove."""


@contextmanager
def spill_folder(data_dir: Path) -> Iterator[str]:
    """Give a folder of one's own, and first remove those that killed processes left.

    Where the data directory is not there yet, or cannot be written, the folder is a temporary one of the system.
    """
    root = data_dir / SPILL
    for left in root.glob("*/"):
        with suppress(OSError):  # Someone holds it, or has just removed it.
            if time.time() - left.stat().st_mtime > _YOUNG_SECONDS:
                with _held(left):
                    rmtree(left)
    with _folder_in(root) as folder, ExitStack() as stack:
        with suppress(OSError):  # Over NFS folders are not locked; then none of them is removed either.
            stack.enter_context(_held(Path(folder)))
        yield folder
    with suppress(OSError):
        root.rmdir()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _folder_in(root: Path) -> TemporaryDirectory[str]:
    try:
        root.mkdir(exist_ok=True)
        return TemporaryDirectory(dir=root)
    except OSError:
        return TemporaryDirectory(prefix="fraud_assets-")
