"""One data directory holds partitions of one grain: days or hours. Knows the file that says which."""

from pathlib import Path

from fraud_assets.errors import FraudAssetsError
from fraud_assets.files import replacing
from fraud_assets.silver.source import Source


class AnotherGrainError(FraudAssetsError):
    """The data directory holds partitions of another grain; the message names both."""


def require_grain(data_dir: Path, source: Source) -> None:
    """Refuse a data directory that holds partitions of another grain (AnotherGrainError); only looks."""
    grain, path = source.partitions.grain, data_dir / ".grain"
    held = path.read_text() if path.exists() else grain
    if held != grain:
        raise AnotherGrainError(
            f"{data_dir} holds {held} partitions and source {source.name} is {grain}. "
            "Choose another FRAUD_DATA_DIR, or give the source another name."
        )


def record_grain(data_dir: Path, source: Source) -> None:
    """Make a data directory one of the source's grain, before anything is written there; refuses as `require_grain`."""
    require_grain(data_dir, source)
    path = data_dir / ".grain"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            fresh.write_text(source.partitions.grain)
