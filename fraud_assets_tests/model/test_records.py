"""Records: whatever was evaluated is read back from its rows, and shown to a person."""

from datetime import UTC, datetime
from inspect import Parameter, signature

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.estimates import Estimate, Evaluation, minus_prod, prod_scorer, quality_table
from fraud_assets.model.records import METRICS_SCHEMA, evaluation_of, metrics_table
from fraud_assets_tests.depth import cases

EVALUATED_AT = datetime(2026, 2, 1, 3, tzinfo=UTC)


def ranking(roc_auc: float, average_precision: float) -> dict[str, Estimate]:
    return {
        "roc_auc": Estimate(roc_auc, roc_auc - 0.01, roc_auc + 0.01),
        "pr_auc": Estimate(average_precision + 0.01),
        "average_precision": Estimate(average_precision),
        "precision_at_top_1pct": Estimate(0.5),
        "precision_at_100_a_day": Estimate(0.25, 0.2, 0.3),
        "recall_at_100_a_day": Estimate(0.75),
        "card_precision_at_100_a_day": Estimate(None, not_measurable="why not"),
    }


MEASURED = Evaluation(
    {
        "rows": {"rows": Estimate(1000.0), "base_rate": Estimate(0.025, 0.02, 0.03)},
        "forest": {"alert_rate": Estimate(0.03), **ranking(0.9, 0.39)},
        prod_scorer("6"): {"alert_rate": Estimate(0.04), **ranking(0.8, 0.3)},
        "rule": ranking(0.7, 0.4),
        "reference": dict.fromkeys(ranking(0, 0), Estimate(None, not_measurable="too few frauds to learn from")),
        minus_prod("6"): {"roc_auc": Estimate(0.1, 0.05, 0.15)},
    }
)


def written(evaluation: Evaluation, window: tuple[str, str] | None = ("2026-01-21", "2026-01-30")) -> list[dict]:
    table = metrics_table(evaluation, model_version="7", window=window, evaluated_at=EVALUATED_AT, labels_version="ab")
    assert table.schema.equals(METRICS_SCHEMA)
    return table.to_pylist()


def test_each_figure_is_a_row_that_says_who_scored_and_how_sure_it_is() -> None:
    rows = written(MEASURED)
    assert len(rows) == sum(len(figures) for figures in MEASURED.estimates.values())
    shown = [(row["scored_by"], row["metric"], row["value"], row["lower"], row["upper"]) for row in rows]
    assert shown[1] == ("rows", "base_rate", 0.025, 0.02, 0.03)
    assert shown[-1] == ("forest minus version 6", "roc_auc", 0.1, 0.05, 0.15)
    assert ("version 6", "alert_rate", 0.04, None, None) in shown


def test_each_row_says_what_was_evaluated_and_when() -> None:
    rows = written(MEASURED)
    assert {(row["evaluation_start"], row["evaluation_end"]) for row in rows} == {("2026-01-21", "2026-01-30")}
    assert {(row["model_version"], row["evaluated_at"], row["labels_version"]) for row in rows} == {
        ("7", EVALUATED_AT, "ab")
    }
    assert {(row["evaluation_start"], row["evaluation_end"]) for row in written(MEASURED, None)} == {(None, None)}


def test_what_is_not_measurable_is_null_with_the_reason_and_never_0() -> None:
    unknown = [row for row in written(MEASURED) if row["value"] is None]
    assert {row["not_measurable"] for row in unknown if row["scored_by"] == "reference"} == {
        "too few frauds to learn from"
    }
    assert all(row["not_measurable"] is None for row in written(MEASURED) if row["value"] is not None)


def test_nothing_written_is_no_evaluation() -> None:
    assert evaluation_of([]) is None


def test_a_figure_that_was_not_written_has_no_value() -> None:
    assert MEASURED.estimate("rule", "alert_rate").value is None


NUMBER = st.none() | st.floats(-1, 1)
FIGURES = st.dictionaries(
    st.text(min_size=1, max_size=5), st.builds(Estimate, NUMBER, NUMBER, NUMBER, st.none() | st.text()), min_size=1
)


@settings(max_examples=cases(50, 1_000))
@given(figures=st.dictionaries(st.text(min_size=1, max_size=5), FIGURES, min_size=1))
def test_whatever_was_evaluated_is_read_back(figures: dict[str, dict[str, Estimate]]) -> None:
    assert evaluation_of(reversed(written(Evaluation(figures)))) == Evaluation(figures)


def test_metrics_have_flat_names_with_a_prefix_for_who_scored() -> None:
    found = MEASURED.as_metrics()
    assert found["evaluation_rows"] == 1000.0
    assert found["base_rate"] == 0.025
    assert (found["roc_auc"], found["roc_auc_lower"], found["roc_auc_upper"]) == pytest.approx((0.9, 0.89, 0.91))
    assert (found["rule_roc_auc"], found["prod_roc_auc"], found["prod_alert_rate"]) == (0.7, 0.8, 0.04)
    assert found["minus_prod_roc_auc"] == 0.1
    assert not [name for name in found if name.startswith("reference_") or name == "card_precision_at_100_a_day"]
    assert "rule_roc_auc_lower" not in found


def test_the_headline_is_of_the_forest_and_the_rows() -> None:
    assert set(MEASURED.headline()) == {
        *("evaluation_rows", "base_rate", "alert_rate", "roc_auc", "pr_auc", "average_precision"),
        *("precision_at_100_a_day", "recall_at_100_a_day"),
    }


def test_a_person_reads_every_scorer_beside_the_base_rate() -> None:
    names, rows = quality_table(MEASURED)
    assert names == ["scored by", "ROC-AUC", "PR-AUC", "precision, 100 a day", "recall, 100 a day"]
    assert [row[0] for row in rows] == [
        *("Isolation Forest", "@prod then, version 6", "plain rule", "supervised reference", "base rate")
    ]
    assert rows[0][1:] == ["0.900 (0.890-0.910)", "0.400", "0.250 (0.200-0.300)", "0.750"]
    assert rows[3][1:] == ["-", "-", "-", "-"]
    assert rows[4][1:] == ["0.500", "0.025 (0.020-0.030)", "0.025 (0.020-0.030)", "-"]


def test_an_evaluation_always_says_of_which_labels_it_is() -> None:
    optional = {"value", "lower", "upper", "not_measurable", "evaluation_start", "evaluation_end"}
    assert {field.name for field in METRICS_SCHEMA if field.nullable} == optional
    assert signature(metrics_table).parameters["labels_version"].default is Parameter.empty
