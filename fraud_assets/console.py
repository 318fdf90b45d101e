"""What the command line says: words and tables for a person at a terminal. Decides nothing, changes nothing."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click
import duckdb

from fraud_assets.gold.predictions import most_suspicious
from fraud_assets.incidents import Incident, messages
from fraud_assets.model.estimates import FOREST, ROWS, quality_notes, quality_table
from fraud_assets.model.records import evaluation_of
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import Landed, Landing
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import EVALUATION_METRICS, PARTITION_BUILDS, PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.labels import LateLabels
from fraud_assets.silver.source import Source
from fraud_assets.staleness import Due, Plan

if TYPE_CHECKING:
    from fraud_assets.automation.foreground import Ended, Started
    from fraud_assets.silver.trial import Trial

_SHOWN_ROWS = 1_000
"""More than a person reads at a terminal."""


def shown(path: Path) -> str:
    """Return a path as a person would type it: relative where it lies below here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def table(names: Sequence[str], rows: Iterable[Sequence[Any]], *, indent: str = "  ") -> str:
    """Return rows as aligned text: numbers to the right, words to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    values = [list(names), *cells]
    widths = [max(len(row[column]) for row in values) for column in range(len(names))]
    is_number = [
        all(cell == "-" or (cell[:1] in "0123456789-" and cell[-1:] in "0123456789%") for cell in column)
        for column in zip(*cells, strict=True)
    ] or [False] * len(names)
    return "\n".join(
        indent
        + "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in values
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:,.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("\r", "\\r").replace("\n", "\\n")


# run


def show_progress(steps: Iterable["Started | Ended"]) -> list[str]:
    """Print a line for each run as it ends, and return what went wrong."""
    from fraud_assets.automation.foreground import Started

    problems, done = [], 0
    for step in steps:
        request, keys = step.request, [key for key in step.request.keys if key]
        what = f"version {request.model_version}" if request.model_version else "training"
        if keys:
            what = f"{len(keys)} partition{'s' * (len(keys) != 1)}, {keys[0]} to {keys[-1]}"
        stage = f"{request.stage.capitalize():<10} {what}"
        if isinstance(step, Started):
            if sys.stdout.isatty():
                click.echo(f"{stage} ...\r", nl=False)
            continue
        done += 1
        click.echo(f"{stage}: {'failed' if step.problem else 'done'} in {step.seconds:.0f} s")
        for line in step.problem.splitlines():
            click.echo(f"{'':<10} {line}", err=True)
        if step.problem:
            problems.append(step.problem)
    if not done:
        click.echo("Nothing is due.")
    return problems


def show_summary(lake: Lake, model_registry: ModelRegistry, *, landing: Landing) -> None:
    """Print what landed, what was built, how good the model is, and the five most suspicious transactions."""
    builds = lake.partition_states(PARTITION_BUILDS, ("landed_rows", "quarantined_rows"))
    silver, gold = (lake.partition_states(table, ()) for table in (SILVER_TRANSACTIONS, PREDICTIONS))
    landed, quarantined = (
        sum(build[name] for build in builds.values()) for name in ("landed_rows", "quarantined_rows")
    )
    good, scored = (sum(state["rows"] for state in states.values()) for states in (silver, gold))
    equal = sum(silver.get(key) == gold.get(key) for key in builds)
    click.echo(f"\n  landed       {landed:>10,} rows in {len(landing.partitions)} partitions")
    click.echo(f"  Silver       {good:>10,} rows")
    click.echo(f"  quarantined  {quarantined:>10,} rows (Silver + quarantined = {good + quarantined:,})")
    click.echo(f"  Gold         {scored:>10,} rows (as many as Silver in {equal} of {len(builds)} partitions)")
    for note in landing.notes:
        click.echo(f"  note         {note}")
    version = model_registry.prod_version()
    if version is None:
        click.echo("\n  No model version is behind @prod; `fraud-assets status` says what is due.")
        return
    click.echo(f"\n  Model        {model_registry.model_name}, version {version} behind @prod")
    _show_quality(lake.rows(EVALUATION_METRICS, keys=[version]))
    click.echo("\n  The five most suspicious transactions (higher scores are more suspicious):\n")
    with lake.connect() as connection:
        _, top = most_suspicious(connection, lake.select(PREDICTIONS))
    names = ["TransactionID", "time (UTC)", "amount", "card", "fraud_score", "score_percentile"]
    rows = [[name, f"{time:%Y-%m-%d %H:%M:%S}", f"{amount:,.2f}", *rest] for name, time, amount, *rest in top]
    click.echo(table(names, rows, indent="    "))


def _show_quality(metrics: Sequence[Mapping[str, Any]]) -> None:
    measured = evaluation_of(metrics)
    unknown = measured and measured.estimate(FOREST, "roc_auc").not_measurable
    if measured is None:
        click.echo("  Quality      not evaluated here")
    elif unknown is not None:
        click.echo(f"  Quality      not measurable: {unknown}")
    else:
        window = f"{metrics[0]['evaluation_start']} to {metrics[0]['evaluation_end']}"
        labelled = int(measured.estimate(ROWS, "labelled_rows").value or 0)
        click.echo(f"  Quality      on {labelled:,} labelled rows of {window}, later than the training")
        click.echo("               (in brackets the 95 % interval)\n")
        click.echo(table(*quality_table(measured), indent="    "))
        for note in quality_notes(measured):
            click.echo(f"    {note}")


def show_next(data_dir: Path, tracking_uri: str) -> None:
    """Print where things are and how to go on."""
    click.echo(f"\nTables for any DuckDB client: {shown(data_dir / 'fraud.duckdb')}. To go on:\n")
    if sys.prefix != sys.base_prefix and "VIRTUAL_ENV" not in os.environ:
        click.echo(f"  . {shown(Path(sys.prefix))}/bin/activate")
    click.echo(f"  export MLFLOW_TRACKING_URI={tracking_uri}")
    click.echo('  fraud-assets sql "FROM gold.fraud_predictions ORDER BY fraud_score DESC LIMIT 20"')
    click.echo("  make dev       # the Dagster UI, with the sensors on")
    click.echo("  make mlflow    # the MLflow UI")
    if (index := data_dir / "reports" / "index.html").exists():
        click.echo(f"\nThe report, for a browser: {shown(index)}")


# status


def status_of(state: PlatformState, plan: Plan, landing: Landing, labels: LateLabels | None) -> dict[str, Any]:
    """Return the status as plain values: what is due, the partitions, the model, late labels, notes."""
    return {
        "due": [vars(due) for due in plan.due],
        "prod_version": state.prod_version,
        "partitions": {
            key: {"landed": str(state.landed[key]) if key in state.landed else None}
            | {
                stage: {**made[key].of, "rows": made[key].rows} if key in made else None
                for stage, made in state.made.items()
            }
            for key in _keys(state)
        },
        "late_labels": labels and vars(labels),
        "notes": _notes(landing, state, labels, plan),
    }


def show_status(state: PlatformState, plan: Plan, landing: Landing, lake: Lake, labels: LateLabels | None) -> None:
    """Print partitions, compressed to ranges that are alike, then the model and late labels, then what is due."""
    due: dict[str, list[Due]] = {}
    for item in plan.due:
        due.setdefault(item.key, []).append(item)
    built = lake.partition_states(PARTITION_BUILDS, ("landed_rows", "quarantined_rows"))
    rows: list[list[Any]] = []
    for key in _keys(state):
        silver, gold, counts = state.silver.get(key), state.gold.get(key), built.get(key, {})
        why = "; ".join(f"{item.stage.capitalize()}: {item.why}" for item in due.get(key, [])) or "up to date"
        version = gold.of["model_version"] if gold else "-"
        landed, quarantined = counts.get("landed_rows"), counts.get("quarantined_rows")
        figures = [landed, silver and silver.rows, quarantined, gold and gold.rows]
        if rows and rows[-1][6:] == [version, why]:
            known = ([one for one in pair if one is not None] for pair in zip(rows[-1][2:6], figures, strict=True))
            rows[-1][1:6] = [key, *(sum(pair) if pair else None for pair in known)]
        else:
            rows.append([key, key, *figures, version, why])
    if rows:
        names = ["partitions", "landed", "Silver", "quarantined", "Gold", "model", "state"]
        ranges = [[first if first == last else f"{first} to {last}", *rest] for first, last, *rest in rows]
        click.echo(table(names, ranges, indent=""))
    model = f"version {state.prod_version} behind @prod" if state.prod_version else "no version behind @prod"
    click.echo(f"\nModel: {model}{''.join(f'; due: {item.why}' for item in due.get('', []))}")
    if labels is not None:
        click.echo(f"Labels: {labels.summary()}")
    for note in _notes(landing, state, labels, plan):
        click.echo(f"Note: {note}")
    if plan.due:
        click.echo(f"\n{len(plan.due)} due. `fraud-assets run` does it now; `make dev` does it as things land.")
    elif rows:
        click.echo("\nNothing is due.")


def _keys(state: PlatformState) -> list[str]:
    return sorted({*state.landed, *(key for made in state.made.values() for key in made)})


def _notes(landing: Landing, state: PlatformState, labels: LateLabels | None, plan: Plan) -> list[str]:
    """Return what a person should know beside what is due."""
    removed = [key for key in sorted(state.silver) if key not in state.landed]
    return [
        *plan.notes,
        *landing.notes,
        *(f"landing/{key} is gone; its Silver and Gold stay" for key in removed),
        *(f"not read, none of its labels count: landing/{why}" for why in (labels.broken.values() if labels else ())),
    ]


def incident_lines(found: Sequence[Incident]) -> list[str]:
    """Return what a person reads of incidents: one paragraph for all of one kind and subject."""
    told = messages((), found)
    return [f"{message.title}\n{indent(message.body, '  ')}" for message in told] or ["Nothing is wrong."]


# land, try, sql


def show_landed(file: Path, landed: Landed) -> None:
    """Print what became of one landed file."""
    pieces = landed.pieces
    new = [piece for piece in pieces if piece.is_new]
    records = sum(piece.records for piece in pieces)
    keys = [piece.partition_key for piece in pieces]
    where = f"{len(keys)} partitions, {keys[0]} to {keys[-1]}" if keys else "no partition: it has no records"
    known = len(pieces) - len(new)
    before = f" ({known} landed before{'' if new else ': nothing changed'})" if known else ""
    click.echo(f"Landed     {file.name}: {records:,} records in {where}{before}")
    for name in landed.put_aside:
        click.echo(f"Put aside  {name}")
    for note in landed.notes:
        click.echo(f"Note       {note}")


def show_trial(trial: "Trial", source: Source, files: Sequence[Path], *, source_file: str) -> None:
    """Print what a source makes of files."""
    from fraud_assets.silver.cleaning import REASONS, reason_kind
    from fraud_assets.silver.trial import PERCENTILES

    result = trial.result
    names = ", ".join(file.name for file in files)
    click.echo(f"{names}: {result.landed:,} records = {result.good:,} good + {result.quarantined:,} to quarantine")
    if result.good:
        grain = source.partitions.grain
        click.echo(f"  {trial.first} to {trial.last}: {trial.partitions} {grain} partitions")
        labels = f"{trial.labelled:,} rows, {trial.frauds:,} of them fraud" if trial.labelled else "none"
        click.echo(f"  labels: {labels}")
        amounts = zip(PERCENTILES, trial.amounts or (), strict=False)
        click.echo(f"  amounts: {', '.join(f'{share:.1%} up to {amount:,.2f}' for share, amount in amounts)}")
    if result.reasons:
        meanings = [[reason, count, REASONS[reason_kind(reason)]] for reason, count in result.reasons.items()]
        click.echo(f"\nTo quarantine\n\n{table(['reason', 'rows', 'meaning'], meanings)}")
        examples = [[reason, file, line, raw_row[:100]] for reason, file, line, raw_row in trial.refused]
        click.echo(f"\nFor example\n\n{table(['reason', 'file', 'line', 'raw row'], examples)}")
    for sentence in trial.advice:
        click.echo(f"\n{sentence}")
    click.echo(f"\nGood rows\n\n{table(trial.columns, trial.good)}")
    if result.landed and not trial.timed:
        raise click.ClickException("No row has a usable time, so that none of them could land: mend event_timestamp.")
    if result.landed and not result.good:
        raise click.ClickException("No row is good: mend the source file by what is said above.")
    click.echo("\nNothing was written. To go on:\n")
    landed = " ".join(map(shown, files))
    click.echo(f"  export FRAUD_SOURCE={source_file}\n  fraud-assets land {landed}\n  fraud-assets run")


def show_query(lake: Lake, query: str) -> None:
    """Print the answer of a query over the read-only views."""
    with lake.read_views() as connection:
        try:
            answer = connection.sql(query)
            rows = [] if answer is None else answer.limit(_SHOWN_ROWS + 1).fetchall()
        except duckdb.Error as error:
            raise click.ClickException(str(error)) from error
        if answer is not None:
            click.echo(table(answer.columns, rows[:_SHOWN_ROWS], indent=""))
            if len(rows) > _SHOWN_ROWS:
                click.echo(f"... the first {_SHOWN_ROWS:,} rows; add LIMIT, or open the file with a DuckDB client")
