"""How fast scores are made, beside scikit-learn in the same process: batches, one row, a cold start, training.

What belongs here: the model's speed. What does not: the speed of building or committing tables.
"""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.measuring import Timing, compare
from fraud_assets.model import scorer_kernels
from fraud_assets.model.scorer import Scorer, fit_offset
from fraud_assets.silver.build import InputDigest, build_partition
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.silver.source import load_source
from fraud_assets.simulator.writing import write_day

FIRST_DAY: Final = date(2026, 1, 5)
"""Any day of the simulated feed would do."""

ROWS_PER_DAY: Final = 50_000
"""Large days, so that few files hold many rows."""

_COLD: Final = {
    "scikit-learn": """
import joblib, numpy as np, pandas as pd
pipeline = joblib.load(folder / "pipeline.joblib")
scores = -pipeline.decision_function(pd.DataFrame(np.load(folder / "rows.npy"), columns=pipeline.feature_names_in_))
""",
    "compiled scorer": """
import numpy as np
from fraud_assets.model.scorer import Scorer
scores = Scorer.load(folder / "scorer").score(np.load(folder / "rows.npy"))
""",
    "compiled scorer, kernels loaded": """
import numpy as np
from fraud_assets.model.scorer import Scorer, warm
warm()
scores = Scorer.load(folder / "scorer").score(np.load(folder / "rows.npy"))
""",
}

_DIGEST = InputDigest("benchmark", "", "")


def simulated_features(first_day: date, days: int) -> pd.DataFrame:
    """Return the eight features of simulated days, made as Silver makes them."""
    source = load_source("simulated")
    frames = []
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for day in (first_day + timedelta(days=n) for n in range(days)):
            path = write_day(day, Path(folder), format="parquet", rows_per_day=ROWS_PER_DAY)
            build_partition(connection, source, day.isoformat(), [RawFile(path, path.name)], None, _DIGEST)
            frames.append(connection.execute("SELECT * FROM silver_rows").df()[list(FEATURE_NAMES)])
    return pd.concat(frames, ignore_index=True)


def fitted(features: pd.DataFrame, contamination: Any) -> Pipeline:
    """Return the pipeline that training fits, with its default parameters."""
    forest = IsolationForest(n_estimators=200, random_state=42).set_params(contamination=contamination)
    return Pipeline([("scaler", StandardScaler()), ("forest", forest)]).fit(features)


def measure(*, most_rows: int = 1_000_000) -> Iterator[list[Timing]]:
    """Yield one comparison after another; scikit-learn is the control of each."""
    days, some = -(-most_rows // ROWS_PER_DAY), min(most_rows, 2 * ROWS_PER_DAY)
    features = simulated_features(FIRST_DAY, days + 3)
    training, rows = features.iloc[:some], features.iloc[2 * ROWS_PER_DAY :]
    pipeline = fitted(training, 0.035)
    scorer = Scorer.from_pipeline(pipeline)
    few, few_array = rows.iloc[:3_000], rows.iloc[:3_000].to_numpy(np.float64)

    yield compare(
        "one row, warm",
        {
            "scikit-learn": lambda: pipeline.decision_function(few.iloc[:1]),
            "compiled scorer": lambda: scorer.score(few_array[:1]),
        },
        calls=20,
    )
    for n in sorted({some, most_rows}):
        batch = rows.iloc[:n]
        array = batch.to_numpy(np.float64)
        yield compare(
            f"{n:,} rows",
            {
                "scikit-learn, one thread": lambda batch=batch: pipeline.decision_function(batch),
                "compiled scorer, one thread": _on_one_thread(scorer, array),
                f"compiled scorer, {scorer_kernels.THREADS} threads": lambda array=array: scorer.score(array),
                **(_competitors(pipeline, array) if n == some else {}),
            },
        )
    sample = np.random.default_rng(0).normal(size=(some, len(FEATURE_NAMES)))
    frame = pd.DataFrame(sample, columns=pd.Index(FEATURE_NAMES))
    plain = fitted(frame, 0.035)
    hard = Scorer.from_pipeline(plain)
    yield compare(
        f"{some:,} rows of eight independent Gaussians, of which no two are alike",
        {
            "scikit-learn, one thread": lambda: plain.decision_function(frame),
            "compiled scorer, one thread": _on_one_thread(hard, sample),
        },
    )
    yield compare(
        f"training on {len(training):,} rows, contamination 0.035",
        {
            "scikit-learn": lambda: fitted(training, 0.035),
            "'auto', then the compiled scorer's offset": lambda: fit_offset(
                fitted(training, "auto"), training.to_numpy(np.float64), 0.035
            ),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        joblib.dump(pipeline, Path(folder, "pipeline.joblib"))
        np.save(Path(folder, "rows.npy"), few_array)
        scorer.save(Path(folder, "scorer"))
        yield compare(
            "a new process scores 3,000 rows",
            {name: _in_a_new_process(program, folder) for name, program in _COLD.items()},
        )


def _on_one_thread(scorer: Scorer, rows: np.ndarray) -> Callable[[], np.ndarray]:
    def score() -> np.ndarray:
        with _threads(1):
            return scorer.score(rows)

    return score


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = scorer_kernels.THREADS
    scorer_kernels.__dict__["THREADS"] = number
    try:
        yield
    finally:
        scorer_kernels.__dict__["THREADS"] = before


def _competitors(pipeline: Pipeline, rows: np.ndarray) -> dict[str, Callable[[], np.ndarray] | None]:
    """Return the libraries that compile forests, on one thread; None where one is not installed (extra `bench`)."""
    ways: dict[str, Callable[[], np.ndarray] | None] = {"treelite, one thread": None, "onnxruntime, one thread": None}
    scaler: Any = pipeline[0]
    forest: Any = pipeline[-1]
    named = pd.DataFrame(rows, columns=pd.Index(FEATURE_NAMES))
    if importlib.util.find_spec("treelite"):
        import treelite  # pyright: ignore[reportMissingImports]

        compiled = treelite.sklearn.import_model(forest)
        ways["treelite, one thread"] = lambda: (
            treelite.gtil.predict(compiled, scaler.transform(named).astype(np.float32), nthread=1).ravel()
            + forest.offset_
        )
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("skl2onnx"):
        import onnxruntime  # pyright: ignore[reportMissingImports]
        import skl2onnx  # pyright: ignore[reportMissingImports]
        from skl2onnx.common.data_types import FloatTensorType  # pyright: ignore[reportMissingImports]

        shape = FloatTensorType([None, rows.shape[1]])
        graph: Any = skl2onnx.convert_sklearn(
            pipeline, initial_types=[("rows", shape)], target_opset={"": 15, "ai.onnx.ml": 3}
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session: Any = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        ways["onnxruntime, one thread"] = lambda: -session.run(["scores"], {"rows": rows.astype(np.float32)})[0].ravel()
    return ways


def _in_a_new_process(program: str, folder: str) -> Callable[[], Any]:
    source = f"from pathlib import Path\nfolder = Path({folder!r})\n{program}"
    return lambda: subprocess.run([sys.executable, "-c", source], check=True)
