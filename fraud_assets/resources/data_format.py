"""The form in which a data directory holds things: one number, so that no release reads what it does not know.

What each number changed stands in CHANGELOG.md. A release takes over what releases before it wrote; the other way round
it is refused in words.
"""

from pathlib import Path
from typing import Final

from fraud_assets.errors import FraudAssetsError
from fraud_assets.files import replacing

FORMAT: Final = 2
"""Raised where the release before would misread, or refuse, what this one writes. Directories without a mark have 1."""

_NAME: Final = ".format"


class NewerFormatError(FraudAssetsError):
    """A later release wrote the data directory; the message says what to do."""


def require_format(data_dir: Path) -> None:
    """Return where this release knows the form of a data directory; only looks.

    Raises:
        NewerFormatError: a later release wrote it.
    """
    found = _read(data_dir)
    if found > FORMAT:
        raise NewerFormatError(
            f"{data_dir} was written by a later release of fraud_assets (format {found}, and this one knows {FORMAT}): "
            "install that release again, or set another FRAUD_DATA_DIR. Nothing was changed."
        )


def record_format(data_dir: Path) -> None:
    """Say that the directory holds things in today's form, before something is written in it."""
    if _read(data_dir) < FORMAT:
        data_dir.mkdir(parents=True, exist_ok=True)
        with replacing(data_dir / _NAME) as fresh:
            fresh.write_text(f"{FORMAT}\n")


def _read(data_dir: Path) -> int:
    try:
        return int((data_dir / _NAME).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return 1
