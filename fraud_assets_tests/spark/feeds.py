"""Small feeds with everything that real ones do to a platform, and the comparison of two lakes made of one of them."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import PARTITION_BUILDS, QUARANTINED_TRANSACTIONS, SILVER_TRANSACTIONS

COLUMNS = ("id", "time", "card", "product", "amount", "abroad", "fraud")
START = datetime(2026, 1, 5, tzinfo=UTC)

_SOURCE = """
name = "small"
[partitions]
grain = "{grain}"
start = "2026-01-01"
[types]
time = "TIMESTAMPTZ"
amount = "DOUBLE"
abroad = "BOOLEAN"
[columns]
TransactionID = "id"
event_timestamp = "time"
card_id = "card"
TransactionAmt = "amount"
ProductCD = "product"
is_international_txn = "abroad"
isFraud = "fraud"
[rules]
on_conflict = "{on_conflict}"
[features]
high_value_amount = 500.0
"""


class SmallFeed:
    """A feed into which files land by chance; the same chance, the same files.

    It has four partitions in a row, or as many such rows as there are histories, far from each other: what happens in
    one is nothing to another, and all are built together.
    """

    def __init__(self, folder: Path, chance: random.Random, *, histories: int = 1) -> None:
        self.chance = chance
        self.grain = chance.choice(("daily", "daily", "hourly"))
        self.lasts = timedelta(days=1) if self.grain == "daily" else timedelta(hours=1)
        form = "%Y-%m-%d" if self.grain == "daily" else "%Y-%m-%d-%H"
        starts = [[START + (10 * row + number) * self.lasts for number in range(4)] for row in range(histories)]
        self.histories = [[start.strftime(form) for start in row] for row in starts]
        self.starts = {start.strftime(form): start for row in starts for start in row}
        self.keys = [*self.starts]
        folder.mkdir(parents=True)
        source = folder / "small.toml"
        source.write_text(
            _SOURCE.format(grain=self.grain, on_conflict=chance.choice(("quarantine", "last_file", "quarantine")))
        )
        self.zone = LandingZone(data_dir=str(folder), source_file=str(source))
        self.ids = 0

    def land(self, key: str) -> None:
        """Let a file of up to forty records land in a partition."""
        rows = [self._row(self.starts[key]) for _ in range(self.chance.randrange(40))]
        rows += self.chance.sample(rows, len(rows) // 10)  # copies
        rows += [row | {"amount": "7.25"} for row in self.chance.sample(rows, len(rows) // 15)]  # conflicts
        folder = self.zone.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.chance.randrange(10**6):06}"
        kind = self.chance.choice(("csv", "csv", "jsonl", "parquet")) if rows else "csv"
        if kind == "jsonl":
            lines = [json.dumps(row) for row in rows] + ["{"] * self.chance.randrange(2)
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        elif kind == "parquet":
            pq.write_table(
                pa.Table.from_pylist(rows, pa.schema([(c, pa.string()) for c in COLUMNS])), folder / f"{name}.parquet"
            )
        else:
            lines = [",".join("" if row[c] is None else row[c] for c in COLUMNS) for row in rows]
            lines += ["one,two"] * self.chance.randrange(2)
            (folder / f"{name}.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")

    def break_a_file(self, key: str) -> None:
        """Let a file land that lacks a column."""
        (self.zone.folder / key).mkdir(parents=True, exist_ok=True)
        (self.zone.folder / key / "000000.csv").write_text("id,time\nT1,2026-01-05\n")

    def mend(self, key: str) -> None:
        (self.zone.folder / key / "000000.csv").unlink(missing_ok=True)

    def _row(self, start: datetime) -> dict[str, Any]:
        chance = self.chance
        self.ids += 1
        seconds = self.lasts.total_seconds()
        # Many lie around the boundaries of the partition and of its slices, and at one time with others.
        hour = chance.randrange(int(seconds // 3600)) * 3600
        second = chance.choice(
            (chance.randrange(int(seconds)), hour + chance.randrange(-320, 320), hour, seconds - 1, 0)
        )
        row = {
            "id": f"T{self.ids}" if chance.random() < 0.95 else f"T{chance.randrange(self.ids)}",
            "time": (start + timedelta(seconds=second)).isoformat(),
            "card": chance.choice(("hot", "hot", "a", "b", "c", "é")),
            "product": chance.choice("WCH"),
            "amount": chance.choice(("1.0005", "12.5", "0", "499.9995", "500", "31000.125")),
            "abroad": chance.choice(("true", "false")),
            "fraud": chance.choice(("0", "1", None)),
        }
        if chance.random() < 0.1:
            row |= chance.choice(
                ({"amount": "-1"}, {"amount": "much"}, {"card": None}, {"fraud": "2"}, {"time": "then"})
            )
        return row


def differences(one: Lake, other: Lake) -> list[str]:
    """Return in which table two lakes differ, and by how many rows; when something was built is no difference."""
    found = []
    with one.connect() as connection:
        for table, columns in (
            (SILVER_TRANSACTIONS, "*"),
            (QUARANTINED_TRANSACTIONS, "* REPLACE (list_sort(reasons) AS reasons)"),
            (PARTITION_BUILDS, "* EXCLUDE built_at"),
        ):
            first, second = (f"SELECT {columns} FROM {lake.select(table)}" for lake in (one, other))
            for way in (f"({first}) EXCEPT ALL ({second})", f"({second}) EXCEPT ALL ({first})"):
                [(rows,)] = connection.execute(f"SELECT count(*) FROM ({way})").fetchall()
                found += [f"{table.address}: {rows}"] if rows else []
    return found
