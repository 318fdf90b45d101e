"""What the feed never says of itself, for tests: the scenario of each row, and labels that land on their own, later."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from fraud_assets.simulator import feed
from fraud_assets.simulator.fraud import SCENARIOS, Profile
from fraud_assets.simulator.writing import write_day


def scenarios_of_day(day: date, *, seed: int = 7, profile: Profile = "default", rows_per_day: int = 3000) -> pa.Table:
    """Return TransactionID and scenario of every row of `simulate_day`."""
    rows = feed._rows_of(day, seed, profile, rows_per_day)
    ids = feed.simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day)["TransactionID"]
    return pa.table({"TransactionID": ids, "scenario": np.take(["legitimate", *SCENARIOS], rows.scenario)})


def write_unlabelled_day(day: date, folder: Path, *, rows_per_day: int, dirt: bool = False) -> Path:
    """Write a day whose column isFraud is blank."""
    path = write_day(day, folder, rows_per_day=rows_per_day, dirt=dirt)
    header, *lines = path.read_text().splitlines()
    at = header.split(",").index("isFraud")
    cells = [line.split(",") for line in lines]
    path.write_text("\n".join([header, *(",".join([*row[:at], "", *row[at + 1 :]]) for row in cells), ""]))
    return path


def write_labels(day: date, folder: Path, *, rows_per_day: int) -> Path:
    """Write the day's labels (TransactionID, isFraud) to <folder>/labels, as chargebacks arrive later."""
    path = folder / "labels" / f"simulated-{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = feed.simulate_day(day, rows_per_day=rows_per_day).select(["TransactionID", "isFraud"])
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="none"))
    return path
