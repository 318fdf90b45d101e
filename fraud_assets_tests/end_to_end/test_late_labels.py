"""Labels that land on their own: they make the evaluation due, and nothing else."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import dagster as dg

from fraud_assets.resources.tables import EVALUATION_METRICS, PREDICTIONS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform
from fraud_assets_tests.simulator.truth import write_labels, write_unlabelled_day

MakePlatform = Callable[..., TestPlatform]


def land_unlabelled(platform: TestPlatform, days: int) -> None:
    for day in range(days):
        write_unlabelled_day(FIRST_DAY + timedelta(days=day), platform.landing_zone.folder, rows_per_day=700)


def land_labels(platform: TestPlatform, days: int = 6) -> list[Path]:
    return [
        write_labels(FIRST_DAY + timedelta(days=day), platform.landing_zone.folder, rows_per_day=700)
        for day in range(days)
    ]


def due(platform: TestPlatform) -> list[tuple[str, str, str]]:
    return [(item.stage, item.key, item.why) for item in platform.plan().due]


def roc_auc(platform: TestPlatform) -> list[tuple[float | None, str | None]]:
    return platform.rows(
        "SELECT value, not_measurable FROM {t} WHERE scored_by = 'forest' AND metric = 'roc_auc'", t=EVALUATION_METRICS
    )


def evaluation_metadata(platform: TestPlatform) -> Mapping[str, dg.MetadataValue]:
    event = platform.instance.get_latest_materialization_event(dg.AssetKey("evaluation_metrics"))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata


def warnings_of(platform: TestPlatform) -> list[str]:
    [run] = platform.instance.get_runs(limit=1)
    logged = platform.instance.all_logs(run.run_id)
    return [entry.user_message for entry in logged if entry.level == logging.WARNING]


def table_versions(platform: TestPlatform) -> list[int | None]:
    return [platform.lake.version(table) for table in (SILVER_TRANSACTIONS, PREDICTIONS, PROMOTIONS)]


def test_labels_that_land_late_make_the_model_measurable_and_touch_neither_silver_nor_gold(
    make_platform: MakePlatform,
) -> None:
    platform = make_platform()
    land_unlabelled(platform, 6)
    assert [step.problem for step in platform.run()] == ["", "", ""]
    assert roc_auc(platform) == [(None, "no row has a label")]
    before = table_versions(platform)
    land_labels(platform)

    assert due(platform) == [("evaluation", "", "labels landed or changed since version 1 was evaluated")]
    [step] = platform.run()

    assert (step.request.stage, step.problem) == ("evaluation", "")
    [(value, why)] = roc_auc(platform)
    assert why is None
    assert value is not None
    assert value > 0.6
    assert table_versions(platform) == before
    assert platform.run() == []


@full_only("trains by itself")
def test_a_day_of_transactions_makes_no_evaluation_due_and_other_labels_of_an_evaluated_day_do(
    scored_platform: TestPlatform,
) -> None:
    scored_platform.simulate(1, start=FIRST_DAY + timedelta(days=6))
    assert [step.request.stage for step in scored_platform.run()] == ["silver"]  # and Gold with it

    write_unlabelled_day(
        FIRST_DAY + timedelta(days=5), scored_platform.landing_zone.folder, rows_per_day=700, dirt=True
    )
    assert due(scored_platform) == [("silver", "2026-01-06", "landed files changed")]
    steps = scored_platform.run()

    assert [step.request.stage for step in steps] == ["silver", "evaluation"]
    assert steps[-1].request.whys == ("evaluated partitions changed since version 1 was evaluated",)
    assert scored_platform.run() == []


def test_labels_without_a_model_are_nothing_to_do(make_platform: MakePlatform) -> None:
    platform = make_platform()
    land_labels(platform, days=1)
    assert due(platform) == []
    platform.simulate(1)
    assert [item.stage for item in platform.plan().due] == ["silver"]


def land_wrong(platform: TestPlatform) -> Path:
    wrong = platform.landing_zone.folder / "labels" / "wrong.csv"
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_text("TransactionID,label\n202601060000001,1\n")
    return wrong


@full_only("trains by itself")
def test_a_broken_file_of_labels_holds_up_neither_the_first_model_nor_the_other_labels(
    make_platform: MakePlatform,
) -> None:
    platform = make_platform()
    land_unlabelled(platform, 6)
    land_labels(platform)
    land_wrong(platform)

    assert [(step.request.stage, step.problem) for step in platform.run()] == [
        ("silver", ""),
        ("model", ""),
        ("gold", ""),
    ]

    [(value, _)] = roc_auc(platform)
    assert value is not None
    assert platform.run() == []


def test_a_broken_file_of_labels_is_named_and_once_it_is_mended_the_evaluation_is_due(
    scored_platform: TestPlatform,
) -> None:
    before = roc_auc(scored_platform)
    wrong = land_wrong(scored_platform)

    [step] = scored_platform.run()

    assert (step.request.stage, step.problem) == ("evaluation", "")
    assert roc_auc(scored_platform) == before
    message = "labels/wrong.csv: column isFraud is missing; it has TransactionID, label."
    metadata = evaluation_metadata(scored_platform)
    assert str(metadata["late_labels"].value).endswith("; not read: labels/wrong.csv")
    assert str(metadata["label_files_not_read"].value).startswith(message)
    assert any(f"landing/{message}" in warning for warning in warnings_of(scored_platform))
    status = scored_platform.status()
    assert [note for note in status["notes"] if f"landing/{message}" in note]
    assert status["due"] == []

    wrong.write_text("TransactionID,isFraud\n202601060000001,1\n")

    assert due(scored_platform) == [("evaluation", "", "labels landed or changed since version 1 was evaluated")]
    assert [step.problem for step in scored_platform.run()] == [""]
    assert "label_files_not_read" not in evaluation_metadata(scored_platform)


@full_only("trains once more")
def test_labels_are_measured_though_a_later_version_was_never_evaluated(scored_platform: TestPlatform) -> None:
    trained = scored_platform.definitions.resolve_job_def("training_job").execute_in_process(
        instance=scored_platform.instance, asset_selection=[dg.AssetKey("fraud_isolation_forest")]
    )
    assert trained.success
    assert scored_platform.model_registry.latest_version() == "2"
    assert due(scored_platform) == []
    land_labels(scored_platform, days=6)
    assert due(scored_platform) == [("evaluation", "", "labels landed or changed since version 1 was evaluated")]

    steps = scored_platform.run()

    assert [(step.request.stage, step.request.model_version, step.problem) for step in steps] == [
        ("evaluation", "1", "")
    ]
    assert scored_platform.rows("SELECT DISTINCT model_version FROM {t}", t=EVALUATION_METRICS) == [("1",)]
    assert evaluation_metadata(scored_platform)["model_version"].value == "1"
    assert due(scored_platform) == []


def test_bad_labels_cost_themselves_and_are_counted(scored_platform: TestPlatform) -> None:
    folder = scored_platform.landing_zone.folder / "labels"
    folder.mkdir()
    (folder / "some.csv").write_text("TransactionID,isFraud\n,1\nnobody,1\n202601060000001,maybe\n202601060000002,1\n")

    [step] = scored_platform.run()

    assert step.problem == ""
    found = scored_platform.platform.labels(scored_platform.landing_zone.look())
    assert found is not None
    assert (found.labels, found.unknown) == (2, 1)
    assert found.ignored == {"missing_transaction_id": 1, "label_not_0_or_1": 1}
    assert evaluation_metadata(scored_platform)["late_labels"].value == found.summary()
