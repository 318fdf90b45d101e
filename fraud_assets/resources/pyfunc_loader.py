"""What MLflow's pyfunc loader runs inside a registered version: features in, `fraud_score, is_anomaly` out.

A copy of this file travels with every version, under a name that carries its digest, so that two versions
loaded in one process run their own code. It stands alone: it may use `fraud_assets` where that is installed,
for speed, and gives the same bits where it is not.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


class FraudModel:
    """One version's scores and decisions; the sign was flipped before, higher is more suspicious."""

    def __init__(self, score, threshold: float):
        self._score = score
        self._threshold = threshold

    def predict(self, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Return `fraud_score` (double) and `is_anomaly` (boolean), one row per row given, with its index."""
        del params  # the version has no parameters; MLflow passes the argument all the same
        score = self._score(model_input)
        return pd.DataFrame({"fraud_score": score, "is_anomaly": score > self._threshold}, index=model_input.index)


def _load_pyfunc(path: str) -> FraudModel:
    """Return the version under `path`, by its compiled scorer where there is one; MLflow calls this."""
    root = Path(path)
    threshold = json.loads((root / "scoring.json").read_text())["threshold"]
    return FraudModel(_compiled_score(root / "scorer") or _pipeline_score(root), threshold)


def _compiled_score(folder: Path):
    if not folder.is_dir():
        return None
    try:
        from fraud_assets.model.scorer import Scorer, ScorerArtifactError
    except ImportError:
        return None
    try:
        scorer = Scorer.load(folder)
    except ScorerArtifactError:  # Made for another scikit-learn: the pipeline is right there.
        return None
    return lambda features: scorer.score(features.to_numpy(np.float64))


def _pipeline_score(root: Path):
    from mlflow.sklearn import load_model

    pipeline: Any = load_model(str(root))
    return lambda features: -pipeline.decision_function(features)
