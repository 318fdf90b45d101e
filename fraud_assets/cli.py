"""The command line `fraud-assets`: lands, does what is due, shows what is due and why, and what came out.

Each command is a few lines: what is due is decided in `fraud_assets.staleness`, what runs are Dagster's jobs. An
expected fault ends in one line that says what to do, never in a traceback.
"""

import json
import os
import sys
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from fraud_assets import console
from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.promotion import Move, version_before
from fraud_assets.resources.data_format import require_format
from fraud_assets.resources.grain import record_grain, require_grain
from fraud_assets.resources.lake import READER_DATABASE, open_lake
from fraud_assets.resources.landing_zone import NothingLandedError, how_to_land
from fraud_assets.resources.models.promotions import apply_decision, decisions, reconcile
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import SILVER_TRANSACTIONS
from fraud_assets.settings import load_settings, unknown_variables
from fraud_assets.silver.raw_files import SUFFIXES, RawFile
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
    require_format(platform.data_dir)  # before anything follows a move, or records what was seen
    require_grain(platform.data_dir, platform.source)
    return platform


def _elsewhere(platform: Platform) -> str:
    """Say where the feed's data may lie instead: in a directory above, as whoever went below it finds it."""
    for place in Path.cwd().parents:
        if platform.settings.data_dir is None and (place / "data" / platform.source.name / "landing").is_dir():
            return f" (some landed in {place}: `cd {place}`)"
    return " (where it did in another directory, `cd` there, or `export FRAUD_DATA_DIR=PLACE`)"


def _require_files(files: tuple[Path, ...]) -> None:
    """Raise where a raw file is none, with the name that may have been meant."""
    for file in files:
        if file.suffix == ".toml" and file.is_file():
            raise click.ClickException(f"{file} is a source file: `export FRAUD_SOURCE={file}`, then land raw files.")
        if not file.is_file():
            beside = [str(one) for one in file.parent.glob("*") if one.name.lower().endswith(SUFFIXES)]
            meant = "".join(f" Did you mean {like}?" for like in get_close_matches(str(file), beside, 1))
            raise click.ClickException(f"There is no file {file.absolute()}.{meant}")


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
    if advice := platform.source.outside_advice(day.isoformat() for day in {first, last}):
        raise click.ClickException(f"{advice}, in a copy of it that FRAUD_SOURCE names.")
    record_grain(platform.data_dir, platform.source)
    folder = platform.landing_zone.folder
    how: Any = {"format": file_format, "dirt": dirt, "seed": seed, "profile": profile, "rows_per_day": rows_per_day}
    for day in range(days):
        write_day(first + timedelta(days=day), folder, **how)
    click.echo(f"Landed     {days} synthetic days, {first} to {last}, in {console.shown(folder)}")


@main.command("try")
@click.argument("source_file", metavar="SOURCE.toml")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def try_source(source_file: str, files: tuple[Path, ...]) -> None:
    """Show what a source file makes of raw files: good rows, refused rows and why. Writes nothing."""
    from fraud_assets.silver.trial import try_files

    if any(file.suffix == ".toml" for file in files):
        in_order = sorted([source_file, *map(str, files)], key=lambda one: not one.endswith(".toml"))
        raise click.ClickException(f"The source file comes first: `fraud-assets try {' '.join(in_order)}`.")
    _require_files(files)
    source = load_source(source_file)
    with open_lake(Path.cwd()).connect() as connection:
        trial = try_files(connection, source, [RawFile(path=file, name=file.name) for file in files])
    console.show_trial(trial, source, files, source_file=source_file)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Put the other files of the touched partitions aside.")
def land(files: tuple[Path, ...], replace: bool) -> None:
    """Split raw files into landing partitions by event time. Landing the same rows twice changes nothing."""
    platform = _platform()
    _require_files(files)
    for file in files:
        with platform.lake.connect() as connection:
            console.show_landed(file, platform.landing_zone.land(connection, file, replace=replace))
    for note in platform.landing_zone.look().notes:
        click.echo(f"Note       {note}")


@main.command()
def run() -> None:
    """Do whatever is due, in the foreground: build Silver, train a first model, score, list alerts, write pages."""
    platform = _platform()
    landing = platform.look()
    if not landing.partitions and platform.lake.version(SILVER_TRANSACTIONS) is None:
        for note in landing.notes:
            click.echo(f"Note       {note}")
        what = "that can be built landed" if landing.notes else "landed"
        what = f"Nothing {what} in {console.shown(platform.landing_zone.folder)}{_elsewhere(platform)}"
        raise NothingLandedError(what, platform.source)
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
            click.echo(f"Nothing landed yet{_elsewhere(platform)}. {how_to_land(platform.source)}")
        if (platform.data_dir / READER_DATABASE).exists():
            console.show_next(platform.data_dir, platform.model_registry.tracking_uri)


_RANKER = click.option("--ranker", "is_ranker", is_flag=True, help="Of the model that orders alerts.")

_BY = click.option("--by", "decided_by", envvar="USER", default="a person", help="Who decides. Default: $USER.")


@main.command()
@click.option("--send", is_flag=True, help="Send what was not sent yet to FRAUD_NOTIFY, and remember it.")
def incidents(send: bool) -> None:
    """Show what is wrong now; end with status 1 where anything is. A timer that calls it notices a dead daemon."""
    from fraud_assets.automation.notifications import Watch, notified_of
    from fraud_assets.incidents import incidents as find_incidents

    platform = _platform()
    with _instance(must_remember=True) as instance:
        watch, notified = Watch(platform, instance), notified_of(platform)
        known = notified.known()
        facts = watch.facts(now=datetime.now(tz=UTC), watched_since=None)
        found = watch.explained(find_incidents(facts, known))
    problems = notified.tell(found, log=lambda _: None) if send else []
    for line in (*console.incident_lines(found), *problems):
        click.echo(line)
    if found or problems:
        raise click.exceptions.Exit(1)


@main.command("maintain")
def maintain_platform() -> None:
    """Remove what nobody needs any more, as maintenance_schedule does every day; changes no row."""
    from fraud_assets.automation.maintenance import maintain

    platform, now = _platform(), datetime.now(tz=UTC)
    with _instance(must_remember=True) as instance:
        done = maintain(platform, instance, retention_hours=platform.settings.retention_hours, now=now)
    for name, value in done.summary().items():
        click.echo(f"{name:<20} {value:>15,}")


@main.command()
@click.argument("version")
@_BY
@_RANKER
@click.option("--reason", default="promoted by hand", show_default=True, help="Why; it is recorded.")
def promote(version: str, decided_by: str, is_ranker: bool, reason: str) -> None:
    """Put a registered version behind @prod, whatever the gate said, on the record."""
    platform = _platform()
    registry = platform.ranker_registry if is_ranker else platform.model_registry
    reconcile(platform.lake, registry)
    if version == registry.prod_version():
        click.echo(f"Version {version} is behind @prod already.")
        return
    registry.verify(version)  # else every scoring after this would refuse it
    _decide(platform, registry, version, "promoted", decided_by, reason)


@main.command()
@_BY
@_RANKER
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why; it is recorded.")
def rollback(decided_by: str, is_ranker: bool, reason: str) -> None:
    """Put the version that was behind @prod before back there; again, the one before that."""
    platform = _platform()
    registry = platform.ranker_registry if is_ranker else platform.model_registry
    reconcile(platform.lake, registry)
    version = version_before(decisions(platform.lake, registry.record))
    try:
        if version is not None:
            registry.verify(version)
    except FraudAssetsError as error:
        raise click.ClickException(
            f"A rollback leads to version {version}, which cannot be used: nothing was moved. "
            f"`fraud-assets promote VERSION` puts another one behind @prod. {error}"
        ) from error
    _decide(platform, registry, version, "rolled back", decided_by, reason)


def _decide(
    platform: Platform, registry: ModelRegistry, version: str | None, move: Move, decided_by: str, reason: str
) -> None:
    command = str(click.get_current_context().info_name)
    how: Any = {"move": move, "decided_by": decided_by, "reason": reason, "provenance": {"command": command}}
    row = apply_decision(platform.lake, registry, version, **how)
    before, kept = row["previous_version"] or "none", "Ranked lists" if registry.is_ranker else "Scored partitions"
    click.echo(f"@prod      version {row['model_version']} (before: {before}). {kept} keep their version.")


@main.command()
@click.argument("day")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write them to a CSV file.")
@click.option("--xlsx", "xlsx_file", type=click.Path(dir_okay=False, path_type=Path), help="Write them to a workbook.")
def alerts(day: str, csv_file: Path | None, xlsx_file: Path | None) -> None:
    """Show the alerts of a day, e.g. 2026-01-28, card by card with their reasons; or write them to a spreadsheet.

    Transactions that were drawn for review beside them come last.

    A spreadsheet has empty columns for decisions; `fraud-assets review FILE` takes it back.
    """
    from fraud_assets import console_alerts

    listed = console_alerts.read_day(_platform().lake, day)
    more = f" and {len(listed.drawn):,} drawn transactions" if listed.drawn else ""
    for file, write in ((csv_file, console_alerts.write_csv), (xlsx_file, console_alerts.write_xlsx)):
        if file is not None:
            write(file, listed)
            click.echo(f"Written    {len(listed.alerts):,} alerts{more} to {console.shown(file.absolute())}")
    if csv_file is None and xlsx_file is None:
        console_alerts.show(listed)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--by",
    "reviewer",
    envvar="USER",
    default="a person",
    help="Who decided, where the file does not say. Default: $USER.",
)
def review(file: Path, reviewer: str) -> None:
    """Take decisions about alerts from a CSV file or workbook: TransactionID and outcome (fraud, genuine or unsure).

    The same decisions read twice count once. Of several decisions about a transaction the one made last counts.
    """
    from fraud_assets import console_alerts

    platform = _platform()
    console_alerts.take_reviews(file, platform.lake, platform.landing_zone, reviewer=reviewer)


@main.command("mlflow-uri")
def mlflow_uri() -> None:
    """Print the address of the feed's MLflow store, made ready: `mlflow server --backend-store-uri` shows it."""
    registry = _platform().model_registry
    if registry.tracking_uri.startswith("http"):
        raise click.ClickException(f"MLflow is served already: open {registry.tracking_uri}.")
    registry.prepare()
    click.echo(registry.tracking_uri)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one needs FRAUD_SERVE_TOKEN.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--land", is_flag=True, help="Keep each transaction durably, and land it for the batch.")
def serve(host: str, port: int, land: bool) -> None:
    """Score transactions over HTTP, one by one, as Gold will score them."""
    _platform()
    # A process of its own kind: what this one has imported would be a third of its memory.
    command = [sys.executable, "-m", "fraud_assets.serve", f"--host={host}", f"--port={port}"]
    click.echo(f"Serving    http://{host}:{port}  (/score, /ready, /metrics, /openapi.json; a page for people at /)")
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *(["--land"] if land else [])])


@main.group("spark")
def spark_commands() -> None:
    """Build and score with Spark: the same tables, by another producer (extra [spark], Java 17)."""


@spark_commands.command("run")
@click.argument("partitions", nargs=-1)
def spark_run(partitions: tuple[str, ...]) -> None:
    """Build and score what is due, of all partitions or of these, e.g. 2026-01-05."""
    from fraud_assets import console_spark

    if console_spark.run(_platform(), partitions):
        raise click.exceptions.Exit(1)


_OVER = click.option("--over", type=click.Choice(["landing", "silver"]), default="landing", show_default=True)


@spark_commands.command("stream")
@_OVER
@click.option("--once", is_flag=True, help="End when there is no file left that was not seen.")
@click.option("--every", "seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Seconds.")
def spark_stream(over: Any, once: bool, seconds: float) -> None:
    """Build and score whenever files land (or, over silver, score whenever Silver is built), in micro-batches."""
    from fraud_assets import console_spark

    console_spark.stream(_platform(), over=over, once=once, seconds=seconds)


@spark_commands.command("reset")
@_OVER
@click.option("--yes", is_flag=True, help="Needed: there is no way back.")
def spark_reset(over: Any, yes: bool) -> None:
    """Forget which files a stream has seen, for development. No table changes."""
    from fraud_assets.spark.stream import reset

    click.echo(f"Forgotten  {reset(_platform().data_dir, over, yes=yes)} batches")


@main.command()
@click.argument("query")
def sql(query: str) -> None:
    """Query the tables, read-only, e.g. "FROM gold.fraud_predictions ORDER BY fraud_score DESC LIMIT 5"."""
    platform = _platform()
    platform.lake.publish_views()
    console.show_query(platform.lake, query)


def _instance(*, must_remember: bool = False) -> Any:
    """Return the Dagster instance that `dagster dev` would use here, or one that forgets where there is none.

    Who judges or tidies by its records `must_remember`: by one that forgets no daemon is dead and no run failed.
    """
    import dagster as dg

    if os.environ.get("DAGSTER_HOME"):
        return dg.DagsterInstance.get()
    folder = Path.cwd() / "dagster_home"
    if folder.exists():
        return dg.DagsterInstance.from_config(str(folder))
    if must_remember:
        raise click.ClickException(
            f"Nothing is known of Dagster's runs and sensors in {Path.cwd()}: `export DAGSTER_HOME=PLACE`, or `cd` to "
            "the clone, where dagster_home/ lies."
        )
    return dg.DagsterInstance.ephemeral()


if __name__ == "__main__":
    sys.exit(main())
