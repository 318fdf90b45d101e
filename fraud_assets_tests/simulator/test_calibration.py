"""The feed looks like the genuine file: its margins, and how hard it is, stay within bands set by hand.

The bands hold the genuine figures and what chance adds over 20 days of 3,000 rows.
"""

from datetime import date, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.simulator.feed import simulate_day
from fraud_assets_tests.depth import FULL
from fraud_assets_tests.simulator.truth import scenarios_of_day

DAYS = [date(2026, 1, 1) + timedelta(days=i) for i in range(29)]
SEEDS = [7, 1, 2, 3] if FULL else [7]
CASES = [(profile, seed) for profile in ("default", "hard") for seed in SEEDS]

WINDOWS = """
    SELECT *, concat_ws('-', card1, card2, card3, card5, addr1) AS card,
        count(*) OVER near AS near, count(*) OVER again AS again, count(*) OVER (PARTITION BY TransactionDT) AS at_once
    FROM raw JOIN truth USING (TransactionID)
    WINDOW near AS (PARTITION BY card ORDER BY TransactionDT RANGE BETWEEN 300 PRECEDING AND 300 FOLLOWING),
        again AS (PARTITION BY card, TransactionAmt ORDER BY TransactionDT RANGE BETWEEN 300 PRECEDING AND CURRENT ROW)
"""

MARGINS = {
    "sum(1) / 20": (2_850, 3_150),
    "avg(isFraud)": (0.032, 0.038),
    "avg(TransactionAmt) FILTER (isFraud = 0)": (143, 160),
    "quantile_cont(TransactionAmt, 0.50) FILTER (isFraud = 0)": (74, 80),
    "quantile_cont(TransactionAmt, 0.95) FILTER (isFraud = 0)": (450, 505),
    "quantile_cont(TransactionAmt, 0.99) FILTER (isFraud = 0)": (1_200, 2_000),
    "max(TransactionAmt)": (2_500, 30_000),
    "min(TransactionAmt)": (0.3, 1.5),
    "avg((near > 1)::INT)": (0.13, 0.18),
    "avg((again > 1)::INT)": (0.024, 0.032),
    "avg((at_once > 1)::INT)": (0.038, 0.050),
    "avg((round(TransactionAmt, 2) <> TransactionAmt)::INT) FILTER (ProductCD = 'C')": (0.86, 0.90),
    "max((round(TransactionAmt, 2) <> TransactionAmt)::INT) FILTER (ProductCD <> 'C')": (0, 0),
    "avg((ProductCD = 'C')::INT)": (0.10, 0.13),
    "avg((ProductCD = 'W')::INT)": (0.65, 0.78),
    "avg((addr1 IS NULL)::INT)": (0.10, 0.13),
    "avg((dist1 IS NULL)::INT)": (0.57, 0.63),
    "avg((card2 IS NULL)::INT)": (0.010, 0.025),
    "avg((P_emaildomain IS NULL)::INT)": (0.16, 0.20),
    # Busy cards weigh much: over 40 seeds this share has a standard deviation of 0.008.
    "avg((card_country = 'US')::INT)": (0.84, 0.90),
    "avg((card_country <> txn_country)::INT) FILTER (isFraud = 0)": (0.06, 0.11),
}

FRAUD_MARGINS = {
    # The scenario's share and three standard deviations (0.05 and 0.035 over 30 seeds): rows of a session go together.
    "avg((card_country <> txn_country)::INT) FILTER (scenario = 'card_testing')": (0.23, 0.53),
    "avg((card_country <> txn_country)::INT) FILTER (scenario = 'account_takeover')": (0.445, 0.655),
    "median(TransactionAmt) FILTER (scenario = 'card_testing')": (7, 11),
    "median(TransactionAmt) FILTER (scenario = 'account_takeover')": (390, 470),
    "avg((near > 1)::INT) FILTER (scenario = 'card_testing')": (0.75, 0.95),
    "avg((near > 1)::INT) FILTER (scenario = 'low_and_slow')": (0.0, 0.10),
}

# Shares of fraudulent rows early in the drift: four to five points of testing have yet to become takeover.
MIX = {
    "default": {"card_testing": 0.49, "account_takeover": 0.36, "low_and_slow": 0.10, "friendly_fraud": 0.05},
    "hard": {"card_testing": 0.34, "account_takeover": 0.26, "low_and_slow": 0.25, "friendly_fraud": 0.15},
}

# ROC-AUC and average precision of the seed pipeline. Nine seeds gave 0.824-0.846 and 0.197-0.256 by default,
# 0.698-0.737 and 0.136-0.165 for hard.
DIFFICULTY = {"default": ((0.81, 0.86), (0.18, 0.27)), "hard": ((0.68, 0.76), (0.12, 0.18))}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def feed(request):
    profile, seed = request.param
    days = [simulate_day(day, seed=seed, profile=profile) for day in DAYS]
    truth = [scenarios_of_day(day, seed=seed, profile=profile) for day in DAYS]
    with duckdb.connect() as con:
        con.register("raw", pa.concat_tables(days))
        con.register("truth", pa.concat_tables(truth))
        con.execute(f"CREATE TABLE feed AS {WINDOWS}")
        con.execute("CREATE VIEW twenty_days AS FROM feed WHERE TransactionDT < 86400 * 21")
        yield profile, con


def outside(con, bands) -> dict:
    values = con.execute(f"SELECT {', '.join(bands)} FROM twenty_days").fetchone()
    found = zip(bands.items(), values, strict=True)
    return {margin: float(value) for (margin, (low, high)), value in found if not low <= value <= high}


def test_margins_are_those_of_the_genuine_file(feed):
    _, con = feed
    assert outside(con, MARGINS) == {}


def test_each_fraud_goes_the_way_it_should(feed):
    _, con = feed
    assert outside(con, FRAUD_MARGINS) == {}


def test_frauds_are_mixed_as_the_profile_says(feed):
    profile, con = feed
    counts = con.execute("SELECT scenario, count(*) FROM twenty_days WHERE isFraud = 1 GROUP BY 1").fetchall()
    total = sum(count for _, count in counts)
    assert {scenario: count / total for scenario, count in counts} == pytest.approx(MIX[profile], abs=0.05)


def test_card_activity_is_uneven(feed):
    _, con = feed
    query = (
        "SELECT sum(n) FILTER (place <= 0.1) / sum(n) FROM (SELECT n, percent_rank() OVER (ORDER BY n DESC) AS place"
    )
    (share,) = con.execute(f"{query} FROM (SELECT count(*) AS n FROM twenty_days GROUP BY card))").fetchone()
    assert 0.30 < share < 0.50


def test_people_sleep_and_frauds_do_not(feed):
    _, con = feed
    query = """
        SELECT avg((TransactionDT // 3600 % 24 BETWEEN 8 AND 11)::INT) FILTER (isFraud = 0),
            avg((TransactionDT // 3600 % 24 BETWEEN 8 AND 11)::INT) FILTER (isFraud = 1)
        FROM twenty_days WHERE card_country = 'US'
    """
    night, night_of_frauds = con.execute(query).fetchone()
    assert night < 0.06
    assert 0.12 < night_of_frauds < 0.22


def test_the_seed_pipeline_finds_the_feed_as_hard_as_documented(feed):
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import average_precision_score, roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    profile, con = feed
    columns = con.execute("""
        SELECT TransactionAmt, ln(1 + TransactionAmt), TransactionAmt >= 500, card_country <> txn_country,
            count(*) OVER w, avg(TransactionAmt) OVER w, coalesce(stddev_samp(TransactionAmt) OVER w, 0),
            count(DISTINCT ProductCD) OVER w, isFraud, TransactionDT >= 86400 * 21
        FROM feed
        WINDOW w AS (PARTITION BY card ORDER BY TransactionDT RANGE BETWEEN 300 PRECEDING AND CURRENT ROW)
        ORDER BY TransactionID
    """).fetchnumpy()
    *features, label, is_later = (np.asarray(values, dtype=float) for values in columns.values())
    table, later = np.column_stack(features), is_later == 1
    forest = IsolationForest(n_estimators=200, contamination=0.035, random_state=42)
    pipeline = make_pipeline(StandardScaler(), forest).fit(table[~later])
    score = -pipeline.decision_function(table[later])
    (auc_low, auc_high), (precision_low, precision_high) = DIFFICULTY[profile]
    assert auc_low < roc_auc_score(label[later], score) < auc_high
    assert precision_low < average_precision_score(label[later], score) < precision_high
