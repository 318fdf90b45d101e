"""The jobs that sensors, schedules and `fraud-assets run` launch: which assets one run covers."""

import dagster as dg

from fraud_assets.staleness import Layer, Request

FIRST_PARTITION_TAG = "dagster/asset_partition_range_start"
LAST_PARTITION_TAG = "dagster/asset_partition_range_end"

JOB_NAMES: dict[Layer, str] = {"silver": "silver_job", "model": "training_job", "gold": "scoring_job"}
"""The job that does what is due of a layer."""


silver_job = dg.define_asset_job(
    "silver_job",
    selection=dg.AssetSelection.assets("raw_transactions", "silver_transactions_base"),
    description="Builds Silver from what landed.",
)
training_job = dg.define_asset_job(
    "training_job",
    selection=dg.AssetSelection.assets("fraud_isolation_forest", "evaluation_metrics", "prod_model"),
    description="Trains a model, evaluates it on later data and puts it behind @prod if it passes.",
)
scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets("fraud_predictions"),
    description="Scores Silver partitions by one model version.",
)
JOBS = [silver_job, training_job, scoring_job]


def run_tags(request: Request, *, model_version_tag: str) -> dict[str, str]:
    """Return the tags that tell a run its partitions and, for Gold, its model version."""
    tags = {"fraud_assets/why": "; ".join(dict.fromkeys(request.whys))}
    if request.first:
        tags |= {FIRST_PARTITION_TAG: request.first, LAST_PARTITION_TAG: request.last}
    if request.model_version:
        tags[model_version_tag] = request.model_version
    return tags
