"""What the commands of `fraud-assets spark` do and print; what is done is `fraud_assets.spark`'s."""

from collections.abc import Iterable, Sequence

import click

from fraud_assets.resources.landing_zone import NothingLandedError
from fraud_assets.resources.platform import Platform
from fraud_assets.spark.jobs import SparkJobs, summary
from fraud_assets.spark.producer import Done, Producer
from fraud_assets.spark.session import open_session, require_spark, spark_options
from fraud_assets.spark.stream import Batch, Over, Stream


def run(platform: Platform, partitions: Sequence[str]) -> bool:
    """Do with Spark what is due of these partitions, or of all; return whether any was refused."""
    require_spark()
    landed = platform.look().partitions
    if missing := [key for key in partitions if key not in landed]:
        raise NothingLandedError(f"Nothing landed for {', '.join(missing)}", platform.source)
    producer = _producer(platform)
    done = []
    for one in producer.do_due(partitions):
        _show([one])
        done.append(one)
    platform.lake.publish_views()
    if not done:
        click.echo("Spark      0 rows: nothing is due")
    else:
        found = summary(producer.jobs.figures)
        spill = f"{found['spark_spilled_bytes']:,} bytes spilled"
        click.echo(f"Spark      {found['spark_tasks']:,} tasks, skew {found['spark_skew']}, {spill}")
    if platform.model_registry.prod_version() is None:
        click.echo(
            "Note       no version is behind @prod, so that nothing is scored: `fraud-assets run` trains the first"
        )
    return any(one.refused for one in done)


def stream(platform: Platform, *, over: Over, once: bool, seconds: float) -> None:
    """Do with Spark what is due whenever files appear."""
    require_spark()

    def tell(batch: Batch | None, number: int | None) -> None:
        if batch is None:
            click.echo(f"0 rows: nothing new since {'the beginning' if number is None else f'checkpoint {number}'}")
        else:
            click.echo(f"Batch {number:<5}{batch.files:,} new files, {batch.rows:,} rows written")
            _show(batch.done)

    Stream(_producer(platform), over).run(once=once, seconds=seconds, tell=tell)


def _producer(platform: Platform) -> Producer:
    return Producer(platform, SparkJobs(open_session(spark_options(platform.settings))))


def _show(done: Iterable[Done]) -> None:
    for one in done:
        first, last = (one.keys[0], one.keys[-1]) if one.keys else ("", "")
        span = first if first == last else f"{first}...{last}"
        by = f", by version {one.model_version}" if one.model_version else ""
        if one.keys:
            click.echo(f"{one.stage.capitalize():<11}{span}: {len(one.keys):,} partitions, {one.rows:,} rows{by}")
        for problem in one.refused:
            click.echo(f"Refused    {problem}")
