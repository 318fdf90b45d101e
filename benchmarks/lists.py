"""`python -m benchmarks.lists SOURCE [FILE...]`: what lists of alerts find when labels come late, split by split.

The feed goes through the platform: Silver, a forest, its scores, the history of cards. Then, split after split, a
ranker learns from what would have been known on a day and its lists of the days after are compared with others, as the
gate does. `simulated` without files is the synthetic feed, one seed a split.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from fraud_assets.automation.foreground import Ended, run_due
from fraud_assets.definitions import build_definitions
from fraud_assets.model.comparison import rule_score, supervised_scores
from fraud_assets.model.estimates import FOREST, RULE, Estimate, Evaluation
from fraud_assets.model.evaluation import Scores, evaluate
from fraud_assets.model.list_words import OVER_MEAN, RANKER, as_text, minus
from fraud_assets.model.ranker import RANKER_FEATURES, ranked_rows
from fraud_assets.model.ranker_gate import compare_lists, decide_ranker, too_little
from fraud_assets.model.ranker_training import train_ranker
from fraud_assets.partition_keys import days_before
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import CARD_HISTORY, PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.settings import Settings
from fraud_assets.simulator.writing import write_day
from fraud_assets.staleness import STAGES

MIXED = "forest and rule, ranks averaged"
EIGHT = "boosting on the eight features"
LISTS = {OVER_MEAN: OVER_MEAN, "amount": "amount", RULE: "plain rule", FOREST: "forest", MIXED: MIXED, EIGHT: EIGHT}
LISTS |= {RANKER: "ranker"}


@dataclass(frozen=True)
class Split:
    """One day on which a ranker learns: the days that train, the days whose lists are compared, and what came of it."""

    train: tuple[str, str]
    compare: tuple[str, str]
    training_frauds: int
    lists: Evaluation | None
    decision: str
    why: str
    later: pd.DataFrame | None = None
    """The rows that were compared, with the ranker's `probability`; None where nothing was learnt."""

    def precision(self, list_: str, at: str) -> Estimate:
        """Return the precision of a list within the capacity."""
        nothing = Estimate(None, not_measurable=self.why)
        return nothing if self.lists is None else self.lists.estimate(list_, f"precision_at_{at}")


def rows_of(source: str, files: list[Path], folder: Path, *, days: int, rows_per_day: int, seed: int) -> pd.DataFrame:
    """Return all rows of a feed as a ranker sees them, with `isFraud` and `card_id`, as the platform makes them."""
    settings = Settings(source=source, data_dir=folder, rank_by_labels=False)
    platform = Platform(
        settings, tuple(stage for stage in STAGES if stage.name in ("silver", "model", "gold", "history"))
    )
    if files:
        for file in files:
            with platform.lake.connect() as connection:
                platform.landing_zone.land(connection, file)
    else:
        for day in range(days):
            first = platform.source.partitions.start
            write_day(first + timedelta(days=day), platform.landing_zone.folder, rows_per_day=rows_per_day, seed=seed)
    with dg.DagsterInstance.ephemeral() as instance:
        for step in run_due(build_definitions(settings, stages=platform.stages), instance, platform):
            if isinstance(step, Ended) and step.problem:
                print(f"{step.request.label}: {step.problem}")
    with platform.lake.connect() as connection:
        tables = {"silver": SILVER_TRANSACTIONS, "gold": PREDICTIONS, "history": CARD_HISTORY}
        relations = {name: platform.lake.select(table) for name, table in tables.items()}
        ranked = ranked_rows(**relations, more="silver.card_id, silver.isFraud")
        return connection.execute(f"FROM {ranked} WHERE isFraud IS NOT NULL ORDER BY ALL").df()


def windows(days: list[str], *, splits: int, delay: int) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield the days that train and those that compare: evenly spaced, the last at the end."""
    span = (date.fromisoformat(days[-1]) - date.fromisoformat(days[0])).days + 1
    first = delay + 1  # place of the first day that can be compared: one day trains
    width = max(1, min(7, (span - first) // splits))
    last = span - width
    for number in range(splits):
        place = round(first + (last - first) * (number + 1) / splits) if last > first else first
        start = days_before(days[0], -place)
        yield (days[0], days_before(start, delay + 1)), (start, days_before(start, 1 - width))


def compare_split(
    rows: pd.DataFrame, train: tuple[str, str], compare: tuple[str, str], *, alerts_per_day: int
) -> Split:
    """Learn from what was known, and compare the lists of the later days."""
    day = rows["partition_key"].str[:10]
    learnt, later = (pd.DataFrame(rows[day.between(*part)]).reset_index(drop=True) for part in (train, compare))
    frauds = int(learnt["isFraud"].sum())
    if why := too_little(learnt):
        return Split(train, compare, frauds, None, "nothing", why)
    ranker = train_ranker(learnt).ranker
    probability = ranker.probability(later.loc[:, list(RANKER_FEATURES)].to_numpy("float64"))
    lists = compare_lists(later, probability, {}, alerts_per_day=alerts_per_day)
    decision = decide_ranker(lists, signature_matches=True, production=None, alerts_per_day=alerts_per_day)
    eight = supervised_scores(learnt, later)
    mixed = pd.DataFrame({"score": later["fraud_score"], "rule": rule_score(later)}).rank(pct=True).sum(axis=1)
    more = evaluate(later, {MIXED: Scores(mixed.to_numpy()), EIGHT: eight}, alerts_per_day=alerts_per_day)
    both = Evaluation({**more.estimates, **lists.estimates})
    ranked = later.assign(probability=probability)
    return Split(train, compare, frauds, both, decision.move, "; ".join(decision.reasons), ranked)


def together(splits: list[Split], *, alerts_per_day: int) -> Evaluation | None:
    """Compare the lists of all splits' days, each by its own ranker, with others; None where splits share days.

    One day of few alerts is little evidence; five of them are five times as much.
    """
    later = [one.later for one in splits if one.later is not None]
    days = [day for rows in later for day in rows["partition_key"].str[:10].unique()]
    if len(later) < 2 or len({*days}) < len(days):
        return None
    rows = pd.concat(later, ignore_index=True)
    return compare_lists(rows, rows["probability"].to_numpy("float64"), {}, alerts_per_day=alerts_per_day)


def shuffled(rows: pd.DataFrame, split: Split, *, tries: int, alerts_per_day: int) -> int:
    """Return how many of the tries are promoted when all labels are shuffled, of both kinds of days."""
    promoted = 0
    for seed in range(tries):
        mixed = rows.assign(isFraud=np.random.default_rng(seed).permutation(rows["isFraud"]))
        found = compare_split(mixed, split.train, split.compare, alerts_per_day=alerts_per_day)
        promoted += found.decision == "promoted"
    return promoted


def lines(name: str, splits: list[Split], alerts_per_day: int) -> Iterator[str]:
    """Yield a table as Markdown: a row per split, a column per list, the mean of the splits last."""
    at = f"{alerts_per_day}_a_day"
    yield f"\n{name}, {alerts_per_day} alerts a day: precision of each list"
    yield ""
    yield (
        "| learnt from | lists of | " + " | ".join(LISTS.values()) + " | ranker less forest | ranker less rule | gate |"
    )
    yield "|" + " --- |" * (len(LISTS) + 5)
    for one in splits:
        cells = [as_text(one.precision(list_, at)) for list_ in LISTS]
        less = [as_text(one.precision(minus(other), at), "+") for other in (FOREST, RULE)]
        learnt = f"{one.train[0]} to {one.train[1]}, {one.training_frauds:,} frauds"
        yield f"| {learnt} | {one.compare[0]} to {one.compare[1]} | {' | '.join([*cells, *less, one.decision])} |"
    means = []
    for list_ in LISTS:
        values = [value for one in splits if (value := one.precision(list_, at).value) is not None]
        means.append(f"**{np.mean(values):.2f}**" if values else "-")
    less = ["", ""]
    if (all_days := together(splits, alerts_per_day=alerts_per_day)) is not None:
        less = [as_text(all_days.estimate(minus(other), f"precision_at_{at}"), "+") for other in (FOREST, RULE)]
    promoted = sum(one.decision == "promoted" for one in splits)
    yield f"| mean, all days together | | {' | '.join([*means, *less])} | {promoted} of {len(splits)} |"


def microseconds_per_row(rows: pd.DataFrame) -> float:
    """Return how long a row takes to rank on one core, compiled, in batch."""
    ranker = train_ranker(rows).ranker
    X = np.resize(rows[list(RANKER_FEATURES)].to_numpy("float64"), (200_000, len(RANKER_FEATURES)))  # noqa: N806
    ranker.probability(X[:1])
    began = time.perf_counter()
    ranker.probability(X)
    return (time.perf_counter() - began) / len(X) * 1e6


def main() -> None:
    """Measure, print, and write build/lists.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description=__doc__)
    parser.add_argument("source", help="a packaged source, or the path of a source file")
    parser.add_argument("files", nargs="*", type=Path, help="raw files; none for synthetic days of `simulated`")
    parser.add_argument("--alerts-per-day", type=int, default=100)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--delay", type=int, default=7, help="days after which a label is known")
    parser.add_argument("--days", type=int, default=30, help="synthetic days")
    parser.add_argument("--rows-per-day", type=int, default=3000, help="rows of a synthetic day")
    parser.add_argument("--shuffled", type=int, default=0, help="tries with shuffled labels")
    chosen: Any = parser.parse_args()
    synthetic = chosen.source == "simulated" and not chosen.files
    splits: list[Split] = []
    rows = pd.DataFrame()
    for seed in range(chosen.splits if synthetic else 1):
        with tempfile.TemporaryDirectory() as folder:
            how = {"days": chosen.days, "rows_per_day": chosen.rows_per_day, "seed": 7 + seed}
            rows = rows_of(chosen.source, chosen.files, Path(folder), **how)
        days = sorted(rows["partition_key"].str[:10].unique())
        found = windows(days, splits=1 if synthetic else chosen.splits, delay=chosen.delay)
        splits += [compare_split(rows, *window, alerts_per_day=chosen.alerts_per_day) for window in found]
        print(f"{len(rows):,} rows of {len(days)} days, {int(rows['isFraud'].sum()):,} of them fraud", flush=True)
    name = f"simulated, {chosen.splits} seeds" if synthetic else Path(chosen.source).stem
    print("\n".join(lines(name, splits, chosen.alerts_per_day)))
    for one in splits:
        print(f"{one.compare[0]}: {one.decision}: {one.why}")
    speed = microseconds_per_row(rows)
    print(f"\nA row takes {speed:.2f} µs to rank on one core.")
    figures: dict[str, Any] = {"source": name, "microseconds_per_row": speed, "splits": []}
    for one in splits:
        lists = (
            {}
            if one.lists is None
            else {
                list_: {name: vars(estimate) for name, estimate in estimates.items()}
                for list_, estimates in one.lists.estimates.items()
            }
        )
        figures["splits"].append({"train": one.train, "compare": one.compare, "decision": one.decision, "lists": lists})
    if chosen.shuffled:
        latest = next(one for one in reversed(splits) if one.lists is not None)
        promoted = shuffled(rows, latest, tries=chosen.shuffled, alerts_per_day=chosen.alerts_per_day)
        print(f"Labels shuffled: {promoted} of {chosen.shuffled} tries were promoted.")
        figures["promoted_with_shuffled_labels"] = [promoted, chosen.shuffled]
    report = Path("build", "lists.json")
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"Written to {report}")


if __name__ == "__main__":
    main()
