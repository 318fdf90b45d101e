"""The command line `fraud-assets`: lands, does what is due, shows what is due and why, and what came out.

Each command is a few lines: what is due is decided in `fraud_assets.staleness`, what runs are Dagster's jobs. An
expected fault ends in one line that says what to do, never in a traceback.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click

from fraud_assets import console
from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.grain import record_grain, require_grain
from fraud_assets.resources.lake import READER_DATABASE, open_lake
from fraud_assets.resources.landing_zone import NothingLandedError, how_to_land
from fraud_assets.resources.models.promotions import apply_decision, reconcile
from fraud_assets.resources.platform import Platform
from fraud_assets.settings import load_settings, unknown_variables
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import load_source
from fraud_assets.staleness import decide


class _Command(click.Group):
    """Turns expected faults into one line and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FraudAssetsError as error:
            message = str(error)
        except BrokenPipeError:
            raise  # The reader of a pipe has seen enough; click ends quietly.
        except OSError as error:
            message = f"{error.strerror}: {error.filename}. Check FRAUD_DATA_DIR and its permissions."
        # Here, where the error is gone: its trace holds DuckDB's objects, and DuckDB would list them below the message.
        raise click.ClickException(message)


def _platform() -> Platform:
    for name, meant in unknown_variables().items():
        click.echo(f"Note: {name} is no setting{f'; did you mean {meant}?' if meant else '.'}", err=True)
    platform = Platform(load_settings())
    require_grain(platform.data_dir, platform.source)
    return platform


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fraud-assets")
def main() -> None:
    """Score card transactions for fraud: land files, run what is due, look at the result."""


@main.command()
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="First day. Default: the source's first.")
@click.option("--days", type=click.IntRange(min=1), default=30, show_default=True, help="How many days.")
@click.option("--rows-per-day", type=click.IntRange(min=1), default=3000, show_default=True)
@click.option("--profile", type=click.Choice(["default", "hard"]), default="default", show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--format", "file_format", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option("--dirt", is_flag=True, help="With a few bad rows, as real feeds have.")
def simulate(start: Any, days: int, rows_per_day: int, profile: Any, seed: int, file_format: Any, dirt: bool) -> None:
    """Land synthetic days of the source `simulated`."""
    from fraud_assets.simulator.writing import write_day

    platform = _platform()
    if platform.source.name != "simulated":
        raise click.ClickException(
            f"Synthetic days fit the source `simulated`; FRAUD_SOURCE is {platform.settings.source}. "
            "Unset it, or land your own files with `fraud-assets land FILE`."
        )
    first: date = start.date() if start else platform.source.partitions.start
    last = first + timedelta(days=days - 1)
    outside = [day for day in (first, last) if not platform.source.in_range(day.isoformat())]
    if outside:
        raise click.ClickException(
            f"{outside[0]} is outside the source `simulated`, {platform.source.first_key} up to, not including, "
            f"{platform.source.end_key}. For other days copy its source file and give it another start or end."
        )
    record_grain(platform.data_dir, platform.source)
    written = [
        write_day(
            first + timedelta(days=day),
            platform.landing_zone.folder,
            format=file_format,
            dirt=dirt,
            seed=seed,
            profile=profile,
            rows_per_day=rows_per_day,
        )
        for day in range(days)
    ]
    click.echo(
        f"Landed     {len(written)} synthetic days, {first} to {last}, in {console.shown(platform.landing_zone.folder)}"
    )


@main.command("try")
@click.argument("source_file", metavar="SOURCE.toml")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def try_source(source_file: str, files: tuple[Path, ...]) -> None:
    """Show what a source file makes of raw files: good rows, refused rows and why. Writes nothing."""
    from fraud_assets.silver.trial import try_files

    source = load_source(source_file)
    with open_lake(Path.cwd()).connect() as connection:
        trial = try_files(connection, source, [RawFile(path=file, name=file.name) for file in files])
    console.show_trial(trial, source, files, source_file=source_file)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Put the other files of the touched partitions aside.")
def land(files: tuple[Path, ...], replace: bool) -> None:
    """Split raw files into landing partitions by event time. Landing the same rows twice changes nothing."""
    platform = _platform()
    for file in files:
        with platform.lake.connect() as connection:
            console.show_landed(file, platform.landing_zone.land(connection, file, replace=replace))
    for note in platform.landing_zone.look().notes:
        click.echo(f"Note       {note}")


@main.command()
def run() -> None:
    """Do whatever is due, in the foreground: build Silver, train a first model, score."""
    platform = _platform()
    landing = platform.look()
    if not landing.partitions:
        for note in landing.notes:
            click.echo(f"Note       {note}")
        what = "that can be built landed" if landing.notes else "landed"
        raise NothingLandedError(f"Nothing {what} in {console.shown(platform.landing_zone.folder)}", platform.source)
    from fraud_assets.automation.foreground import run_due
    from fraud_assets.definitions import build_definitions

    with _instance() as instance:
        problems = console.show_progress(run_due(build_definitions(platform.settings), instance, platform))
    platform.lake.publish_views()
    console.show_summary(platform.lake, platform.model_registry, landing=platform.landing_zone.look())
    if problems:
        raise click.exceptions.Exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: everything, as one JSON object.")
def status(as_json: bool) -> None:
    """Show each partition and the model: what is due and why. Changes nothing."""
    platform = _platform()
    landing = platform.look()
    state, labels = platform.state(landing), platform.labels(landing)
    plan = decide(state, platform.stages)
    if as_json:
        feed = {"feed": platform.source.name, "source": platform.settings.source, "data_dir": str(platform.data_dir)}
        click.echo(json.dumps(feed | console.status_of(state, plan, landing, labels), indent=2))
    else:
        source_file = platform.settings.source
        click.echo(f"Feed {platform.source.name} ({source_file}), data in {console.shown(platform.data_dir)}\n")
        console.show_status(state, plan, landing, platform.lake, labels)
        if not state.landed and not state.silver:
            click.echo(f"Nothing landed yet. {how_to_land(platform.source)}")
        if (platform.data_dir / READER_DATABASE).exists():
            console.show_next(platform.data_dir, platform.model_registry.tracking_uri)


@main.command()
@click.argument("version")
@click.option("--by", "decided_by", help="Who decides. Default: the user of this machine.")
@click.option("--reason", default="promoted by hand", show_default=True, help="Why; it is recorded.")
def promote(version: str, decided_by: str | None, reason: str) -> None:
    """Put a registered version behind @prod, whatever the gate said, on the record."""
    platform = _platform()
    reconcile(platform.lake, platform.model_registry)
    if version == platform.model_registry.prod_version():
        click.echo(f"Version {version} is behind @prod already.")
        return
    platform.model_registry.verify(version)  # else every scoring after this would refuse it
    decided = apply_decision(
        platform.lake,
        platform.model_registry,
        version,
        move="promoted",
        decided_by=decided_by or _user(),
        reason=reason,
        provenance={"command": "promote"},
    )
    click.echo(f"@prod      version {version} (before: {decided['previous_version'] or 'none'})")


@main.command()
@click.option("--by", "decided_by", help="Who decides. Default: the user of this machine.")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why; it is recorded.")
def rollback(decided_by: str | None, reason: str) -> None:
    """Put the version that was behind @prod before back there; again, the one before that."""
    platform = _platform()
    decided = apply_decision(
        platform.lake,
        platform.model_registry,
        None,
        move="rolled back",
        decided_by=decided_by or _user(),
        reason=reason,
        provenance={"command": "rollback"},
    )
    version, before = decided["model_version"], decided["previous_version"] or "none"
    click.echo(f"@prod      version {version} (before: {before}). Scored partitions keep their version.")


@main.command()
@click.argument("day")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write them to a CSV file.")
@click.option("--xlsx", "xlsx_file", type=click.Path(dir_okay=False, path_type=Path), help="Write them to a workbook.")
def alerts(day: str, csv_file: Path | None, xlsx_file: Path | None) -> None:
    """Show the alerts of a day, e.g. 2026-01-28, card by card with their reasons; or write them to a spreadsheet.

    A spreadsheet has empty columns for decisions; `fraud-assets review FILE` takes it back.
    """
    from fraud_assets import console_alerts

    listed = console_alerts.read_day(_platform().lake, day)
    for file, write in ((csv_file, console_alerts.write_csv), (xlsx_file, console_alerts.write_xlsx)):
        if file is not None:
            write(file, listed)
            click.echo(f"Written    {len(listed.alerts):,} alerts to {console.shown(file.absolute())}")
    if csv_file is None and xlsx_file is None:
        console_alerts.show(listed)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--by", "reviewer", help="Who decided, where the file does not say. Default: the user of this machine.")
def review(file: Path, reviewer: str | None) -> None:
    """Take decisions about alerts from a CSV file or workbook: TransactionID and outcome (fraud, genuine or unsure).

    The same decisions read twice count once. Of several decisions about a transaction the one made last counts.
    """
    from fraud_assets import console_alerts

    platform = _platform()
    console_alerts.take_reviews(file, platform.lake, platform.landing_zone, reviewer=reviewer or _user())


@main.command("mlflow-uri")
def mlflow_uri() -> None:
    """Print the address of the feed's MLflow store, made ready: `mlflow server --backend-store-uri` shows it."""
    registry = _platform().model_registry
    if registry.tracking_uri.startswith("http"):
        raise click.ClickException(f"MLflow is served already: open {registry.tracking_uri}.")
    registry.prepare()
    click.echo(registry.tracking_uri)


def _user() -> str:
    return os.environ.get("USER") or "a person"


@main.command()
@click.argument("query")
def sql(query: str) -> None:
    """Query the tables, read-only, e.g. "FROM gold.fraud_predictions ORDER BY fraud_score DESC LIMIT 5"."""
    platform = _platform()
    platform.lake.publish_views()
    console.show_query(platform.lake, query)


@contextmanager
def _instance() -> Iterator[Any]:
    """Give the Dagster instance that `dagster dev` would use here, or one that forgets where there is none."""
    import dagster as dg

    home: Callable[[], dg.DagsterInstance] | None = None
    if os.environ.get("DAGSTER_HOME"):
        home = dg.DagsterInstance.get
    elif (folder := Path.cwd() / "dagster_home").exists():
        home = lambda: dg.DagsterInstance.from_config(str(folder))  # noqa: E731
    with (home or dg.DagsterInstance.ephemeral)() as instance:
        yield instance


if __name__ == "__main__":
    sys.exit(main())
