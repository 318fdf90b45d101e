"""What MLflow's run says of a training and an evaluation: name, description, source, rows, metrics and pictures.

Belongs here: what is logged to the active run beside the model itself. Does not belong here: what a version is made of
(`registration`), and when a run begins and ends (`tracked_run`).
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import fraud_assets
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import SILVER_TRANSACTIONS


def describe_run(mlflow: Any, description: str, *, name: str | None = None) -> None:
    """Add a paragraph to the active run's description, rename it if asked, and say from which code it ran."""
    described = mlflow.get_run(mlflow.active_run().info.run_id).data.tags.get("mlflow.note.content")
    tags = {
        "mlflow.note.content": "\n\n".join(filter(None, [described, description])),
        "mlflow.runName": name,
        "mlflow.source.name": fraud_assets.__name__,
        "mlflow.source.git.commit": _git_commit(),
    }
    mlflow.set_tags({tag: value for tag, value in tags.items() if value is not None})


def log_rows(
    model_registry: ModelRegistry,
    lake: Lake,
    version: str,
    *,
    context: Literal["training", "evaluation"],
    table_version: int | None,
    digest: str,
    metrics: Mapping[str, float],
) -> None:
    """Log Silver rows as an input of the active run, linked to the version's model and to what was measured on them.

    A dataset is the table, its version and a digest of what was taken of it; no row is copied.
    """
    with model_registry.as_mlflow_default():
        import mlflow
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import LoggedModelInput

        source = DeltaDatasetSource(path=lake.location(SILVER_TRANSACTIONS), delta_table_version=table_version)
        rows = MetaDataset(source, name=f"{context} rows of {SILVER_TRANSACTIONS.address}", digest=digest)
        registered = mlflow.MlflowClient().get_model_version(model_registry.model_name, version)
        # MLflow's own database keeps the logged model's id in the version's source alone.
        model_id = registered.model_id or str(registered.source).removeprefix("models:/")
        mlflow.log_input(rows, context=context, model=LoggedModelInput(model_id))
        mlflow.log_metrics(dict(metrics), model_id=model_id, dataset=rows)


def log_pictures(mlflow: Any, pictures: Mapping[str, bytes]) -> None:
    """Log PNG pictures by their titles, under `pictures/`."""
    with TemporaryDirectory() as folder:
        for title, png in pictures.items():
            (Path(folder) / f"{title.replace(' ', '_')}.png").write_bytes(png)
        mlflow.log_artifacts(folder, artifact_path="pictures")


def _git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None where it was installed otherwise."""
    from mlflow.utils.git_utils import get_git_commit

    root = Path(fraud_assets.__path__[0]).parent
    return get_git_commit(str(root)) if (root / ".git").exists() else None
