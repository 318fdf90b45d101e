"""Pictures: drawn from the same figures, small enough for an asset's page, whatever is missing."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fraud_assets.model.evaluation import Scores
from fraud_assets.model.pictures import draw

N = 3_000
GENERATOR = np.random.default_rng(0)
IS_FRAUD = GENERATOR.random(N) < 0.05
ROWS = pd.DataFrame(
    {
        "isFraud": IS_FRAUD.astype(float),
        "TransactionAmt": 1.0,
        "card_id": "one",
        "partition_key": np.where(np.arange(N) % 2, "2026-01-05", "2026-01-06"),
    }
)
FOREST = Scores(GENERATOR.normal(size=N) + IS_FRAUD, threshold=1.5)
OTHERS = {"rule": Scores(GENERATOR.normal(size=N)), "reference": Scores(GENERATOR.normal(size=N) + 2 * IS_FRAUD)}
UNKNOWN = {"reference": Scores(None, not_measurable="too few frauds to learn from")}


@pytest.mark.parametrize(
    ("rows", "scorers"),
    [
        pytest.param(ROWS, {"forest": FOREST} | OTHERS, id="all"),
        pytest.param(ROWS, {"forest": FOREST} | OTHERS | UNKNOWN, id="no reference"),
        pytest.param(ROWS, {"forest": Scores(FOREST.values)}, id="the forest alone, without a threshold"),
        pytest.param(ROWS, {"forest": Scores(FOREST.values, threshold=99.0)}, id="no alert"),
        pytest.param(ROWS, {"forest": Scores(np.zeros(N), threshold=0.0)}, id="one score for all"),
        pytest.param(ROWS.assign(isFraud=ROWS.isFraud.where(ROWS.index > 99)), {"forest": FOREST}, id="labels missing"),
        pytest.param(ROWS.assign(partition_key="2026-01-05-07"), {"forest": FOREST}, id="one hour of one day"),
    ],
)
def test_four_pictures_of_the_width_of_a_page_are_drawn(rows: pd.DataFrame, scorers: dict[str, Scores]) -> None:
    drawn = draw(rows, scorers, alerts_per_day=100)
    assert list(drawn) == ["ROC curve", "precision-recall curve", "alerts per day", "scores by label"]
    for png in drawn.values():
        assert Image.open(BytesIO(png)).size == (700, 420)
        assert len(png) < 60_000


def test_the_same_scores_give_the_same_pictures() -> None:
    assert draw(ROWS, {"forest": FOREST}, alerts_per_day=5) == draw(ROWS, {"forest": FOREST}, alerts_per_day=5)
