"""The feed's partitions, as Dagster knows them. Grain, start and end stand in the source file."""

import dagster as dg

from fraud_assets.partition_keys import KEY_FORMATS
from fraud_assets.silver.source import Source


def partitions_of(source: Source) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of `source`, the running day or hour included: it is scored while it fills."""
    hourly = source.partitions.grain == "hourly"
    return (dg.HourlyPartitionsDefinition if hourly else dg.DailyPartitionsDefinition)(
        start_date=source.first_key,
        end_date=source.end_key,
        fmt=KEY_FORMATS[source.partitions.grain],
        timezone="UTC",
        end_offset=1,
    )
