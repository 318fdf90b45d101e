"""The MLflow run that tracks a Dagster run: opened by dagster_mlflow, closed here with the status it earned."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from fraud_assets.resources.models.mlflow_process import without_library_noise
from fraud_assets.resources.models.registry import ModelRegistry

MLFLOW_RUN_TAG: Final = "fraud_assets/mlflow_run_id"
"""Tag of a Dagster run: the MLflow run that tracks it. dagster_mlflow says the reverse in MLflow."""


@dg.resource(required_resource_keys={"model_registry"}, description="The MLflow run that tracks this Dagster run.")
def tracked_run(init_context: dg.InitResourceContext) -> Iterator[Any]:
    """Yield dagster_mlflow's resource for one Dagster run, and close the MLflow run with the status it earned.

    FAILED when a tracked step failed (`mark_mlflow_run_failed` says so) or an exception is on its way,
    KILLED when the run was interrupted, else FINISHED. Steps must run in one process.
    """
    instance = init_context.instance
    known = instance and init_context.run and instance.get_run_by_id(init_context.run.run_id)
    if known and known.is_finished:
        # `dagster job execute` opens the resources once more when all is done: that would name and end the run anew.
        yield None
        return
    registry: ModelRegistry = init_context.resources.model_registry
    registry.prepare()
    import mlflow

    store = {"experiment_name": registry.experiment_name, "mlflow_tracking_uri": registry.tracking_uri}
    with registry.as_mlflow_default():
        with without_library_noise():
            from dagster_mlflow import mlflow_tracking

            open_run: Any = mlflow_tracking.resource_fn
            tracking = open_run(init_context.replace_config({**store, "env": {}, "extra_tags": {}}))
            run = next(tracking)
        run.failed_steps = []
        opened = mlflow.active_run()
        if opened is not None and instance is not None:
            page = f"{registry.dagster_url.rstrip('/')}/runs/{run.dagster_run_id}"
            mlflow.set_tag("mlflow.note.content", f"Dagster run [{run.dagster_run_id}]({page}), where `make dev` runs.")
            instance.add_run_tags(run.dagster_run_id, {MLFLOW_RUN_TAG: opened.info.run_id})
        try:
            yield run
        finally:
            error = sys.exc_info()[1]
            if isinstance(error, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
                status = "KILLED"
            else:
                status = "FAILED" if error or run.failed_steps else "FINISHED"
            mlflow.end_run(status)
            tracking.close()


@dg.failure_hook(required_resource_keys={"mlflow"})
def mark_mlflow_run_failed(context: dg.HookContext) -> None:
    """Remember that a tracked step failed; attach it to every asset that requires `mlflow`."""
    context.resources.mlflow.failed_steps.append(context.step_key)
