"""Training and promotion as a reviewer asks about them: which data, which code, why this version, what if it is bad."""

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from fraud_assets.model import training
from fraud_assets.model.estimates import minus_prod, prod_scorer
from fraud_assets.model.rows import read_training_rows
from fraud_assets.model.training_facts import TrainingFacts, TrainingParameters
from fraud_assets.resources.models.promotions import DECISION_TAG, apply_decision, decisions
from fraud_assets.resources.models.tracked_run import mark_mlflow_run_failed, tracked_run
from fraud_assets.resources.tables import EVALUATION_METRICS, PREDICTIONS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import TestPlatform


def train(platform: TestPlatform, **config: Any) -> dg.ExecuteInProcessResult:
    """Run the training job as the UI does, whatever comes of it."""
    return platform.definitions.resolve_job_def("training_job").execute_in_process(
        instance=platform.instance,
        run_config={"ops": {"fraud_isolation_forest": {"config": config}}},
        raise_on_error=False,
    )


def shown(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the asset's page shows of the run."""
    [event] = [
        event for event in result.all_events if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def gate(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """What the check of the promotion says."""
    [check] = [check for check in result.get_asset_check_evaluations() if check.check_name == "candidate_was_promoted"]
    return check


def register_trained_on_shuffled_columns(platform: TestPlatform) -> dg.ExecuteInProcessResult:
    """Register a forest that saw version 1's training rows, each column in an order of its own; else like version 1."""
    registry, lake = platform.model_registry, platform.lake
    tags = registry.version_tags("1")
    keys = TrainingFacts.from_tags(tags).training_keys(platform.state().silver)

    @dg.asset(hooks={mark_mlflow_run_failed})
    def shuffled_forest(mlflow: dg.ResourceParam[Any]) -> None:
        with lake.connect() as connection:
            rows = read_training_rows(connection, lake.select(SILVER_TRANSACTIONS, keys=keys), max_rows=10_000)
        assert len(rows) == int(tags["training_rows"])
        generator = np.random.default_rng(1)
        shuffled = rows.assign(**{name: generator.permutation(rows[name]) for name in rows})
        trained = training.train(shuffled, TrainingParameters())
        mlflow.log_param("columns", "shuffled")
        registry.register(trained, tags={name: value for name, value in tags.items() if name != "dagster_run_id"})

    return dg.materialize(
        [shuffled_forest],
        instance=platform.instance,
        resources={"model_registry": registry, "mlflow": tracked_run, "io_manager": dg.mem_io_manager},
    )


@full_only("trains twice")
def test_a_forest_trained_on_shuffled_columns_is_refused_with_reasons_and_a_retraining_is_promoted(
    scored_platform: TestPlatform,
) -> None:
    registry, lake = scored_platform.model_registry, scored_platform.lake
    job = scored_platform.definitions.resolve_job_def("training_job")
    assert register_trained_on_shuffled_columns(scored_platform).success
    assert registry.latest_version() == "2"

    refused = job.execute_in_process(
        instance=scored_platform.instance,
        asset_selection=[dg.AssetKey("evaluation_metrics"), dg.AssetKey("prod_model")],
        raise_on_error=False,
    )

    assert refused.success
    check = gate(refused)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    reason = str(check.metadata["reason"].value)
    assert "outside" in reason
    assert f"Version 2 was refused by gate: {reason}" == check.description
    assert registry.prod_version() == "1"
    assert shown(refused, "prod_model")["prod_version"] == "1"
    # The record says what it was decided on, beside @prod on the same rows.
    assert scored_platform.rows(
        "SELECT decision, previous_version, decided_by, reason FROM {t} WHERE model_version = '2'", t=PROMOTIONS
    ) == [("refused", "1", "gate", reason)]
    beside = scored_platform.rows("SELECT DISTINCT scored_by FROM {t} WHERE model_version = '2'", t=EVALUATION_METRICS)
    assert {(prod_scorer("1"),), (minus_prod("1"),)} <= set(beside)

    promoted = train(scored_platform, random_state=7)

    assert promoted.success
    assert gate(promoted).passed
    assert registry.prod_version() == "3"
    assert [(row["model_version"], row["decision"], row["previous_version"]) for row in decisions(lake)] == [
        ("3", "promoted", "1"),
        ("2", "refused", "1"),
        ("1", "promoted", None),
    ]


@full_only("trains once more")
def test_the_same_trees_with_another_threshold_are_a_version_like_any_other(scored_platform: TestPlatform) -> None:
    registry = scored_platform.model_registry

    result = train(scored_platform, same_trees_as="1", alert_share=0.01)

    assert result.success
    [first, second] = registry.versions().values()
    own = {"threshold", "alert_share", "files_digest", "dagster_run_id", "same_trees_as", DECISION_TAG}
    kept = {name: value for name, value in first.items() if name not in own}
    assert kept == {name: value for name, value in second.items() if name not in own}
    assert {"train_start", "training_data_version", "silver_table_version", "scikit_learn_version"} <= set(kept)
    assert (second["same_trees_as"], second["alert_share"]) == ("1", "0.01")
    assert registry.training_distribution("2") == registry.training_distribution("1")
    assert registry.prod_version() == "2"  # evaluated, and promoted by the same gate
    assert decisions(scored_platform.lake)[0]["decided_by"] == "gate"

    # The asset, the Dagster run and the MLflow run name one another.
    metadata = shown(result, "fraud_isolation_forest")
    run_id = registry._client().get_model_version(registry.model_name, "2").run_id
    assert run_id is not None
    run = registry._client().get_run(run_id)
    dagster_run = scored_platform.instance.get_run_by_id(result.run_id)
    assert dagster_run is not None
    assert metadata["mlflow_run_id"] == dagster_run.tags["fraud_assets/mlflow_run_id"] == run_id
    assert run.data.tags["dagster_run_id"] == second["dagster_run_id"] == result.run_id
    assert metadata["threshold"] == float(second["threshold"]) > 0.0
    trained, decided = str(registry._client().get_model_version(registry.model_name, "2").description).split("\n\n")
    assert trained.startswith("Version 2: an Isolation Forest of 200 trees of version 1")
    assert decided.startswith("Promoted by gate, 20")
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run_id}"
    assert metadata["mlflow_run"] == f"{page}?workflowType=machine_learning"
    assert f"(http://127.0.0.1:3000/runs/{result.run_id})" in run.data.tags["mlflow.note.content"]
    assert run.data.params["training_data_version"] == metadata["training_data_version"]
    assert run.inputs is not None
    # What was trained on and what was evaluated on are datasets, linked to the model and to what was measured on them.
    [(labels_version,)] = scored_platform.rows(
        "SELECT DISTINCT labels_version FROM {t} WHERE model_version = '2'", t=EVALUATION_METRICS
    )
    used = {one.tags[0].value: (one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    assert used == {
        "training": ("training rows of silver.silver_transactions_base", second["training_data_version"]),
        "evaluation": ("evaluation rows of silver.silver_transactions_base", labels_version),
    }
    assert run.outputs is not None
    model = registry._client().get_logged_model(run.outputs.model_outputs[0].model_id)
    measured_on = {one.key: one.dataset_name for one in model.metrics or ()}
    assert measured_on["training/alert_rate"] == used["training"][0]
    assert measured_on["forest/roc_auc"] == measured_on["best_column/roc_auc"] == used["evaluation"][0]
    assert [one.model_id for one in run.inputs.model_inputs] == [model.model_id]
    assert run.data.metrics["forest/alert_rate"] == shown(result, "evaluation_metrics")["alert_rate"]
    # The run says what it is, and from which code.
    assert run.info.run_name == "training of version 2"
    assert "Version 2: an Isolation Forest of 200 trees of version 1" in run.data.tags["mlflow.note.content"]
    assert "labelled rows of 2026-01-" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["mlflow.source.name"] == "fraud_assets"
    pictures = [Path(one.path).name for one in registry._client().list_artifacts(run_id, "pictures")]
    assert {"ROC_curve.png", "precision-recall_curve.png"} < set(pictures)

    # Gold follows: same scores, fewer anomalies.
    anomalies = "SELECT sum(fraud_score), count(*) FILTER (is_anomaly) FROM {t} WHERE partition_key = '2026-01-03'"
    [before] = scored_platform.rows(anomalies, t=PREDICTIONS)
    scoring = scored_platform.definitions.resolve_job_def("scoring_job")
    assert scoring.execute_in_process(instance=scored_platform.instance, partition_key="2026-01-03").success
    [after] = scored_platform.rows(anomalies, t=PREDICTIONS)
    assert after[0] == before[0]
    assert 0 < after[1] < before[1]


def test_a_refused_candidate_fails_a_check_that_says_why_and_prod_stays(scored_platform: TestPlatform) -> None:
    registry = scored_platform.model_registry
    [unlabelled] = scored_platform.simulate(1, start=date(2026, 1, 7))
    header, *rows = unlabelled.read_text().splitlines()
    label = header.split(",").index("isFraud")
    blank = [",".join([*row.split(",")[:label], "", *row.split(",")[label + 1 :]]) for row in rows]
    unlabelled.write_text("\n".join([header, *blank]))
    scored_platform.run()

    result = train(scored_platform, evaluation_share=0.15, max_rows=1_000)

    assert result.success
    check = gate(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "not measurable" in str(check.metadata["reason"].value)
    assert registry.prod_version() == "1"
    assert [row["decision"] for row in decisions(scored_platform.lake)] == ["refused", "promoted"]
    tags, silver = registry.version_tags("2"), scored_platform.state().silver
    available = sum(state.rows for key, state in silver.items() if key <= tags["train_end"] == "2026-01-06")
    assert (tags["training_rows"], tags["available_rows"]) == ("1000", str(available))


def test_a_version_names_the_silver_that_its_training_read_whatever_was_built_meanwhile(
    scored_platform: TestPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, fit = scored_platform, training.train

    def fit_while_a_day_is_built(*args: Any) -> training.Trained:
        platform.simulate(1, start=date(2026, 1, 7), rows_per_day=50)
        build = platform.definitions.resolve_job_def("silver_job").execute_in_process
        assert build(instance=platform.instance, partition_key="2026-01-07").success
        return fit(*args)

    def register(**config: str) -> str:
        done = platform.definitions.resolve_job_def("training_job").execute_in_process(
            instance=platform.instance,
            run_config={"ops": {"fraud_isolation_forest": {"config": config}}},
            asset_selection=[dg.AssetKey("fraud_isolation_forest")],
        )
        version = shown(done, "fraud_isolation_forest")["model_version"]
        return platform.model_registry.version_tags(version)["silver_data_version"]

    read = platform.state().silver_data_digest
    with monkeypatch.context() as during:
        during.setattr(training, "train", fit_while_a_day_is_built)
        assert register() == read
    assert platform.state().silver_data_digest != read
    assert register(same_trees_as="2") == read


@pytest.mark.parametrize("how", ["what is due", pytest.param("the job", marks=full_only("trains once more"))])
def test_a_platform_that_lost_its_models_trains_promotes_and_scores_again(
    scored_platform: TestPlatform, how: str
) -> None:
    platform = scored_platform
    for folder in ("mlflow", "models"):
        shutil.rmtree(platform.data_dir / folder)
    assert [item.why for item in platform.plan().due] == ["no model version is behind @prod"]

    if how == "the job":
        assert train(platform).success
    else:
        assert [(step.request.stage, step.problem) for step in platform.run()] == [("model", "")]

    decided = [(row["decision"], row["model_version"], row["decided_by"]) for row in decisions(platform.lake)]
    assert decided == [("promoted", "1", "gate")]
    assert platform.model_registry.prod_version() == "1"
    assert (platform.plan().due, platform.plan().notes) == ((), ())
    platform.simulate(1, start=date(2026, 1, 7))
    assert [step.problem for step in platform.run()] == [""]
    assert platform.plan().due == ()


def test_an_alias_moved_in_mlflow_scores_next_and_is_recorded_by_that_run(
    scored_platform: TestPlatform,
) -> None:
    registry = scored_platform.model_registry
    [day] = scored_platform.simulate(1, start=date(2026, 1, 2), dirt=True)
    header, _, *rows = day.read_text().splitlines(keepends=True)
    day.write_text("".join([header, *rows]))
    scored_platform.run()
    assert train(scored_platform, random_state=7).success
    assert registry.prod_version() == "2"
    one, two = registry.version_tags("1"), registry.version_tags("2")
    assert int(two["training_rows"]) == int(one["training_rows"]) - 1
    assert one["training_data_version"] != two["training_data_version"]  # one row less is other data
    registry._client().set_registered_model_alias(registry.model_name, "prod", "1")
    scored_platform.simulate(1, start=date(2026, 1, 7))

    scored_platform.run()

    assert scored_platform.state().gold["2026-01-07"].of["model_version"] == "1"
    assert (decisions(scored_platform.lake)[0]["model_version"], registry.prod_version()) == ("1", "1")
    said = {"decided_by": "ana", "reason": "back"}
    decided = apply_decision(scored_platform.lake, registry, None, move="rolled back", **said, provenance={})
    assert (decided["model_version"], decided["previous_version"]) == ("2", "1")
    assert [(row["decision"], row["model_version"], row["decided_by"]) for row in decisions(scored_platform.lake)] == [
        ("rolled back", "2", "ana"),
        ("promoted", "1", "unknown"),
        ("promoted", "2", "gate"),
        ("promoted", "1", "gate"),
    ]
