"""Rows in, a list out: on real DuckDB and a real small forest, spelled out or against plain Python."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.alerts.lists import AlertList, earlier_keys, list_alerts, most_alerts, most_sampled
from fraud_assets.alerts.schemas import ALERTS_SCHEMA, LISTS_SCHEMA, SAMPLES_SCHEMA, WITHDRAWN_SCHEMA
from fraud_assets.gold.predictions import GOLD_SCHEMA, SCORED_COLUMNS, score_batches
from fraud_assets.model.attribution import Attribution
from fraud_assets.model.scorer import Scorer
from fraud_assets.silver.contract import FEATURE_NAMES, silver_schema
from fraud_assets_tests.depth import cases
from fraud_assets_tests.model.test_scorer import fitted, transactions

DAY = "2026-01-05"
NOW = datetime(2026, 1, 6, 8, tzinfo=UTC)
MADE = {"model_version": "3", "silver_version": "s", "partition_key": DAY}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    rows = transactions(np.random.default_rng(3), 4_000)
    return Scorer.from_pipeline(fitted(rows))


def bought(transaction: str, card: str = "card", *, amount: float = 60.0, second: int = 0, **values: Any):
    """A Silver row; by itself in its window unless told otherwise."""
    alone = {
        "TransactionID": transaction,
        "event_timestamp": datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=second),
        "card_id": card,
        "ProductCD": "W",
        "TransactionAmt": amount,
        "log_transaction_amount": float(np.log1p(amount)),
        "is_high_value_txn": int(amount >= 500),
        "is_international_txn": 0,
        "txn_count_5min": 1,
        "avg_amount_5min": amount,
        "stddev_amount_5min": 0.0,
        "product_diversity_5min": 1,
        "isFraud": None,
        **dict.fromkeys(("input_version", "lookback_version", "tail_version"), "x"),
        "silver_version": MADE["silver_version"],
        "partition_key": DAY,
    }
    return alone | values


def listed(
    scorer: Any,
    rows: list[dict[str, Any]],
    *,
    earlier: list[dict[str, Any]] | None = None,
    before: AlertList | None = None,
    most: int = 100,
    sampled: int = 0,
) -> AlertList:
    silver = pa.Table.from_pylist(rows, schema=silver_schema())
    batches = silver.select(list(SCORED_COLUMNS)).to_batches()
    scored = score_batches(iter(batches), scorer=scorer, scored_at=NOW, **MADE)
    tables = {
        "silver": silver,
        "scored": pa.Table.from_batches(scored, schema=GOLD_SCHEMA),
        "earlier": pa.Table.from_pylist(earlier or [], schema=silver_schema()),
        "shown": ALERTS_SCHEMA.empty_table() if before is None else before.alerts,
        "withdrawn": WITHDRAWN_SCHEMA.empty_table() if before is None else before.withdrawn,
        "drawn": SAMPLES_SCHEMA.empty_table() if before is None else before.sample,
    }
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            con.register(f"{name}_table", table)
        made = list_alerts(
            con,
            **{name: f"(FROM {name}_table)" for name in tables},
            scorer=scorer,
            most=most,
            alerts_per_day=100,
            sampled=sampled,
            alerted_at=NOW,
        )
        for name in tables:
            con.unregister(f"{name}_table")
    return made


BURST = [
    bought(f"b{n}", "tested", amount=1.0 + n / 100, second=10 * n, txn_count_5min=n + 1, avg_amount_5min=1.0 + n / 200,
           stddev_amount_5min=0.01 * n, product_diversity_5min=1, is_international_txn=1)
    for n in range(9)
]  # fmt: skip
LARGE = bought("large", "rich", amount=9_000.0, second=3_600, is_international_txn=1)
USUAL = [bought(f"u{n}", f"c{n}", amount=40.0 + n, second=60 * n) for n in range(30)]


def test_a_list_is_grouped_by_card_the_most_suspicious_card_first(scorer: Scorer) -> None:
    made = listed(scorer, [*USUAL, *BURST, LARGE])
    rows = made.alerts.to_pylist()
    assert made.alerts.schema.equals(ALERTS_SCHEMA, check_metadata=True)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    cards = list(dict.fromkeys(row["card_id"] for row in rows))
    assert sorted(cards) == ["rich", "tested"]
    best = {card: max(row["fraud_score"] for row in rows if row["card_id"] == card) for card in cards}
    assert cards == sorted(cards, key=lambda card: -best[card])
    assert rows == sorted(rows, key=lambda row: (row["card_rank"], -row["fraud_score"]))
    tested = [row for row in rows if row["card_id"] == "tested"]
    assert {row["card_alerts"] for row in tested} == {len(tested)}
    assert {row["card_amount_at_risk"] for row in tested} == {round(sum(row["TransactionAmt"] for row in tested), 3)}


def test_a_row_carries_the_cards_day_and_what_was_usual(scorer: Scorer) -> None:
    earlier = [bought(f"e{n}", "rich", amount=amount) for n, amount in enumerate((80.0, 98.0, 120.0))]
    made = listed(scorer, [*USUAL, LARGE, bought("small", "rich", second=7_200)], earlier=earlier)
    [row] = made.alerts.to_pylist()
    assert [one["TransactionID"] for one in row["card_transactions"]] == ["large", "small"]
    assert [one["is_anomaly"] for one in row["card_transactions"]] == [True, False]
    assert (row["card_earlier_transactions"], row["card_usual_amount"], row["card_most_in_5min"]) == (3, 98.0, 1)
    assert row["reason"] == "9,000.00, 92 times this card's usual 98.00; abroad, for the first time in 30 days"
    assert [reason["feature"] for reason in row["reasons"]] == ["TransactionAmt", "is_international_txn"]


def test_of_a_card_that_was_hardly_used_before_nothing_is_called_usual(scorer: Scorer) -> None:
    made = listed(scorer, [*USUAL, LARGE], earlier=[bought("e", "rich", amount=98.0)] * 2)
    [row] = made.alerts.to_pylist()
    assert row["reason"] == "9,000.00, 164 times the usual 55.00 of all cards; abroad"


def test_reasons_are_the_scorers_own_contributions(scorer: Scorer) -> None:
    made = listed(scorer, [*USUAL, LARGE])
    [row] = made.alerts.to_pylist()
    [contributions] = Attribution.of(scorer).contributions(np.array([[LARGE[name] for name in FEATURE_NAMES]]))
    amount = contributions[[0, 1, 2, 5]].sum()  # the only one in its window, whose average it is
    assert row["reasons"][0]["contribution"] == pytest.approx(amount, abs=1e-12)


def test_a_burst_of_small_alike_purchases_is_seen_as_one(scorer: Scorer) -> None:
    rows = listed(scorer, [*USUAL, *BURST, LARGE]).alerts.to_pylist()
    for row in rows:
        assert row["is_burst_of_small_alike"] == (row["card_id"] == "tested" and row["txn_count_5min"] >= 3)
        assert not row["is_usual_burst"]


def test_a_burst_like_those_that_the_card_had_before_is_seen_as_usual(scorer: Scorer) -> None:
    earlier = [bought(f"e{n}", "tested", amount=1.0, txn_count_5min=n + 1) for n in range(9)]
    made = listed(scorer, [*USUAL, *BURST], earlier=earlier)
    assert {row["is_usual_burst"] for row in made.alerts.to_pylist()} == {True}
    assert made.summary["usual_bursts"].to_pylist() == [len(made.alerts)]


def test_the_cut_leaves_the_highest_scores_and_says_how_many_are_below(scorer: Scorer) -> None:
    everything = listed(scorer, [*USUAL, *BURST, LARGE]).alerts.to_pylist()
    made = listed(scorer, [*USUAL, *BURST, LARGE], most=2)
    highest = sorted((row["fraud_score"] for row in everything), reverse=True)[:2]
    assert sorted(made.alerts["fraud_score"].to_pylist(), reverse=True) == highest
    [summary] = made.summary.to_pylist()
    assert summary["anomalies"] == len(everything) == summary["alerts"] + summary["below_the_cut"]
    assert (summary["alerts"], summary["most_alerts"], summary["scored_rows"]) == (2, 2, 40)
    assert made.summary.schema.equals(LISTS_SCHEMA, check_metadata=True)


def test_a_partition_without_anomalies_has_an_empty_list_and_a_row_that_says_so(scorer: Scorer) -> None:
    made = listed(scorer, USUAL)
    assert (len(made.alerts), len(made.withdrawn)) == (0, 0)
    [summary] = made.summary.to_pylist()
    assert (summary["alerts"], summary["anomalies"], summary["amount_at_risk"]) == (0, 0, 0.0)
    assert {name: summary[name] for name in MADE} == MADE


def test_what_was_shown_and_is_no_alert_any_more_is_withdrawn_with_the_reason(scorer: Scorer) -> None:
    first = listed(scorer, [*USUAL, *BURST, LARGE])
    corrected = [row | {"TransactionAmt": 40.0} for row in BURST if row["TransactionID"] != "b8"]
    corrected = [bought(row["TransactionID"], "tested", second=600 * at) for at, row in enumerate(corrected)]
    second = listed(scorer, [*USUAL, *corrected, LARGE], before=first)
    shown = {row["TransactionID"] for row in first.alerts.to_pylist()}
    why = {row["TransactionID"]: row["why"] for row in second.withdrawn.to_pylist()}
    assert set(why) == shown - {"large"}
    assert why.pop("b8") == "the transaction is not in the partition any more"
    assert set(why.values()) == {"its score lies below the threshold now"}
    again = listed(scorer, [*USUAL, *corrected, LARGE], before=second)
    assert again.withdrawn.equals(second.withdrawn)
    # A run that died after it had written what it withdrew, and before the list, is repeated.
    repeated = listed(scorer, [*USUAL, *corrected, LARGE], before=replace(second, alerts=first.alerts))
    assert repeated.withdrawn.equals(second.withdrawn)
    back = listed(scorer, [*USUAL, *BURST, LARGE], before=again)
    assert len(back.withdrawn) == 0


def test_others_that_rank_higher_withdraw_an_alert_with_that_reason(scorer: Scorer) -> None:
    first = listed(scorer, [*USUAL, BURST[-1]], most=1)
    second = listed(scorer, [*USUAL, BURST[-1], bought("huge", "rich", amount=1e6, is_international_txn=1)], most=1,
                    before=first)  # fmt: skip
    assert [row["why"] for row in second.withdrawn.to_pylist()] in ([], ["others are more suspicious now"])
    assert len(second.alerts) == 1
    assert bool(len(second.withdrawn)) == (second.alerts["TransactionID"].to_pylist() == ["huge"])


def test_a_partition_that_lost_all_its_rows_has_no_list_and_withdraws_what_was_shown(scorer: Scorer) -> None:
    first = listed(scorer, [*USUAL, LARGE])
    second = listed(scorer, [], before=first)
    assert (len(second.alerts), len(second.summary)) == (0, 0)
    assert [row["TransactionID"] for row in second.withdrawn.to_pylist()] == ["large"]


def test_a_card_with_a_thousand_transactions_shows_those_around_the_alert(scorer: Scorer) -> None:
    many = [bought(f"m{n:03}", "busy", second=80 * n) for n in range(1_000)]
    many[500] = bought("m500", "busy", amount=9_000.0, second=80 * 500, is_international_txn=1)
    [row] = listed(scorer, many).alerts.to_pylist()
    around = [one["TransactionID"] for one in row["card_transactions"]]
    assert around == [f"m{n:03}" for n in range(475, 526)]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "=1+1", "\u202etxet", "x" * 10_000, "a;b'\"\n", ""])
def test_hostile_texts_go_through_unharmed(scorer: Scorer, text: str) -> None:
    hostile = LARGE | {"TransactionID": f"t{text}", "card_id": text, "ProductCD": text}
    [row] = listed(scorer, [*USUAL, hostile]).alerts.to_pylist()
    assert (row["TransactionID"], row["card_id"], row["ProductCD"]) == (f"t{text}", text, text)
    assert row["card_transactions"][0]["ProductCD"] == text


@settings(max_examples=cases(15, 50))
@given(st.integers(0, 45), st.sampled_from((0, 3, 100)))
def test_what_is_drawn_for_review_is_no_alert_and_depends_on_nothing_but_ids(
    scorer: Scorer, sampled: int, most: int
) -> None:
    rows = [*USUAL, *BURST, LARGE]
    made = listed(scorer, rows, most=most, sampled=sampled)
    alerts = set(made.alerts["TransactionID"].to_pylist())
    rest = sorted(
        (one["TransactionID"] for one in rows if one["TransactionID"] not in alerts),
        key=lambda id_: md5(f"drawn for review {id_}".encode(), usedforsecurity=False).hexdigest(),
    )
    drawn = made.sample.to_pylist()
    assert made.sample.schema.equals(SAMPLES_SCHEMA, check_metadata=True)
    assert {one["TransactionID"] for one in drawn} == {*rest[:sampled]}
    assert len(drawn) == min(sampled, len(rest))
    assert {one["unalerted_rows"] for one in drawn} <= {len(rest)}
    assert made.summary["sampled_rows"].to_pylist() == [len(drawn)]
    values = {one["TransactionID"]: (one["card_id"], one["TransactionAmt"], one["ProductCD"]) for one in rows}
    assert all(
        values[one["TransactionID"]] == (one["card_id"], one["TransactionAmt"], one["ProductCD"]) for one in drawn
    )


def test_what_was_drawn_stays_drawn_whatever_is_added(scorer: Scorer) -> None:
    before = listed(scorer, [*USUAL, LARGE], sampled=5)
    more = [bought(f"more{n}", f"d{n}", amount=50.0, second=60 * n) for n in range(200)]
    after = listed(scorer, [*USUAL, *more, LARGE], before=before, sampled=8)
    drawn, drawn_before = (set(made.sample["TransactionID"].to_pylist()) for made in (after, before))
    assert (len(drawn), len(drawn_before)) == (8, 5)
    assert drawn_before < drawn
    assert drawn != set(listed(scorer, [*USUAL, *more, LARGE], sampled=8).sample["TransactionID"].to_pylist())


@given(st.integers(0, 500), st.integers(0, 30))
def test_hours_draw_together_what_the_day_draws_and_what_was_drawn_stays(per_day: int, drawn: int) -> None:
    hours = [f"{DAY}-{hour:02}" for hour in range(24)]
    parts = [most_sampled(key, "hourly", per_day, 0) for key in hours]
    assert sum(parts) == per_day
    assert max(parts) - min(parts) <= 1
    assert most_sampled(DAY, "daily", per_day, drawn) == max(per_day, drawn)
    assert most_sampled(hours[0], "hourly", per_day, drawn) == max(parts[0], drawn)


def test_a_version_without_a_compiled_scorer_has_alerts_without_reasons() -> None:
    class Amount:
        threshold = 1_000.0

        def score(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
            return X[:, 0].copy()

        def percentile(self, scores: np.ndarray) -> np.ndarray:
            return np.full(len(scores), np.nan)

    [row] = listed(Amount(), [*USUAL, LARGE]).alerts.to_pylist()
    assert (row["reasons"], row["score_percentile"]) == ([], None)
    assert row["reason"].startswith("No reasons")


@settings(max_examples=cases(15, 40))
@given(st.randoms(use_true_random=False), st.integers(0, 12))
def test_any_list_is_the_highest_anomalies_card_after_card(scorer: Scorer, chance: Any, most: int) -> None:
    rows = [
        bought(f"t{n}", f"c{chance.randrange(4)}", amount=chance.choice((1.0, 60.0, 900.0, 5_000.0)),
               second=n, is_international_txn=chance.randrange(2), txn_count_5min=chance.choice((1, 1, 5)))
        for n in range(25)
    ]  # fmt: skip
    chance.shuffle(rows)
    scores = scorer.score(np.array([[row[name] for name in FEATURE_NAMES] for row in rows], np.float64))
    found = sorted((-score, row["TransactionID"], row["card_id"]) for score, row in zip(scores, rows, strict=True))
    top = [one for one in found if -one[0] > scorer.threshold][:most]
    cards = list(dict.fromkeys(sorted((card for *_, card in top), key=lambda card: min(
        (score, card) for score, _, other in top if other == card))))  # fmt: skip
    expected = sorted(top, key=lambda one: (cards.index(one[2]), one))
    made = listed(scorer, rows, most=most)
    assert made.alerts["TransactionID"].to_pylist() == [transaction for _, transaction, _ in expected]


# How many


def test_a_day_has_its_alerts_whatever_other_days_have() -> None:
    assert most_alerts("2026-01-05", "daily", 100, {"2026-01-04": 100}) == 100


def test_an_hours_list_grows_with_the_day_and_leaves_what_was_shown() -> None:
    shown: dict[str, int] = {}
    totals = []
    for hour in range(24):
        key = f"2026-01-05-{hour:02}"
        shown[key] = min(most_alerts(key, "hourly", 100, shown), 2 if hour < 6 else 99)
        totals.append(sum(shown.values()))
    assert totals[:7] == [2, 4, 6, 8, 10, 12, 30]
    assert totals[-1] == 100


@settings(max_examples=cases(100, 1_000))
@given(st.permutations(range(24)), st.lists(st.integers(0, 30), min_size=24, max_size=24), st.integers(1, 60))
def test_hours_in_any_order_never_show_more_than_a_days_alerts(
    order: list[int], anomalies: list[int], alerts_per_day: int
) -> None:
    shown: dict[str, int] = {"2026-01-04-23": 1_000}
    for hour in [*order, *order[:7]]:  # some are corrected
        key = f"2026-01-05-{hour:02}"
        shown[key] = min(most_alerts(key, "hourly", alerts_per_day, shown), anomalies[hour])
        assert sum(alerts for other, alerts in shown.items() if other.startswith("2026-01-05")) <= alerts_per_day


def test_a_cards_usual_is_taken_from_the_thirty_days_before() -> None:
    days = [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n)).strftime("%Y-%m-%d") for n in range(60)]
    assert earlier_keys("2026-02-10", days, "daily") == days[10:40]
    hours = [f"{day}-{hour:02}" for day in days for hour in (0, 12)]
    assert earlier_keys("2026-02-10-12", hours, "hourly") == hours[21:81]


def test_a_list_is_made_without_pandas_numba_and_scikit_learn(scorer: Scorer, tmp_path: Path) -> None:
    replace(scorer, training_scores=np.zeros(1)).save(tmp_path)
    program = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path
import duckdb
from fraud_assets.alerts.lists import list_alerts
from fraud_assets.alerts.schemas import ALERTS_SCHEMA, SAMPLES_SCHEMA, WITHDRAWN_SCHEMA
from fraud_assets.gold.predictions import GOLD_SCHEMA
from fraud_assets.model.scorer import Scorer
from fraud_assets.silver.contract import silver_schema
from fraud_assets.sql import duckdb_type
def relation(schema, **values):
    return "(SELECT " + ", ".join(
        f"{{values.get(field.name, 'NULL')}}::{{duckdb_type(field.type)}} AS {{field.name}}" for field in schema
    ) + ")"
one = dict(TransactionID="'t'", card_id="'c'", event_timestamp="TIMESTAMPTZ '2026-01-05 12:00:00+00'",
    TransactionAmt=9000, log_transaction_amount=9.1, is_high_value_txn=1, is_international_txn=1, txn_count_5min=1,
    avg_amount_5min=9000, stddev_amount_5min=0, product_diversity_5min=1, fraud_score=0.2, is_anomaly="true",
    model_version="'1'", silver_version="'s'", partition_key="'2026-01-05'", ProductCD="'W'")
with duckdb.connect() as con:
    made = list_alerts(con, scored=relation(GOLD_SCHEMA, **one), silver=relation(silver_schema(), **one),
        earlier=relation(silver_schema(), **one), shown=f"(FROM {{relation(ALERTS_SCHEMA)}} WHERE false)",
        withdrawn=f"(FROM {{relation(WITHDRAWN_SCHEMA)}} WHERE false)",
        drawn=f"(FROM {{relation(SAMPLES_SCHEMA)}} WHERE false)", scorer=Scorer.load(Path({str(tmp_path)!r})),
        most=5, alerts_per_day=5, alerted_at=datetime.now(tz=UTC))
assert made.alerts.num_rows == 1, made
assert made.alerts["reasons"].to_pylist()[0]
loaded = {{"pandas", "numba", "sklearn", "mlflow", "dagster"}} & set(sys.modules)
assert not loaded, loaded
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
