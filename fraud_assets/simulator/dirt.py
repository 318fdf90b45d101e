"""What goes wrong on the way: a few bad cells and rows, for tests and demos.

Belongs here: the kinds of dirt and where they fall. Dirt works on text, as it would stand in the file: a typed
column could not hold it. Not here: what becomes of dirty rows (silver/cleaning), and files that are broken.
"""

from datetime import date
from typing import Final

import numpy as np
import pyarrow as pa

_DIRT_SHARE: Final = 0.003
"""Of rows: enough to see every kind in a day of 3,000 rows, too few to matter to a model."""

_ONCE: Final = ("open_quote", "conflicting_id")
"""At most one of each in a file: a second open quote could close the first."""
_OFTEN: Final = ("unreadable_amount", "blank_id", "negative_amount", "duplicate", "other_day")


def spoil(table: pa.Table, day: date, *, seed: int, with_quotes: bool) -> pa.Table:
    """Return a table of text with one row in 300 spoilt, each kind at least once where there are rows enough.

    A row is spoilt in one way only; rows that come again stand at the end. An open quote makes sense in CSV
    only. The same arguments always spoil the same rows.
    """
    rng = np.random.default_rng([seed, day.toordinal(), 4])
    kinds = len(_ONCE) + len(_OFTEN)
    size = min(table.num_rows, max(kinds, round(_DIRT_SHARE * table.num_rows)))
    rows = table.to_pylist()
    for i, position in enumerate(rng.choice(table.num_rows, size=size, replace=False)):
        row = rows[position]
        match _ONCE[i] if i < len(_ONCE) else _OFTEN[i % len(_OFTEN)]:
            case "open_quote":
                row["P_emaildomain"] = '"gmail.com' if with_quotes else row["P_emaildomain"]
            case "conflicting_id":
                rows.append({**row, "TransactionAmt": f"1{row['TransactionAmt']}"})
            case "unreadable_amount":
                row["TransactionAmt"] = "n/a"
            case "blank_id":
                row["TransactionID"] = None
            case "negative_amount":
                row["TransactionAmt"] = f"-{row['TransactionAmt']}"
            case "duplicate":
                rows.append(row)
            case _:
                row["TransactionDT"] = str(int(row["TransactionDT"]) + 86_400)
    return pa.Table.from_pylist(rows, schema=table.schema)
