"""Records: whatever was evaluated is read back from its rows, and shown to a person."""

from datetime import UTC, datetime
from inspect import Parameter, signature

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.model.estimates import (
    Estimate,
    Evaluation,
    column_scorer,
    minus_prod,
    prod_scorer,
    quality_notes,
    quality_table,
    summary,
)
from fraud_assets.model.records import METRICS_SCHEMA, evaluation_of, metrics_table
from fraud_assets_tests.depth import cases

BEST = column_scorer("TransactionAmt", ascending=True)
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
        "rows": {
            "rows": Estimate(1000.0),
            "base_rate": Estimate(0.025, 0.02, 0.03),
            "labelled_rows": Estimate(900.0),
            "reviewed_share_at_100_a_day": Estimate(0.25),
        },
        "forest": {"alert_rate": Estimate(0.03), **ranking(0.9, 0.39)},
        prod_scorer("6"): {"alert_rate": Estimate(0.04), **ranking(0.8, 0.3)},
        "rule": ranking(0.7, 0.4),
        BEST: ranking(0.75, 0.41),
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


@settings(max_examples=cases(50, 250))
@given(figures=st.dictionaries(st.text(min_size=1, max_size=5), FIGURES, min_size=1))
def test_whatever_was_evaluated_is_read_back(figures: dict[str, dict[str, Estimate]]) -> None:
    assert evaluation_of(reversed(written(Evaluation(figures)))) == Evaluation(figures)


def test_metrics_are_grouped_by_who_scored() -> None:
    found = MEASURED.as_metrics()
    assert (found["rows/rows"], found["rows/base_rate"]) == (1000.0, 0.025)
    bounds = (found["forest/roc_auc"], found["forest/roc_auc_lower"], found["forest/roc_auc_upper"])
    assert bounds == pytest.approx((0.9, 0.89, 0.91))
    assert (found["rule/roc_auc"], found["prod/roc_auc"], found["prod/alert_rate"]) == (0.7, 0.8, 0.04)
    assert (found["minus_prod/roc_auc"], found["best_column/roc_auc"]) == (0.1, 0.75)
    assert not [name for name in found if name.startswith("reference/") or "card_precision" in name]
    assert "rule/roc_auc_lower" not in found


def test_the_headline_is_of_the_forest_and_the_rows() -> None:
    assert set(MEASURED.headline()) == {
        *("evaluation_rows", "labelled_rows", "base_rate", "reviewed_share_at_100_a_day", "alert_rate"),
        *("roc_auc", "pr_auc", "average_precision", "precision_at_100_a_day", "recall_at_100_a_day"),
    }


def test_a_person_reads_every_scorer_beside_the_base_rate_and_why_one_has_no_value() -> None:
    names, rows = quality_table(MEASURED)
    assert names == [
        *("scored by", "ROC-AUC", "PR-AUC", "precision, 100 a day (25% of the rows)"),
        *("recall, 100 a day (25% of the rows)", "no value because"),
    ]
    assert [row[0] for row in rows] == [
        *("Isolation Forest", "@prod then, version 6", "plain rule", BEST, "supervised reference", "base rate")
    ]
    assert rows[0][1:] == ["0.900 (0.890-0.910)", "0.400", "0.250 (0.200-0.300)", "0.750", ""]
    assert rows[4][1:] == ["-", "-", "-", "-", "too few frauds to learn from"]
    assert rows[5][1:] == ["0.500", "0.025 (0.020-0.030)", "0.025 (0.020-0.030)", "0.250", ""]


def test_where_every_scorer_has_values_no_column_asks_why_not() -> None:
    names, rows = quality_table(Evaluation({**MEASURED.estimates, "reference": ranking(0.9, 0.5)}))
    assert names[-1].startswith("recall")
    assert {len(row) for row in rows} == {len(names)}


def test_a_day_is_called_a_share_of_the_rows_only_where_that_is_large() -> None:
    rows = {**MEASURED.estimates["rows"], "reviewed_share_at_100_a_day": Estimate(0.035)}
    assert quality_table(Evaluation({**MEASURED.estimates, "rows": rows}))[0][3:5] == [
        *("precision, 100 a day", "recall, 100 a day")
    ]


def test_notes_say_that_the_best_column_was_chosen_on_these_rows_and_why_two_numbers_agree() -> None:
    [chosen] = quality_notes(MEASURED)
    assert "chosen on these very rows" in chosen
    alike = {**ranking(0.9, 0.39), "recall_at_100_a_day": Estimate(0.2501)}
    [by_chance] = quality_notes(Evaluation({"rows": MEASURED.estimates["rows"], "forest": alike}))
    assert by_chance == (
        "Precision and recall agree by chance: 100 a day (25% of the rows) are about as many rows as hold fraud."
    )


def test_a_sentence_says_how_good_a_version_is_or_why_nobody_knows() -> None:
    assert summary(MEASURED, "7", ("2026-01-21", "2026-01-30")) == (
        "On 900 labelled rows of 2026-01-21 to 2026-01-30: ROC-AUC 0.900 (0.890-0.910), average precision 0.390, "
        "at a base rate of 0.025 (0.020-0.030)."
    )
    unknown = Evaluation({"rows": {}, "forest": {"roc_auc": Estimate(None, not_measurable="no row has a label")}})
    assert summary(unknown, "7", None) == (
        "Version 7 was evaluated, and its quality is not measurable: no row has a label."
    )


def test_an_evaluation_always_says_of_which_labels_it_is() -> None:
    optional = {"value", "lower", "upper", "not_measurable", "evaluation_start", "evaluation_end"}
    assert {field.name for field in METRICS_SCHEMA if field.nullable} == optional
    assert signature(metrics_table).parameters["labels_version"].default is Parameter.empty
