import numpy as np
import pandas as pd
import pytest

from fraud_assets.model.estimates import Estimate, Evaluation
from fraud_assets.model.list_words import CALIBRATION, RANKER, is_calibrated, lists_table
from fraud_assets.model.ranker import RANKER_FEATURES
from fraud_assets.model.ranker_gate import (
    calibration,
    compare_lists,
    decide_ranker,
    still_better,
    too_little,
)
from fraud_assets.model.ranker_training import train_ranker
from fraud_assets_tests.depth import cases

DAYS = [f"2026-02-{day:02d}" for day in range(1, 11)]
CAPACITY = 20


def days_of_rows(seed: int, rows: int = 4_000) -> pd.DataFrame:
    """Ten days on which fraud shows in the forest's score a little, and in the amount over the card's mean a lot."""
    random = np.random.default_rng(seed)
    found = pd.DataFrame({name: random.normal(size=rows) for name in RANKER_FEATURES})
    found["isFraud"] = (random.random(rows) < 0.04).astype(int)
    found["fraud_score"] += 0.7 * found["isFraud"]
    found["log_amount_over_card_mean"] += 2.5 * found["isFraud"]
    found["TransactionAmt"] = np.exp(random.normal(3, 1, size=rows)).round(2)
    found["is_international_txn"] = random.integers(0, 2, size=rows)
    found["txn_count_5min"] = random.integers(1, 3, size=rows)
    found["card_id"] = [f"c{card}" for card in random.integers(0, 800, size=rows)]
    found["partition_key"] = random.choice(DAYS, size=rows)
    return found


def matrix(rows: pd.DataFrame) -> np.ndarray:
    return rows[list(RANKER_FEATURES)].to_numpy("float64")


@pytest.fixture(scope="module")
def compared() -> tuple[pd.DataFrame, np.ndarray]:
    later = days_of_rows(2)
    return later, train_ranker(days_of_rows(1)).ranker.probability(matrix(later))


def decide(lists: Evaluation, *, production: str | None = None, signature_matches: bool = True):
    return decide_ranker(lists, signature_matches=signature_matches, production=production, alerts_per_day=CAPACITY)


def test_a_list_that_is_shown_to_hold_more_fraud_is_promoted_with_its_reasons(
    compared: tuple[pd.DataFrame, np.ndarray],
) -> None:
    lists = compare_lists(*compared, {}, alerts_per_day=CAPACITY)
    decision = decide(lists)

    assert decision.promote
    assert any("the forest alone's list is +" in reason and "better" in reason for reason in decision.reasons)
    assert any("plain rule" in reason for reason in decision.reasons)
    names, rows = lists_table(lists, CAPACITY)
    assert [row[0] for row in rows][:2] == ["ranker", "forest alone"]
    assert len(names) == len(rows[0])


def test_precision_is_that_of_the_first_rows_of_each_day(compared: tuple[pd.DataFrame, np.ndarray]) -> None:
    rows, probability = compared
    lists = compare_lists(rows, probability, {}, alerts_per_day=CAPACITY)
    first = rows.assign(p=probability).sort_values("p", ascending=False).groupby("partition_key").head(CAPACITY)
    assert lists.estimate(RANKER, "precision_at_20_a_day").value == pytest.approx(first["isFraud"].mean())


def test_the_forest_s_own_order_is_no_better_than_the_forest(compared: tuple[pd.DataFrame, np.ndarray]) -> None:
    rows, _ = compared
    decision = decide(compare_lists(rows, rows["fraud_score"].to_numpy(), {}, alerts_per_day=CAPACITY))
    assert not decision.promote
    assert any("not shown to be better" in reason for reason in decision.reasons)


def test_without_an_interval_nothing_is_promoted() -> None:
    rows = days_of_rows(3)
    rows.loc[rows["isFraud"] == 1, "card_id"] = "one card"
    perfect = rows["isFraud"].to_numpy("float64")
    decision = decide(compare_lists(rows, perfect, {}, alerts_per_day=CAPACITY))
    assert not decision.promote
    assert any("no interval: too few cards hold fraud" in reason for reason in decision.reasons)


def test_without_labels_of_both_kinds_nothing_is_promoted() -> None:
    rows = days_of_rows(3).assign(isFraud=0)
    decision = decide(compare_lists(rows, rows["fraud_score"].to_numpy(), {}, alerts_per_day=CAPACITY))
    assert not decision.promote
    assert any("is not measurable" in reason for reason in decision.reasons)


def test_a_list_that_leaves_the_large_frauds_out_is_refused(compared: tuple[pd.DataFrame, np.ndarray]) -> None:
    rows, probability = compared
    rows = rows.copy()
    large = (rows["isFraud"] == 1) & (np.arange(len(rows)) % 3 == 0)
    rows.loc[large, "TransactionAmt"] = 50_000.0
    rows.loc[large, "fraud_score"] = 9.0
    decision = decide(compare_lists(rows, np.where(large, 0.0, probability), {}, alerts_per_day=CAPACITY))
    assert not decision.promote
    assert any("shown to be less" in reason for reason in decision.reasons)


def test_a_retrained_ranker_that_is_worse_than_the_present_one_is_refused(
    compared: tuple[pd.DataFrame, np.ndarray],
) -> None:
    rows, probability = compared
    worse = probability + np.random.default_rng(5).normal(size=len(rows)) * 0.1
    lists = compare_lists(rows, worse, {"3": probability}, alerts_per_day=CAPACITY)
    assert not decide(lists, production="3").promote
    assert still_better(lists, "3", alerts_per_day=CAPACITY)[0]
    same = compare_lists(rows, probability, {"3": probability}, alerts_per_day=CAPACITY)
    assert decide(same, production="3").promote


def test_another_signature_is_refused(compared: tuple[pd.DataFrame, np.ndarray]) -> None:
    lists = compare_lists(*compared, {}, alerts_per_day=CAPACITY)
    assert decide(lists, signature_matches=False).reasons == ("the signature is not the ranker's",)


def test_a_present_ranker_that_knows_nothing_any_more_is_not_better(compared: tuple[pd.DataFrame, np.ndarray]) -> None:
    rows, probability = compared
    noise = np.random.default_rng(6).random(len(rows))
    lists = compare_lists(rows, probability, {"3": noise}, alerts_per_day=CAPACITY)
    good, words = still_better(lists, "3", alerts_per_day=CAPACITY)
    assert not good
    assert "not shown to be better" in words


def test_shuffled_labels_promote_nothing() -> None:
    learnt, later = days_of_rows(1), days_of_rows(2)
    for seed in range(cases(4, 10)):
        random = np.random.default_rng(seed)
        mixed = [rows.assign(isFraud=random.permutation(rows["isFraud"])) for rows in (learnt, later)]
        probability = train_ranker(mixed[0]).ranker.probability(matrix(later))
        assert not decide(compare_lists(mixed[1], probability, {}, alerts_per_day=CAPACITY)).promote, seed


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "No transaction of the days that train has a label"),
        ([0] * 200, "All 200 labels that are known of the days that train say genuine"),
        ([1] * 200, "say fraud"),
        ([1] * 49 + [0] * 200, "49 of 249 labels"),
        ([1] * 50 + [0] * 50, ""),
    ],
)
def test_too_little_to_learn_from_is_said(labels: list[int], words: str) -> None:
    said = too_little(pd.DataFrame({"isFraud": labels}))
    assert words in said
    assert bool(said) == bool(words)


def test_calibration_is_the_arithmetic_of_probabilities_and_what_came_true() -> None:
    random = np.random.default_rng(7)
    probability = random.random(5_000) ** 4
    is_fraud = (random.random(5_000) < probability).astype(float)
    card = random.integers(0, 1_000, size=5_000)
    found = calibration(probability, is_fraud, card)

    assert found["brier"].value == pytest.approx(((probability - is_fraud) ** 2).mean())
    inside = (probability >= 0.1) & (probability < 0.3)
    assert found["said_2"].value == pytest.approx(probability[inside].mean())
    assert found["found_2"].value == pytest.approx(is_fraud[inside].mean())
    assert found["found_2"].lower < found["found_2"].value < found["found_2"].upper
    assert is_calibrated(Evaluation({CALIBRATION: found}))


def test_a_probability_is_shown_only_where_it_comes_true() -> None:
    random = np.random.default_rng(8)
    probability = random.random(5_000) ** 4
    card = random.integers(0, 1_000, size=5_000)
    halved = (random.random(5_000) < probability / 2).astype(float)
    assert not is_calibrated(Evaluation({CALIBRATION: calibration(probability, halved, card)}))
    assert calibration(probability, np.zeros(5_000), card) == {}
    assert not is_calibrated(Evaluation({CALIBRATION: {}}))
    worse_than_the_base_rate = {"brier": Estimate(0.04), "brier_of_base_rate": Estimate(0.03)}
    assert not is_calibrated(Evaluation({CALIBRATION: worse_than_the_base_rate}))
