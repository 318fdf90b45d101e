"""Digests of content: equal content, equal digest, on every machine and in every release."""

from collections.abc import Iterable
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

DIGITS: Final = 16
"""Hexadecimal digits of a SHA-256: three of them and their hyphens fit the 64 bytes that Delta's statistics keep."""


def digest_lines(lines: Iterable[str]) -> str:
    """Return the digest of some lines; their order counts."""
    return sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()[:DIGITS]
