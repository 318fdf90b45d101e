"""The jobs that sensors, schedules and `fraud-assets run` launch: which assets one run covers."""

import dagster as dg

from fraud_assets.assets.partition_runs import FIRST_PARTITION_TAG, LAST_PARTITION_TAG, MODEL_VERSION_TAG
from fraud_assets.staleness import Layer, Request

MODEL_KEYS = {dg.AssetKey(name) for name in ("fraud_isolation_forest", "evaluation_metrics", "prod_model")}
"""The assets of the model; a run of any of them is a training in flight, whoever launched it."""

JOB_NAMES: dict[Layer, str] = {
    "silver": "silver_job",
    "model": "training_job",
    "gold": "scoring_job",
    "evaluation": "training_job",
}
"""The job that does what is due of a layer."""

PART_OF_JOB: dict[Layer, list[dg.AssetKey]] = {"evaluation": [dg.AssetKey("evaluation_metrics")]}
"""What is due of a layer where that is not the whole job: labels that land late train and promote nothing."""


silver_job = dg.define_asset_job(
    "silver_job",
    selection=dg.AssetSelection.assets("raw_transactions", "silver_transactions_base"),
    description="Builds Silver from what landed.",
)
training_job = dg.define_asset_job(
    "training_job",
    selection=dg.AssetSelection.assets(*MODEL_KEYS),
    description="Trains a model, evaluates it on later data and puts it behind @prod if it passes.",
)
scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets("fraud_predictions"),
    description="Scores Silver partitions by one model version.",
)
JOBS = [silver_job, training_job, scoring_job]


def run_tags(request: Request) -> dict[str, str]:
    """Return the tags that tell a run its partitions and, for Gold, its model version."""
    tags = {"fraud_assets/why": "; ".join(dict.fromkeys(request.whys))}
    if request.first:
        tags |= {FIRST_PARTITION_TAG: request.first, LAST_PARTITION_TAG: request.last}
    if request.model_version:
        tags[MODEL_VERSION_TAG] = request.model_version
    return tags
