"""`python -m benchmarks.scoring_run UNTIL PARTITION VERSION [PIPELINE]`: one Dagster scoring run.

What belongs here: what a scoring run does, and what it says of itself. What does not: what it is compared with.
The version is pinned by the run's tag; with PIPELINE, a joblib file, that scores, and no registry is asked.
UNTIL is `commit`, `check`, with the check of what was committed, or `alerts`, with all that follows in the same run.
Prints the run's seconds, from Silver to committed Gold and Dagster's records of it, and the process's peak memory.
"""

import sys
from time import perf_counter
from typing import Any, Final

import dagster as dg

from benchmarks.memory import say
from fraud_assets.assets.partition_runs import MODEL_VERSION_TAG
from fraud_assets.definitions import build_definitions
from fraud_assets.gold.predictions import RowScorer
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.platform import Platform
from fraud_assets.settings import load_settings

_STEPS: Final[dict[str, list[str] | None]] = {
    "commit": ["fraud_predictions"],
    "check": ["fraud_predictions", "fraud_predictions_every_transaction_is_scored_once"],
    "alerts": None,
}


class PipelineFile(ModelRegistry):
    """A registry of one fitted pipeline, which lies in a file: scikit-learn without MLflow."""

    pipeline: str

    def scorer(self, version: str) -> RowScorer:
        """Return what scores by scikit-learn, whatever the version."""
        del version
        import joblib

        from fraud_assets.model.training import PipelineScorer

        return PipelineScorer(joblib.load(self.pipeline), threshold=0.0)


def main(until: str, key: str, version: str, *pipeline: str) -> None:
    """Score one partition and say how long that took; raises what the run raises."""
    settings = load_settings()
    resources: dict[str, Any] = {}
    if pipeline:
        registry = Platform(settings).model_registry
        same = {name: getattr(registry, name) for name in ModelRegistry.model_fields}
        resources["model_registry"] = PipelineFile(**same, pipeline=pipeline[0])
    job = build_definitions(settings, resources).resolve_job_def("scoring_job")
    began = perf_counter()
    with dg.DagsterInstance.get() as instance:
        job.execute_in_process(
            partition_key=key,
            op_selection=_STEPS[until],
            tags={MODEL_VERSION_TAG: version},
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    say(perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
