import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from fraud_assets.silver.contract import (
    FEATURE_NAMES,
    as_features,
    check_features,
    quarantine_schema,
    silver_schema,
)

GOOD_ROW = {
    "TransactionID": "'T1'",
    "event_timestamp": "TIMESTAMPTZ '2026-01-05 12:00:00'",
    "card_id": "'card-1'",
    "ProductCD": "'W'",
    "TransactionAmt": "10.5::DOUBLE",
    "log_transaction_amount": "ln(1 + 10.5::DOUBLE)",
    "is_high_value_txn": "0::INTEGER",
    "is_international_txn": "1::INTEGER",
    "txn_count_5min": "1::BIGINT",
    "avg_amount_5min": "10.5::DOUBLE",
    "stddev_amount_5min": "0::DOUBLE",
    "product_diversity_5min": "1::BIGINT",
    "isFraud": "NULL::INTEGER",
    "input_version": "'i'",
    "lookback_version": "'l'",
    "tail_version": "'t'",
    "silver_version": "'s'",
    "partition_key": "'2026-01-05'",
}


def relation(*rows: dict[str, str]) -> str:
    selects = (", ".join(f"{value} AS {name}" for name, value in row.items()) for row in rows)
    return f"({' UNION ALL '.join(f'SELECT {select}' for select in selects)})"


def features(**changes: object) -> pd.DataFrame:
    row = dict.fromkeys(FEATURE_NAMES, 1) | changes
    return pd.DataFrame([row])


def test_the_features_have_these_names_in_this_order():
    assert FEATURE_NAMES == (
        "TransactionAmt",
        "log_transaction_amount",
        "is_high_value_txn",
        "is_international_txn",
        "txn_count_5min",
        "avg_amount_5min",
        "stddev_amount_5min",
        "product_diversity_5min",
    )


def test_the_silver_schema_is_the_published_one():
    assert [(field.name, str(field.type)) for field in silver_schema()] == [
        ("TransactionID", "string"),
        ("event_timestamp", "timestamp[us, tz=UTC]"),
        ("card_id", "string"),
        ("ProductCD", "string"),
        ("TransactionAmt", "double"),
        ("log_transaction_amount", "double"),
        ("is_high_value_txn", "int32"),
        ("is_international_txn", "int32"),
        ("txn_count_5min", "int64"),
        ("avg_amount_5min", "double"),
        ("stddev_amount_5min", "double"),
        ("product_diversity_5min", "int64"),
        ("isFraud", "int32"),
        ("input_version", "string"),
        ("lookback_version", "string"),
        ("tail_version", "string"),
        ("silver_version", "string"),
        ("partition_key", "string"),
    ]


def test_the_quarantine_schema_is_the_published_one():
    assert [(field.name, str(field.type)) for field in quarantine_schema()] == [
        ("file", "string"),
        ("line", "int64"),
        ("reasons", "list<item: string>"),
        ("raw_row", "string"),
        ("input_version", "string"),
        ("partition_key", "string"),
    ]


def test_every_column_has_a_meaning():
    fields = [*silver_schema(), *quarantine_schema()]
    assert [field.name for field in fields if not (field.metadata or {}).get(b"comment")] == []


def test_features_come_in_contract_order_and_types():
    frame = features(extra="x")[["extra", *reversed(FEATURE_NAMES)]]
    result = as_features(frame)
    assert tuple(result.columns) == FEATURE_NAMES
    assert [str(dtype) for dtype in result.dtypes] == [
        "float64",
        "float64",
        "int32",
        "int32",
        "int64",
        "float64",
        "float64",
        "int64",
    ]


def test_missing_features_are_named():
    frame = features().drop(columns=["txn_count_5min", "TransactionAmt"])
    with pytest.raises(ValueError, match=r"Missing feature columns: TransactionAmt, txn_count_5min\."):
        as_features(frame)


@pytest.mark.parametrize("value", [1.5, float("nan"), 2.0**40], ids=["fraction", "nan", "too-large"])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_a_whole_number_feature_is_never_rounded_to_fit(value: float):
    with pytest.raises(ValueError, match=r"is_high_value_txn|finite"):
        as_features(features(is_high_value_txn=value))


def test_good_rows_pass(con: duckdb.DuckDBPyConnection):
    check = check_features(con, relation(GOOD_ROW, GOOD_ROW | {"TransactionID": "'T2'"}))
    assert check.passed
    assert check.summary() == "2 rows keep the feature contract."


def test_rows_that_something_else_wrote_need_none_of_our_versions(con: duckdb.DuckDBPyConnection):
    names = ("input_version", "lookback_version", "tail_version", "silver_version")
    assert check_features(con, relation(GOOD_ROW | dict.fromkeys(names, "NULL::VARCHAR"))).passed


def test_no_rows_pass(con: duckdb.DuckDBPyConnection):
    con.execute(f"CREATE TEMP TABLE none AS SELECT * FROM {relation(GOOD_ROW)} LIMIT 0")
    assert check_features(con, "none").passed


@pytest.mark.parametrize(
    ("change", "violations"),
    [
        (
            {"TransactionAmt": "-1::DOUBLE"},
            {
                "isfinite(TransactionAmt) AND TransactionAmt >= 0",
                "log_transaction_amount = ln(1 + TransactionAmt)",
                "isfinite(avg_amount_5min) AND avg_amount_5min >= 0"
                " AND (txn_count_5min > 1 OR avg_amount_5min = TransactionAmt)",
            },
        ),
        ({"log_transaction_amount": "2.4423::DOUBLE"}, {"log_transaction_amount = ln(1 + TransactionAmt)"}),
        ({"log_transaction_amount": "NULL::DOUBLE"}, {"log_transaction_amount = ln(1 + TransactionAmt)"}),
        ({"is_high_value_txn": "2::INTEGER"}, {"is_high_value_txn IN (0, 1)"}),
        ({"is_international_txn": "NULL::INTEGER"}, {"is_international_txn IN (0, 1)"}),
        (
            {"txn_count_5min": "0::BIGINT"},
            {"txn_count_5min >= 1", "product_diversity_5min BETWEEN 1 AND txn_count_5min"},
        ),
        (
            {"avg_amount_5min": "'inf'::DOUBLE", "txn_count_5min": "2::BIGINT"},
            {
                "isfinite(avg_amount_5min) AND avg_amount_5min >= 0"
                " AND (txn_count_5min > 1 OR avg_amount_5min = TransactionAmt)"
            },
        ),
        (
            {"stddev_amount_5min": "1::DOUBLE"},
            {
                "isfinite(stddev_amount_5min) AND stddev_amount_5min >= 0"
                " AND (txn_count_5min > 1 OR stddev_amount_5min = 0)"
            },
        ),
        (
            {"product_diversity_5min": "2::BIGINT"},
            {"product_diversity_5min BETWEEN 1 AND txn_count_5min"},
        ),
        ({"isFraud": "2::INTEGER"}, {"isFraud is 0, 1 or null"}),
        ({"card_id": "NULL::VARCHAR"}, {"card_id is present"}),
        ({"partition_key": "NULL::VARCHAR"}, {"partition_key is present"}),
        ({"TransactionAmt": "10.5::FLOAT"}, {"column TransactionAmt is FLOAT, not DOUBLE"}),
        (
            {"event_timestamp": "TIMESTAMP '2026-01-05 12:00:00'"},
            {"column event_timestamp is TIMESTAMP, not TIMESTAMP WITH TIME ZONE"},
        ),
        ({"ninth": "1"}, {"columns ninth are surplus"}),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_each_broken_rule_is_reported_with_its_rows(
    con: duckdb.DuckDBPyConnection, change: dict[str, str], violations: set[str]
):
    check = check_features(con, relation(GOOD_ROW | change))
    assert check.violations == dict.fromkeys(violations, 1)
    assert not check.passed
    assert all(rule in check.summary() for rule in violations)


def test_a_missing_column_is_reported(con: duckdb.DuckDBPyConnection):
    row = {name: value for name, value in GOOD_ROW.items() if name != "card_id"}
    assert check_features(con, relation(row)).violations == {"column card_id is missing": 1}


def test_columns_in_another_order_are_reported(con: duckdb.DuckDBPyConnection):
    row = dict(reversed(GOOD_ROW.items()))
    assert check_features(con, relation(row)).violations == {"columns are not in contract order": 1}


def test_a_wrong_schema_is_reported_even_without_rows(con: duckdb.DuckDBPyConnection):
    con.execute("CREATE TEMP TABLE none (x INTEGER)")
    assert check_features(con, "none").violations == {"column TransactionID is missing": 1}


def test_an_id_twice_in_a_partition_is_reported(con: duckdb.DuckDBPyConnection):
    check = check_features(con, relation(GOOD_ROW, GOOD_ROW))
    assert check.violations == {"(partition_key, TransactionID) is unique": 1}


def test_an_id_used_again_in_another_partition_is_no_violation(con: duckdb.DuckDBPyConnection):
    assert check_features(con, relation(GOOD_ROW, GOOD_ROW | {"partition_key": "'2026-01-06'"})).passed


def test_the_schema_says_what_each_column_means():
    assert silver_schema().field("card_id").metadata == {b"comment": b"The card, as the source identifies it."}
    assert silver_schema().field("isFraud").type == pa.int32()
