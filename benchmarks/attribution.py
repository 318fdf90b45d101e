"""How fast contributions are made, beside plain scoring of the same rows and beside shap, and whether they agree.

What belongs here: the model's explanations. What does not: its scores (`scoring`). shap's values are an average over
all orders of the features, those of a path are in the order of its splits: another quantity, which need not agree.
"""

from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from benchmarks.measuring import Timing, compare
from benchmarks.scoring import FIRST_DAY, fitted, simulated_features
from fraud_assets.model.attribution import Attribution, warm
from fraud_assets.model.scorer import Scorer

_EXPLAINED_BY_SHAP: Final = 200
"""Rows: it takes milliseconds for each."""


def measure(*, rows: int) -> tuple[list[Timing], dict[str, float]]:
    """Return timings, the control being plain scoring, and the share of rows with shap's top feature, where known."""
    features = simulated_features(FIRST_DAY, -(-rows // 50_000) + 1)
    pipeline: Any = fitted(features, 0.035)
    scorer = Scorer.from_pipeline(pipeline)
    attribution = Attribution.of(scorer)
    warm()  # the scorer's kernels as well
    timings, agreement = [], {}
    for n in (100, rows):
        X = features.iloc[:n].to_numpy(np.float64)  # noqa: N806
        timings += compare(
            f"contributions of {n:,} rows",
            {
                "plain scoring": lambda X=X: scorer.score(X),  # noqa: N803
                "contributions": lambda X=X: attribution.contributions(X),  # noqa: N803
            },
            calls=20 if n == 100 else 1,
        )
    if find_spec("shap"):
        import shap  # pyright: ignore[reportMissingImports]

        frame = features.iloc[np.argsort(-scorer.score(features.to_numpy(np.float64)))[:_EXPLAINED_BY_SHAP]]
        X = frame.to_numpy(np.float64)  # noqa: N806
        explainer = shap.TreeExplainer(pipeline[-1])
        scaled = pipeline[0].transform(frame)
        timings += compare(
            f"the {_EXPLAINED_BY_SHAP} most suspicious rows",
            {
                "contributions": lambda: attribution.contributions(X),
                "shap.TreeExplainer": lambda: explainer.shap_values(scaled),
            },
        )
        theirs, ours = np.asarray(explainer.shap_values(scaled)), attribution.contributions(X)
        agreement["share of rows with shap's top feature"] = float((theirs.argmin(1) == ours.argmin(1)).mean())
    return timings, agreement
