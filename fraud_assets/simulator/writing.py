"""Files of synthetic days, as landing wants them: <folder>/<day>/simulated-<day>.csv or .parquet.

Belongs here: text, file formats, names and atomic replacement. Not here: what the rows say (`feed`, `dirt`).
"""

from datetime import date
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.simulator.dirt import soil
from fraud_assets.simulator.feed import simulate_day
from fraud_assets.simulator.fraud import Profile

FileFormat = Literal["csv", "parquet"]

_OTHER: Final[dict[FileFormat, FileFormat]] = {"csv": "parquet", "parquet": "csv"}


def write_day(
    day: date,
    folder: Path,
    *,
    format: FileFormat = "csv",  # noqa: A002 - the word of the command line's option
    dirt: bool = False,
    labels: bool = True,
    seed: int = 7,
    profile: Profile = "default",
    rows_per_day: int = 3000,
) -> Path:
    """Write the day's one simulated file, whole or not at all, and return its path.

    The same arguments give the same bytes; other arguments replace the day's file, so no day is there twice.
    With `dirt` every column is text, in Parquet too. Without `labels` isFraud is blank; see `write_labels`.
    """
    table = simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day)
    if not labels:
        at = table.schema.get_field_index("isFraud")
        table = table.set_column(at, "isFraud", pa.nulls(table.num_rows, pa.int64()))
    if dirt:
        table = soil(as_text(table), day, seed=seed, with_quotes=format == "csv")
    return _replace(table, folder / day.isoformat(), f"simulated-{day}", format)


def write_labels(
    day: date,
    folder: Path,
    *,
    format: FileFormat = "csv",  # noqa: A002 - the word of the command line's option
    seed: int = 7,
    profile: Profile = "default",
    rows_per_day: int = 3000,
) -> Path:
    """Write the day's labels (TransactionID, isFraud) to <folder>/labels, as chargebacks arrive later."""
    table = simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day)
    return _replace(table.select(["TransactionID", "isFraud"]), folder / "labels", f"simulated-{day}", format)


def as_text(table: pa.Table) -> pa.Table:
    """Return the table with every column as the genuine CSV spells it: floats keep their point ('150.0')."""
    cells = {
        name: [None if value is None else str(value) for value in values] for name, values in table.to_pydict().items()
    }
    return pa.table(cells, schema=pa.schema([(name, pa.string()) for name in cells]))


def _replace(table: pa.Table, folder: Path, stem: str, format: FileFormat) -> Path:  # noqa: A002 - as above
    """Write beside, rename into place, and remove the file that the other format left."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.{format}"
    unfinished = folder / f".{path.name}.tmp"
    if format == "csv":
        unfinished.write_text(_csv_text(as_text(table)), encoding="utf-8", newline="")
    else:
        pq.write_table(table, unfinished)
    unfinished.replace(path)
    path.with_suffix(f".{_OTHER[format]}").unlink(missing_ok=True)
    return path


def _csv_text(text: pa.Table) -> str:
    """Return the lines with no quoting: no clean cell needs it, and dirt wants its open quote as it is."""
    lines = (",".join(cell or "" for cell in row) for row in zip(*text.to_pydict().values(), strict=True))
    return "\n".join([",".join(text.column_names), *lines, ""])
