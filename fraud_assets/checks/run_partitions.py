"""Which partitions a check looks at: those of the run it is part of, or all where it is run by itself."""

import dagster as dg


def checked_keys(context: dg.AssetCheckExecutionContext, built: list[str]) -> list[str]:
    """Return the keys among `built` that the run covers; all of them for a run without partitions."""
    tags = context.run.tags
    first = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    last = tags.get("dagster/asset_partition_range_end") or first
    return [key for key in built if first is None or last is None or first <= key <= last]
