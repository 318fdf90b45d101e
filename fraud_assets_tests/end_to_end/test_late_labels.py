"""Labels that land on their own: they make the evaluation due, and nothing else."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg

from fraud_assets.resources.tables import EVALUATION_METRICS, PREDICTIONS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets.simulator.writing import write_labels
from fraud_assets.staleness import decide
from fraud_assets_tests.platform import FIRST_DAY, TestPlatform

MakePlatform = Callable[..., TestPlatform]


def land_labels(platform: TestPlatform, days: int = 6) -> list[Path]:
    return [
        write_labels(FIRST_DAY + timedelta(days=day), platform.landing_zone.folder, rows_per_day=700)
        for day in range(days)
    ]


def due(platform: TestPlatform) -> list[tuple[str, str, str]]:
    return [(item.layer, item.key, item.why) for item in decide(platform.state()).everything]


def roc_auc(platform: TestPlatform) -> list[tuple[float | None, str | None]]:
    return platform.rows(
        "SELECT value, not_measurable FROM {t} WHERE scored_by = 'forest' AND metric = 'roc_auc'", t=EVALUATION_METRICS
    )


def table_versions(platform: TestPlatform) -> list[int | None]:
    return [platform.lake.version(table) for table in (SILVER_TRANSACTIONS, PREDICTIONS, PROMOTIONS)]


def test_labels_that_land_late_make_the_model_measurable_and_touch_neither_silver_nor_gold(
    make_platform: MakePlatform,
) -> None:
    platform = make_platform()
    platform.simulate(6, labels=False)
    assert [step.problem for step in platform.run()] == ["", "", ""]
    assert roc_auc(platform) == [(None, "no row has a label")]
    before = table_versions(platform)
    land_labels(platform)

    assert due(platform) == [("evaluation", "", "labels landed or changed since version 1 was evaluated")]
    [step] = platform.run()

    assert (step.request.layer, step.problem) == ("evaluation", "")
    [(value, why)] = roc_auc(platform)
    assert why is None
    assert value is not None
    assert value > 0.6
    assert table_versions(platform) == before
    assert platform.run() == []


def test_a_day_of_transactions_makes_no_evaluation_due_and_other_labels_of_an_evaluated_day_do(
    scored_platform: TestPlatform,
) -> None:
    scored_platform.simulate(1, start=FIRST_DAY + timedelta(days=6))
    assert {step.request.layer for step in scored_platform.run()} == {"silver", "gold"}

    scored_platform.simulate(1, start=FIRST_DAY + timedelta(days=5), dirt=True, labels=False)
    assert due(scored_platform) == [("silver", "2026-01-06", "landed files changed")]
    steps = scored_platform.run()

    assert [step.request.layer for step in steps] == ["silver", "evaluation"]
    assert steps[-1].request.whys == ("evaluated partitions changed since version 1 was evaluated",)
    assert scored_platform.run() == []


def test_labels_without_a_model_are_nothing_to_do(make_platform: MakePlatform) -> None:
    platform = make_platform()
    land_labels(platform, days=1)
    assert due(platform) == []
    platform.simulate(1)
    assert [item.layer for item in decide(platform.state()).everything] == ["silver"]


def test_a_broken_file_of_labels_stops_the_evaluation_and_says_which_and_why(scored_platform: TestPlatform) -> None:
    before = roc_auc(scored_platform)
    folder = scored_platform.landing_zone.folder / "labels"
    folder.mkdir()
    (folder / "wrong.csv").write_text("TransactionID,label\n1,1\n")

    [step] = scored_platform.run()

    assert "labels/wrong.csv: column isFraud is missing" in step.problem
    assert roc_auc(scored_platform) == before
    (folder / "wrong.csv").unlink()
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
    event = scored_platform.instance.get_latest_materialization_event(dg.AssetKey("evaluation_metrics"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["late_labels"].value == found.summary()
