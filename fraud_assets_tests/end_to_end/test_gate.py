"""The gate on real forests over the synthetic feed: what it lets through, and what it does not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraud_assets.model.estimates import FOREST, minus_prod, prod_scorer
from fraud_assets.model.evaluation import Scores, evaluate
from fraud_assets.model.promotion import PromotionDecision, decide
from fraud_assets.model.training import train
from fraud_assets.model.training_facts import TrainingParameters
from fraud_assets.resources.lake import open_lake
from fraud_assets.resources.tables import SILVER_TRANSACTIONS
from fraud_assets.silver.contract import as_features

Days = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def days(_scored_data: Path) -> Days:
    """Three days to train on, three later ones to evaluate on."""
    lake = open_lake(_scored_data)
    with lake.connect() as connection:
        rows = connection.sql(f"FROM {lake.select(SILVER_TRANSACTIONS)}").df()
    is_early = (rows["partition_key"] <= "2026-01-03").to_numpy()
    return rows[is_early], rows[~is_early]


@pytest.fixture(scope="module")
def present(days: Days) -> Scores:
    """The present `@prod` version's: a forest by the defaults."""
    early, later = days
    scorer = train(early, TrainingParameters()).scorer
    assert scorer is not None
    return Scores(scorer.score(as_features(later).to_numpy(np.float64)), threshold=0.0, training_alert_rate=0.035)


def decided(candidate: Scores, production: Scores, later: pd.DataFrame) -> PromotionDecision:
    evaluation = evaluate(
        later,
        {FOREST: candidate, prod_scorer("1"): production},
        alerts_per_day=20,
        differences={minus_prod("1"): (FOREST, prod_scorer("1"))},
    )
    return decide(evaluation, signature_matches=True, production="1")


def test_a_score_that_knows_nothing_is_refused_by_all_of_its_quality(days: Days, present: Scores) -> None:
    _, later = days
    blind = Scores(np.random.default_rng(3).normal(-2, 1.1, len(later)), threshold=0.0, training_alert_rate=0.035)
    reasons = decided(blind, present, later).reasons
    assert [reason.partition(" is ")[0].split(" (")[0].rsplit(" ", 1)[0] for reason in reasons[:2]] == [
        "ROC-AUC",
        "average precision",
    ]
    assert len(reasons) == 4
