import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.gold.predictions import GOLD_SCHEMA, SCORED_COLUMNS, score_batches
from fraud_assets.silver.contract import FEATURE_NAMES, silver_schema
from fraud_assets_tests.depth import cases

SCORED_AT = datetime(2026, 2, 1, 3, 4, 5, 678901, tzinfo=UTC)

FEATURES = silver_schema()


class Weighted:
    """A model with another weight for each feature, so that no two can be exchanged."""

    weights = np.array([1.0, 20.0, -3.0, 40.0, 0.5, -6.0, 7.0, 0.125])
    threshold = 10.0

    def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        assert X.dtype == np.float64
        assert X.shape[1:] == (8,)
        return X @ self.weights

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        return np.where(scores < 0, np.nan, scores / 1000)


def silver_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Return rows as scoring reads them; what is not spelled out is the same everywhere."""
    common = {
        "TransactionID": "T",
        "event_timestamp": datetime(2026, 1, 5, 12, tzinfo=UTC),
        "card_id": "c",
        **dict.fromkeys(FEATURE_NAMES, 1),
    }
    types = pa.schema([FEATURES.field(name) for name in SCORED_COLUMNS])
    return pa.RecordBatch.from_pylist([common | row for row in rows], schema=types)


STAMPS = {"model_version": "7", "silver_version": "s", "partition_key": "2026-01-05"}


def scored(*batches: pa.RecordBatch, scorer: Any = None, **stamps: str) -> list[pa.RecordBatch]:
    scorer = scorer or Weighted()
    return list(score_batches(iter(batches), scorer=scorer, scored_at=SCORED_AT, **(STAMPS | stamps)))


def test_a_row_is_scored_in_contract_order() -> None:
    features = dict(zip(FEATURE_NAMES, (10.0, 2.0, 1, 0, 4, 5.0, 6.0, 8), strict=True))
    [batch] = scored(silver_batch([{"TransactionID": "A", "card_id": "card", **features}]))
    expected = 10.0 + 40.0 - 3.0 + 0.0 + 2.0 - 30.0 + 42.0 + 1.0
    assert batch.to_pylist() == [
        {
            "TransactionID": "A",
            "event_timestamp": datetime(2026, 1, 5, 12, tzinfo=UTC),
            "TransactionAmt": 10.0,
            "fraud_score": expected,
            "is_anomaly": True,
            "score_percentile": expected / 1000,
            "card_id": "card",
            "model_version": "7",
            "silver_version": "s",
            "scored_at": SCORED_AT,
            "partition_key": "2026-01-05",
        }
    ]


def test_columns_and_types_are_exactly_golds() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in GOLD_SCHEMA] == [
        ("TransactionID", "string", False),
        ("event_timestamp", "timestamp[us, tz=UTC]", False),
        ("TransactionAmt", "double", False),
        ("fraud_score", "double", False),
        ("is_anomaly", "bool", False),
        ("score_percentile", "double", True),
        ("card_id", "string", False),
        ("model_version", "string", False),
        ("silver_version", "string", False),
        ("scored_at", "timestamp[us, tz=UTC]", False),
        ("partition_key", "string", False),
    ]
    [batch] = scored(silver_batch([{}]))
    assert batch.schema.equals(GOLD_SCHEMA, check_metadata=True)


def test_the_label_is_never_read() -> None:
    assert "isFraud" not in SCORED_COLUMNS


@pytest.mark.parametrize(("above", "is_anomaly"), [(0.0, False), (1e-9, True), (-1e-9, False)])
def test_an_anomaly_lies_above_the_versions_threshold(above: float, is_anomaly: bool) -> None:
    class AtThreshold(Weighted):
        def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
            return np.full(len(X), self.threshold + above)

    [batch] = scored(silver_batch([{}]), scorer=AtThreshold())
    assert batch.column("is_anomaly").to_pylist() == [is_anomaly]


def test_a_percentile_that_is_not_known_is_null_not_nan() -> None:
    [batch] = scored(silver_batch([{"TransactionAmt": 5.0}, {"is_high_value_txn": 100}]))
    known, unknown = batch.column("score_percentile").to_pylist()
    assert known is not None
    assert unknown is None
    assert batch.column("score_percentile").null_count == 1


def test_batches_come_out_as_they_came_in() -> None:
    sizes = [3, 0, 1]
    batches = [silver_batch([{"TransactionID": f"{n}-{row}"} for row in range(size)]) for n, size in enumerate(sizes)]
    assert [batch.column("TransactionID").to_pylist() for batch in scored(*batches)] == [
        ["0-0", "0-1", "0-2"],
        [],
        ["2-0"],
    ]
    assert scored() == []


def test_one_batch_is_held_at_a_time() -> None:
    asked = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            asked.append(number)
            yield silver_batch([{}])

    made = score_batches(batches(), scorer=Weighted(), scored_at=SCORED_AT, **STAMPS)
    next(made)
    assert asked == [0]


def test_many_rows_stay_in_their_order() -> None:
    rows = [{"TransactionID": str(n), "TransactionAmt": float(n), "txn_count_5min": n % 7} for n in range(5_001)]
    [batch] = scored(silver_batch(rows))
    others = 20.0 - 3.0 + 40.0 - 6.0 + 7.0 + 0.125  # the other features are 1
    assert batch.column("fraud_score").to_pylist() == [others + n + 0.5 * (n % 7) for n in range(5_001)]
    assert batch.column("model_version").to_pylist() == ["7"] * 5_001
    batch.validate(full=True)


def test_a_version_of_any_text_stands_in_every_row() -> None:
    for version in ("", "12", "größer"):
        for name in STAMPS:
            two, one = scored(silver_batch([{}, {}]), silver_batch([{}]), **{name: version})
            assert two.column(name).to_pylist() == [version, version]
            assert one.column(name).to_pylist() == [version]


def test_rows_are_scored_without_loading_pandas() -> None:
    program = """
import sys
from datetime import UTC, datetime
import duckdb
from fraud_assets.gold.predictions import SCORED_COLUMNS, score_batches
from fraud_assets.silver.contract import silver_schema
types = {"int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE", "string": "VARCHAR"}
columns = [f"1::{types.get(str(silver_schema().field(name).type), 'BIGINT')} AS {name}" for name in SCORED_COLUMNS]
columns[1] = "TIMESTAMPTZ '2026-01-05' AS event_timestamp"
class Zero:
    threshold = 0.0
    def score(self, X): return 0.0 * X[:, 0]
    percentile = score = lambda self, X: 0.0 * X.reshape(len(X), -1)[:, 0]
with duckdb.connect() as connection:
    rows = connection.sql(f"SELECT {', '.join(columns)}").to_arrow_reader(10)
    stamps = {"model_version": "1", "silver_version": "s", "partition_key": "k", "scored_at": datetime.now(tz=UTC)}
    [batch] = score_batches(iter(rows), scorer=Zero(), **stamps)
assert batch.num_rows == 1
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


ROWS = st.fixed_dictionaries(
    {
        "TransactionID": st.text(max_size=3),
        "event_timestamp": st.integers(0, 10**6).map(
            lambda n: datetime(2026, 1, 5, tzinfo=UTC) + timedelta(microseconds=n)
        ),
        "TransactionAmt": st.integers(0, 10**9).map(lambda n: n / 1000),
        "log_transaction_amount": st.floats(0, 30),
        "is_high_value_txn": st.integers(0, 1),
        "is_international_txn": st.integers(0, 1),
        "txn_count_5min": st.integers(1, 2**40),
        "avg_amount_5min": st.floats(0, 1e9),
        "stddev_amount_5min": st.floats(0, 1e9),
        "product_diversity_5min": st.integers(1, 50),
    }
)


@settings(max_examples=cases(40, 500))
@given(parts=st.lists(st.lists(ROWS, max_size=5), max_size=3))
def test_each_row_has_the_score_that_it_has_alone(parts: list[list[dict[str, Any]]]) -> None:
    made = [row for batch in scored(*map(silver_batch, parts)) for row in batch.to_pylist()]
    rows = [row for part in parts for row in part]
    assert len(made) == len(rows)
    for row, gold in zip(rows, made, strict=True):
        # One after the other, in plain Python's order; numpy may add the products in another.
        score = sum(weight * float(row[name]) for weight, name in zip(Weighted.weights, FEATURE_NAMES, strict=True))
        assert gold["fraud_score"] == pytest.approx(score, rel=1e-9, abs=1e-4)
        assert gold["is_anomaly"] == (gold["fraud_score"] > 10.0)
        assert gold["score_percentile"] == (None if gold["fraud_score"] < 0 else gold["fraud_score"] / 1000)
        assert {name: gold[name] for name in ("TransactionID", "event_timestamp", "TransactionAmt")} == {
            name: row[name] for name in ("TransactionID", "event_timestamp", "TransactionAmt")
        }
