from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.evaluation import Evaluation, RankingQuality
from fraud_assets.model.records import (
    METRICS_MEANINGS,
    PROMOTIONS_MEANINGS,
    evaluation_of,
    metrics_schema,
    metrics_table,
    promotions_schema,
)
from fraud_assets_tests.depth import cases

EVALUATED_AT = datetime(2026, 2, 1, 3, tzinfo=UTC)

MEASURED = Evaluation(
    rows=1000,
    labelled_rows=800,
    fraud_rows=20,
    alert_rate=0.03,
    base_rate=0.025,
    forest=RankingQuality(roc_auc=0.9, pr_auc=0.4, average_precision=0.39),
    rule=RankingQuality(roc_auc=0.8, pr_auc=0.2, average_precision=0.19),
    not_measurable=None,
)

PRODUCTION = replace(MEASURED, alert_rate=0.05, forest=RankingQuality(roc_auc=0.7, pr_auc=0.3, average_precision=0.29))

WITHOUT_LABELS = Evaluation(
    rows=1000,
    labelled_rows=0,
    fraud_rows=0,
    alert_rate=0.03,
    base_rate=None,
    forest=None,
    rule=None,
    not_measurable="no row has a label",
)

WITHOUT_ROWS = replace(
    WITHOUT_LABELS, rows=0, alert_rate=None, not_measurable="there are no rows after the training window"
)


def written(
    evaluation: Evaluation,
    production: Evaluation | None = None,
    window: tuple[str, str] | None = ("2026-01-21", "2026-01-30"),
) -> list[dict[str, object]]:
    table = metrics_table(
        evaluation,
        production=None if production is None else ("6", production),
        model_version="7",
        window=window,
        evaluated_at=EVALUATED_AT,
    )
    assert table.schema.equals(metrics_schema())
    return table.to_pylist()


def test_each_figure_is_a_row_and_says_who_scored() -> None:
    assert [(row["scored_by"], row["metric"], row["value"]) for row in written(MEASURED, PRODUCTION)] == [
        ("rows", "rows", 1000.0),
        ("rows", "labelled_rows", 800.0),
        ("rows", "fraud_rows", 20.0),
        ("rows", "base_rate", 0.025),
        ("forest", "alert_rate", 0.03),
        ("forest", "roc_auc", 0.9),
        ("forest", "pr_auc", 0.4),
        ("forest", "average_precision", 0.39),
        ("version 6", "alert_rate", 0.05),
        ("version 6", "roc_auc", 0.7),
        ("version 6", "pr_auc", 0.3),
        ("version 6", "average_precision", 0.29),
        ("rule", "roc_auc", 0.8),
        ("rule", "pr_auc", 0.2),
        ("rule", "average_precision", 0.19),
    ]


def test_each_row_says_what_was_evaluated_and_when() -> None:
    rows = written(MEASURED)
    assert {(row["evaluation_start"], row["evaluation_end"]) for row in rows} == {("2026-01-21", "2026-01-30")}
    assert {(row["model_version"], row["evaluated_at"], row["not_measurable"]) for row in rows} == {
        ("7", EVALUATED_AT, None)
    }


@pytest.mark.parametrize(("evaluation", "unknown"), [(WITHOUT_LABELS, 7), (WITHOUT_ROWS, 8)])
def test_what_is_not_measurable_is_null_with_the_reason_and_never_0(evaluation: Evaluation, unknown: int) -> None:
    rows = written(evaluation)
    assert sum(row["value"] is None for row in rows) == unknown
    for row in rows:
        assert row["not_measurable"] == (evaluation.not_measurable if row["value"] is None else None)


def test_an_evaluation_without_a_window_says_so() -> None:
    rows = written(WITHOUT_ROWS, window=None)
    assert {(row["evaluation_start"], row["evaluation_end"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize("evaluation", [MEASURED, WITHOUT_LABELS, WITHOUT_ROWS])
def test_an_evaluation_is_read_back_as_it_was(evaluation: Evaluation) -> None:
    assert evaluation_of(written(evaluation), "forest") == evaluation
    assert evaluation_of(written(evaluation), "version 6") is None


def test_both_evaluations_are_read_back() -> None:
    rows = written(MEASURED, PRODUCTION)
    assert evaluation_of(rows, "forest") == MEASURED
    assert evaluation_of(rows, "version 6") == PRODUCTION


def test_nothing_written_is_no_evaluation() -> None:
    assert evaluation_of([], "forest") is None


SHARE = st.floats(0, 1)
QUALITY = st.builds(RankingQuality, roc_auc=SHARE, pr_auc=SHARE, average_precision=SHARE)


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[Evaluation, Evaluation]:
    """Draw what one model and another make of the same rows."""
    rows = draw(st.integers(0, 10**12))
    labelled = draw(st.integers(0, rows))
    is_measurable = labelled > 0 and draw(st.booleans())
    one = Evaluation(
        rows=rows,
        labelled_rows=labelled,
        fraud_rows=draw(st.integers(0, labelled)),
        alert_rate=draw(SHARE) if rows else None,
        base_rate=draw(SHARE) if labelled else None,
        forest=draw(QUALITY) if is_measurable else None,
        rule=draw(QUALITY) if is_measurable else None,
        not_measurable=None if is_measurable else draw(st.text(min_size=1)),
    )
    return one, replace(
        one,
        alert_rate=draw(SHARE) if rows else None,
        forest=draw(QUALITY) if is_measurable else None,
    )


@settings(max_examples=cases(100, 3000))
@given(both=evaluations())
def test_whatever_was_evaluated_is_read_back(both: tuple[Evaluation, Evaluation]) -> None:
    rows = list(reversed(written(*both)))
    assert (evaluation_of(rows, "forest"), evaluation_of(rows, "version 6")) == both


def test_every_column_has_a_meaning() -> None:
    assert set(METRICS_MEANINGS) == set(metrics_schema().names)
    assert set(PROMOTIONS_MEANINGS) == set(promotions_schema().names)
