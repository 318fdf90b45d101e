"""Which partitions a check looks at: those of the run it is part of, or all where it is run by itself."""

import dagster as dg

from fraud_assets.assets.partition_runs import covered_keys


def checked_keys(context: dg.AssetCheckExecutionContext, built: list[str]) -> list[str]:
    """Return the keys among `built` that the run covers; all of them for a run without partitions."""
    return covered_keys(context.run.tags, built) or built
