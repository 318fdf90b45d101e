"""The platform against a real `mlflow server`, and a version served over HTTP: the same scores as Gold."""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from fraud_assets.resources.models.promotions import decisions
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.contract import FEATURE_NAMES, as_features
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.servers import a_free_port, serve
from fraud_assets_tests.platform import TestPlatform

pytestmark = full_only("starts servers")

DAY = "2026-01-04"


def environment(**more: str) -> dict[str, str]:
    # MLflow starts `uvicorn` by its bare name.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


@pytest.fixture
def tracking_uri(tmp_path: Path) -> Iterator[str]:
    """An `mlflow server` of its own: database and artifacts lie with it, and clients go through HTTP for both."""
    port, folder = a_free_port(), tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    address = f"http://127.0.0.1:{port}"
    with serve([*command, *stores], f"{address}/health", folder=folder, environment=environment()):
        yield address


def test_a_training_against_a_server_is_tracked_evaluated_promoted_and_served_as_gold_has_it(
    tracking_uri: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    platform = TestPlatform(tmp_path / "data", instance, tracking_uri=tracking_uri)
    platform.simulate(4)

    assert [step.problem for step in platform.run()] == ["", "", ""]

    registry: ModelRegistry = platform.model_registry
    assert registry.prod_version() == "1"
    assert [row["decision"] for row in decisions(platform.lake)] == ["promoted"]
    assert not (tmp_path / "data" / "mlflow").exists()
    run_id = registry._client().get_model_version(registry.model_name, "1").run_id
    assert run_id is not None
    run = registry._client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["rows/labelled_rows"] > 0
    page = f"{tracking_uri}/#/experiments/{run.info.experiment_id}/runs/{run_id}?workflowType=machine_learning"
    assert registry.run_url(run.info) == page
    assert registry.signature_matches("1")  # after the files were fetched and compared

    with platform.lake.connect() as connection:
        gold = connection.sql(
            f"SELECT {', '.join(FEATURE_NAMES)}, fraud_score, is_anomaly "
            f"FROM {platform.lake.select(SILVER_TRANSACTIONS, keys=[DAY])} "
            f"JOIN {platform.lake.select(PREDICTIONS, keys=[DAY])} USING (TransactionID, TransactionAmt)"
        ).df()
    port, folder = a_free_port(), tmp_path / "serving"
    folder.mkdir()
    model = f"models:/{registry.model_name}@prod"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    with serve(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        f"http://127.0.0.1:{port}/ping",
        folder=folder,
        environment=environment(MLFLOW_TRACKING_URI=tracking_uri),
    ):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            data=json.dumps({"dataframe_split": as_features(gold).to_dict(orient="split")}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            predictions = json.load(response)["predictions"]
    assert len(predictions) == len(gold) > 500
    assert [one["fraud_score"] for one in predictions] == gold["fraud_score"].tolist()
    assert [one["is_anomaly"] for one in predictions] == gold["is_anomaly"].tolist()
