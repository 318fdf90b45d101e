"""Facts of a training: the window never looks ahead, and a version's tags give back what was recorded."""

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_assets.model.training_facts import (
    NoTrainingWindowError,
    TrainingFacts,
    TrainingParameters,
    TrainingWindow,
    UnknownTrainingError,
    split_window,
)
from fraud_assets_tests.depth import cases

JANUARY = [f"2026-01-{day:02}" for day in range(1, 31)]


def split(keys: list[str], **chosen: object) -> TrainingWindow:
    return split_window(keys, TrainingParameters.model_validate(chosen))


@pytest.mark.parametrize(
    ("keys", "gap", "trained", "evaluated"),
    [
        (["2026-01-03", "2026-01-01", "2026-01-02"], 0, ["2026-01-01", "2026-01-02"], ["2026-01-03"]),
        (JANUARY, 0, JANUARY[:21], JANUARY[21:]),
        (JANUARY, 7, JANUARY[:14], JANUARY[21:]),
        (["2026-01-01-23", "2026-01-02-00"], 0, ["2026-01-01-23"], ["2026-01-02-00"]),
        (["2026-01-01"], 0, ["2026-01-01"], []),
        (["2026-01-01"], 3, ["2026-01-01"], []),
    ],
)
def test_the_last_partitions_evaluate_and_the_earlier_ones_train(keys, gap, trained, evaluated):
    window = split(keys, gap=gap)
    assert (window.training_keys(keys), window.evaluation_keys(keys)) == (trained, evaluated)


@settings(max_examples=cases(100, 500))
@given(
    keys=st.lists(st.dates().map(str), min_size=2, max_size=40, unique=True),
    share=st.floats(0.01, 0.99),
    gap=st.integers(0, 5),
)
def test_training_ends_before_the_gap_and_the_gap_before_evaluation(keys, share, gap):
    try:
        window = split(keys, evaluation_share=share, gap=gap)
    except NoTrainingWindowError:
        assert len(keys) - max(1, int(len(keys) * share)) - gap < 1
        return
    training, evaluating, ordered = window.training_keys(keys), window.evaluation_keys(keys), sorted(keys)
    between = ordered[len(training) : len(ordered) - len(evaluating)]
    assert training
    assert len(evaluating) == max(1, int(len(keys) * share))
    assert [*training, *between, *evaluating] == ordered
    assert len(between) == gap


def test_partitions_that_are_built_later_evaluate_too_and_earlier_ones_do_not_train():
    window = split(JANUARY[10:20])
    assert window.evaluation_keys(JANUARY) == JANUARY[17:]
    assert window.training_keys(JANUARY) == JANUARY[10:17]


def test_no_partition_says_what_to_do():
    with pytest.raises(NoTrainingWindowError, match="fraud-assets run"):
        split([])


def test_a_gap_that_leaves_nothing_to_train_on_is_named():
    with pytest.raises(NoTrainingWindowError, match="2 partitions leave none to train on when 1 evaluate and 1"):
        split(["2026-01-01", "2026-01-02"], gap=1)


@pytest.mark.parametrize(("name", "value"), [("evaluation_share", 0.0), ("evaluation_share", 1.0), ("gap", -1)])
def test_a_choice_without_meaning_is_refused(name, value):
    with pytest.raises(ValidationError, match=name):
        TrainingParameters.model_validate({name: value})


def test_a_person_may_choose_the_first_and_the_last_partition():
    window = split(JANUARY, first_partition="2026-01-03", last_partition="2026-01-06", evaluation_share=0.25)
    assert window == TrainingWindow("2026-01-03", "2026-01-05", gap=0)


def test_a_choice_that_leaves_no_partition_says_which_there_are():
    with pytest.raises(
        NoTrainingWindowError, match=r"between 2027-01-01 and the last: there are 2026-01-01 to 2026-01"
    ):
        split(["2026-01-02", "2026-01-01"], first_partition="2027-01-01")


FACTS = TrainingFacts(
    train_start="2026-01-01",
    train_end="2026-01-21",
    gap=3,
    training_rows=1_000,
    available_rows=2_000,
    training_data_version="ab",
    silver_table_version=7,
    silver_data_version="cd",
    n_estimators=200,
    contamination=0.035,
    random_state=42,
    scikit_learn_version="1.9.1",
    numpy_version="2.3",
    mlflow_version="3.17.2",
    fraud_assets_version="0.1",
    alert_share=0.01,
)


def test_tags_are_texts_by_the_names_that_versions_carry():
    tags = FACTS.as_tags()
    assert list(tags) == [
        *("train_start", "train_end", "gap", "training_rows", "available_rows"),
        *("training_data_version", "silver_table_version", "silver_data_version", "n_estimators", "contamination"),
        *("random_state", "scikit_learn_version", "numpy_version", "mlflow_version", "fraud_assets_version"),
        "alert_share",
    ]
    assert (tags["gap"], tags["contamination"], tags["alert_share"]) == ("3", "0.035", "0.01")


@pytest.mark.parametrize("same_trees_as", ["", "4"])
def test_every_fact_is_read_back_from_the_tags_whatever_else_they_hold(same_trees_as):
    facts = TrainingFacts(**(vars(FACTS) | {"same_trees_as": same_trees_as}))
    before = {"max_samples": "auto", "threshold": "0.0", "feed": "simulated"}  # a version of an earlier release
    assert TrainingFacts.from_tags(facts.as_tags() | before) == facts


@pytest.mark.parametrize("name", [one.name for one in fields(TrainingFacts) if one.name != "same_trees_as"])
def test_a_version_that_does_not_say_how_it_was_trained_is_named(name):
    tags = FACTS.as_tags()
    del tags[name]
    with pytest.raises(UnknownTrainingError, match=name):
        TrainingFacts.from_tags(tags)
