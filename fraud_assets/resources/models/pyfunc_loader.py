"""What MLflow's pyfunc loader runs inside a registered version: features in, `fraud_score, is_anomaly` out.

A copy of this file travels with every version, under a name that carries its digest, so that two versions
loaded in one process run their own code. It stands alone: it may use `fraud_assets` where that is installed,
for speed, and gives the same bits where it is not. Nothing heavy is imported before the files were checked.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FILES = "files.json"
"""Name of the list of a version's files: path to sha256."""

_NOT_LISTED = frozenset({FILES, "MLmodel", "registered_model_meta"})
"""MLflow writes the other two after the list was made; the registry's digest covers MLmodel, too."""


class ChangedFilesError(RuntimeError):
    """The files of a version are not those that were registered; none of them was loaded."""


class CopiedStoreError(RuntimeError):
    """The store was copied, and still names the files of its original; none of them was loaded."""


class FraudModel:
    """One version's scores and decisions; the sign was flipped before, higher is more suspicious."""

    def __init__(self, score, threshold: float):
        self._score = score
        self._threshold = threshold

    def predict(self, model_input: "pd.DataFrame", params: dict | None = None) -> "pd.DataFrame":
        """Return `fraud_score` (double) and `is_anomaly` (boolean), one row per row given, with its index."""
        import pandas as pd

        del params  # the version has no parameters; MLflow passes the argument all the same
        score = self._score(model_input)
        return pd.DataFrame({"fraud_score": score, "is_anomaly": score > self._threshold}, index=model_input.index)


def file_digests(root: Path) -> dict[str, str]:
    """Return the sha256 of every file under `root`, by its path from there.

    Left out are what Python caches, and `metadata/`, a folder that Databricks adds: nothing is loaded from it.
    """
    files = {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if "__pycache__" not in name.parts and name.parts[0] != "metadata"
    }


def write_file_list(root: Path) -> None:
    """Write the list that `changed_files` reads; the last thing to do to a version's folder."""
    digests = {name: digest for name, digest in file_digests(root).items() if name not in _NOT_LISTED}
    (root / FILES).write_text(json.dumps(digests, indent=2) + "\n")


def changed_files(root: Path) -> list[str]:
    """Return the files that were changed, removed or added since the list was written, each with what happened."""
    try:
        listed = dict(json.loads((root / FILES).read_text()))
    except (OSError, ValueError, TypeError):
        return [f"{FILES} is missing or damaged"]
    found = {name: digest for name, digest in file_digests(root).items() if name in listed or name not in _NOT_LISTED}
    return [
        f"{name} {'was added' if name not in listed else 'was changed' if name in found else 'is missing'}"
        for name in sorted({*listed, *found})
        if listed.get(name) != found.get(name)
    ]


def _load_pyfunc(path: str) -> FraudModel:
    """Return the version under `path`, by its compiled scorer where there is one; MLflow calls this.

    Raises:
        CopiedStoreError: MLflow's store lies in one data directory and names files in another.
        ChangedFilesError: A file was changed since the version was made. This module itself is imported by MLflow
            before it can look; only the registry's own check comes earlier.
    """
    root = Path(path)
    _require_files_beside_store(root)
    if changed := changed_files(root):
        raise ChangedFilesError(
            f"{'; '.join(changed)}, in {root}: these are not the files that were registered, so nothing was loaded. "
            "Fetch the version again; where that does not help, `fraud-assets rollback`, or train anew."
        )
    threshold = json.loads((root / "scoring.json").read_text())["threshold"]
    return FraudModel(_compiled_score(root / "scorer") or _pipeline_score(root), threshold)


def _require_files_beside_store(root: Path) -> None:
    from mlflow import get_registry_uri

    store = Path(get_registry_uri().removeprefix("sqlite:///"))
    ours, folder = store.with_name("artifacts"), root.resolve()
    is_in_a_data_directory = "/mlflow/artifacts/" in folder.as_posix()
    if store.name == "mlflow.db" and ours.is_dir() and is_in_a_data_directory and ours.resolve() not in folder.parents:
        raise CopiedStoreError(
            f"{store} names {root}, a place of another data directory: it was copied or moved, and nothing was loaded. "
            f"`FRAUD_DATA_DIR={store.parent.parent} fraud-assets status` lets it follow."
        )


def _compiled_score(folder: Path):
    try:
        from fraud_assets.model.scorer import Scorer, ScorerArtifactError
    except ImportError:
        return None
    try:
        scorer = Scorer.load(folder)
    except ScorerArtifactError:  # There is none, or it is for another scikit-learn: the pipeline is right there.
        return None
    return lambda features: scorer.score(features.to_numpy("float64"))


def _pipeline_score(root: Path):
    from mlflow.sklearn import load_model

    pipeline: Any = load_model(str(root))
    return lambda features: -pipeline.decision_function(features)
