"""What a version is made of: the fitted pipeline in MLflow's form, our loader, the compiled scorer, the signature.

Belongs here: logging a model to the active MLflow run, and seeing that it works. Does not belong here: the registry's
entry for it (`registry`), and what the loader does once it runs (`pyfunc_loader`).
"""

import hashlib
import json
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.ranker import RANKER_FEATURES, Ranker
from fraud_assets.model.scorer import is_anomaly
from fraud_assets.resources.models.pyfunc_loader import write_file_list
from fraud_assets.resources.models.version_files import download
from fraud_assets.silver.contract import FEATURES

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo

    from fraud_assets.model.ranker_training import TrainedRanker
    from fraud_assets.model.training import Trained

DISTRIBUTION_FILE: Final = "training_distribution.json"
"""How features and score were distributed over the training rows; in the version and among the run's artifacts."""

SCORER_FOLDER: Final = "scorer"
"""The compiled scorer within a version; absent where the forest could not be compiled."""

SERVED_PACKAGES: Final = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
"""What a version needs to be loaded and served; named, since inferring it takes MLflow a quarter of a minute."""

RANKER_DESCRIPTION: Final = (
    "Orders the alerts of a day by the probability of fraud, learnt from labels. The version behind `@prod` orders new "
    "lists; `fraud-assets promote --ranker` and `rollback --ranker` move it, on the record."
)
"""What MLflow's page of the ranker says."""

MODEL_DESCRIPTION: Final = (
    "Scores card transactions: a higher `fraud_score` is more suspicious, and above a version's threshold it says "
    "`is_anomaly`. The version behind `@prod` scores; `fraud-assets promote` and `rollback` move it, on the record."
)
"""What MLflow's page of the registered model says."""

_MLFLOW_TYPES: Final = {"double": "double", "int": "integer", "long": "long"}
_LOADER: Final = Path(__file__).with_name("pyfunc_loader.py")


class RegistrationError(FraudAssetsError):
    """A logged model does not do what its version would promise, so it was not registered."""


def log_model(trained: "Trained", scratch: Path) -> tuple["ModelInfo", Path]:
    """Return a model that was logged to the active MLflow run and seen to work, and a folder of its files.

    The logged files are loaded as pyfunc: their signature is the contract's, and their answer on the example equals
    `-pipeline.decision_function`, bit for bit, with the compiled scorer too; otherwise it raises RegistrationError.
    """
    import mlflow
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    example = trained.example()
    mlflow.log_dict(dict(trained.distribution), DISTRIBUTION_FILE)
    logged = Model.log(
        artifact_path=None,
        name="model",
        flavor=SimpleNamespace(save_model=_save_flavours),
        flavor_name="sklearn",
        validate_serving_input=False,
        trained=trained,
        loader=_loader_copy(scratch),
        input_example=example,
    )
    folder = download(logged.model_uri, scratch / "logged")
    loaded = load_model(str(folder))
    if loaded.metadata.signature != contract_signature():
        raise RegistrationError(f"Logged with another signature: {loaded.metadata.signature}.")
    score, answer = -trained.pipeline.decision_function(example), loaded.predict(example)
    if not ((answer["fraud_score"] == score) & (answer["is_anomaly"] == is_anomaly(score, trained.threshold))).all():
        raise RegistrationError("The logged model and the fitted pipeline score the input example differently.")
    return logged, folder


@cache
def contract_signature() -> "ModelSignature":
    """Return the contract as an MLflow signature: the eight features in order, then score and decision."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(_MLFLOW_TYPES[feature.type], feature.name) for feature in FEATURES]),
        outputs=Schema([ColSpec("double", "fraud_score"), ColSpec("boolean", "is_anomaly")]),
    )


@cache
def ranker_signature() -> "ModelSignature":
    """Return what a ranker looks at as an MLflow signature; the answer is the probability of both kinds, fraud last."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in RANKER_FEATURES]),
        outputs=Schema([TensorSpec(np.dtype("float64"), (-1, 2))]),
    )


def log_ranker(trained: "TrainedRanker", scratch: Path) -> tuple["ModelInfo", Path]:
    """Return a ranker that was logged to the active MLflow run and seen to work, and a folder of its files.

    Loaded as pyfunc it answers the example as the classifier does, and its compiled form with the same log odds, bit
    for bit; otherwise it raises RegistrationError.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    example = trained.example()
    logged = Model.log(
        artifact_path=None,
        name="model",
        flavor=SimpleNamespace(save_model=_save_ranker),
        flavor_name="sklearn",
        validate_serving_input=False,
        trained=trained,
        input_example=example,
    )
    folder = download(logged.model_uri, scratch / "logged")
    loaded = load_model(str(folder))
    if loaded.metadata.signature != ranker_signature():
        raise RegistrationError(f"Logged with another signature: {loaded.metadata.signature}.")
    expected = trained.classifier.predict_proba(example)
    compiled = Ranker.load(folder / SCORER_FOLDER).log_odds(example.to_numpy("float64"))
    if (loaded.predict(example) != expected).any() or (compiled != trained.classifier.decision_function(example)).any():
        raise RegistrationError("The logged ranker and the fitted one rank the input example differently.")
    return logged, folder


def _save_ranker(
    *, path: str, mlflow_model: Any, trained: "TrainedRanker", input_example: "pd.DataFrame", **_: Any
) -> None:
    """Save the classifier as scikit-learn does, and its compiled form beside; `Model.log` calls this."""
    from mlflow.sklearn import SERIALIZATION_FORMAT_SKOPS, save_model

    save_model(
        trained.classifier,
        path,
        mlflow_model=mlflow_model,
        serialization_format=SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        signature=ranker_signature(),
        input_example=input_example,
        pip_requirements=[f"{package}=={installed_version(package)}" for package in SERVED_PACKAGES],
        pyfunc_predict_fn="predict_proba",
    )
    trained.ranker.save(Path(path) / SCORER_FOLDER)
    write_file_list(Path(path))


def library_versions() -> dict[str, str]:
    """Return the installed versions of what decides a training's result and its files."""
    packages = ("scikit-learn", "numpy", "mlflow", "fraud_assets")
    return {f"{package.replace('-', '_')}_version": installed_version(package) for package in packages}


def _loader_copy(folder: Path) -> Path:
    """Return a copy of the pyfunc loader whose module name carries its digest.

    Python keeps modules by name: under one name, the second version loaded in a process would run the first's code.
    """
    source = _LOADER.read_bytes()
    copy = folder / f"fraud_pyfunc_{hashlib.sha256(source).hexdigest()[:12]}.py"
    copy.write_bytes(source)
    return copy


def _save_flavours(
    *, path: str, mlflow_model: Any, trained: "Trained", loader: Path, input_example: "pd.DataFrame", **_: Any
) -> None:
    """Save the model as scikit-learn does, then let pyfunc answer by our loader; `Model.log` calls this."""
    from mlflow.sklearn import SERIALIZATION_FORMAT_SKOPS, save_model

    save_model(
        trained.pipeline,
        path,
        mlflow_model=mlflow_model,
        code_paths=[str(loader)],
        serialization_format=SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=["sklearn.tree._tree.Tree"],  # all that skops does not trust in an IsolationForest
        signature=contract_signature(),
        input_example=input_example,
        pip_requirements=[f"{package}=={installed_version(package)}" for package in SERVED_PACKAGES],
    )
    root = Path(path)
    (root / "scoring.json").write_text(json.dumps({"threshold": trained.threshold}))
    (root / DISTRIBUTION_FILE).write_text(json.dumps(trained.distribution, indent=2) + "\n")
    if trained.scorer is not None:
        trained.scorer.save(root / SCORER_FOLDER)
    pyfunc = mlflow_model.flavors["python_function"]
    for sklearn_only in ("model_path", "predict_fn"):
        del pyfunc[sklearn_only]
    pyfunc["loader_module"] = loader.stem
    mlflow_model.save(str(root / "MLmodel"))
    write_file_list(root)
