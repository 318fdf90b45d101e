"""Files of synthetic days, as landing wants them: <folder>/<day>/simulated-<day>.csv or .parquet.

Belongs here: text, file formats, names and atomic replacement. Not here: what the rows say (`feed`, `dirt`).
"""

from datetime import date
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.files import replacing
from fraud_assets.simulator.dirt import spoil
from fraud_assets.simulator.feed import simulate_day
from fraud_assets.simulator.fraud import Profile

FileFormat = Literal["csv", "parquet"]


def write_day(
    day: date,
    folder: Path,
    *,
    format: FileFormat = "csv",  # noqa: A002 - the word of the command line's option
    dirt: bool = False,
    seed: int = 7,
    profile: Profile = "default",
    rows_per_day: int = 3000,
) -> Path:
    """Write the day's one simulated file, whole or not at all, and return its path.

    The same arguments give the same bytes; other arguments replace the day's file, so no day is there twice.
    With `dirt` every column is text, in Parquet too.
    """
    table = simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day)
    if dirt:
        table = spoil(as_text(table), day, seed=seed, with_quotes=format == "csv")
    path = folder / day.isoformat() / f"simulated-{day}.{format}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        if format == "csv":
            # No quoting: no clean cell needs it, and dirt wants its open quote as it is.
            rows = zip(*as_text(table).to_pydict().values(), strict=True)
            lines = (",".join(cell or "" for cell in row) for row in (table.column_names, *rows))
            fresh.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
        else:
            pq.write_table(table, fresh)
    path.with_suffix(".parquet" if format == "csv" else ".csv").unlink(missing_ok=True)
    return path


def as_text(table: pa.Table) -> pa.Table:
    """Return the table with every column as the genuine CSV spells it: floats keep their point ('150.0')."""
    cells = {
        name: [None if value is None else str(value) for value in values] for name, values in table.to_pydict().items()
    }
    return pa.table(cells, schema=pa.schema([(name, pa.string()) for name in cells]))
