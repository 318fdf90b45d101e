"""What a report asks of the tables: relations in, values of `report.facts` out. No table is opened here."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
from duckdb import DuckDBPyConnection

from fraud_assets.alerts.review_findings import read_sample
from fraud_assets.alerts.reviews import Outcome
from fraud_assets.report.facts import (
    Alert,
    CardAlerts,
    PartitionFigures,
    Quarantine,
    Reviews,
    ScoreDistribution,
    Transaction,
    Withdrawn,
)
from fraud_assets.silver.cleaning import REASONS, reason_kind

_BINS: Final = 40
"""Of the score: fine enough to see a second hump, coarse enough that the bins of a day are not noise."""


def read_cards(con: DuckDBPyConnection, alerts: str, *, outcomes: Mapping[str, Outcome]) -> tuple[CardAlerts, ...]:
    """Return the cards of one partition's alerts, the most suspicious first, with the outcomes of reviews by id."""
    answer = con.execute(
        f"""
        SELECT
            card_rank, card_id, card_amount_at_risk, is_burst_of_small_alike, card_transactions,
            card_earlier_transactions, card_usual_amount, card_most_in_5min,
            rank, TransactionID, event_timestamp, TransactionAmt, ProductCD, fraud_score, score_percentile,
            [one.text FOR one IN coalesce(ranker_reasons, reasons)] AS reasons
        FROM {alerts} ORDER BY card_rank, rank
        """
    )
    names = [name for name, *_ in answer.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    return tuple(_card(list(of_card), outcomes) for _, of_card in groupby(rows, key=itemgetter("card_rank")))


def _card(rows: Sequence[Mapping[str, Any]], outcomes: Mapping[str, Outcome]) -> CardAlerts:
    """Return one card from its alerts; each has the transactions around it."""
    first = rows[0]
    around = {one["TransactionID"]: one for row in rows for one in row["card_transactions"]}
    return CardAlerts(
        rank=first["card_rank"],
        card_id=first["card_id"],
        alerts=tuple(
            Alert(
                rank=row["rank"],
                transaction_id=row["TransactionID"],
                time=row["event_timestamp"],
                amount=row["TransactionAmt"],
                product=row["ProductCD"],
                score=row["fraud_score"],
                percentile=row["score_percentile"],
                reasons=tuple(row["reasons"]),
                outcome=outcomes.get(row["TransactionID"]),
            )
            for row in rows
        ),
        amount_at_risk=first["card_amount_at_risk"],
        day=tuple(
            Transaction(
                transaction_id=one["TransactionID"],
                time=one["event_timestamp"],
                amount=one["TransactionAmt"],
                product=one["ProductCD"],
                is_anomaly=one["is_anomaly"],
            )
            for one in sorted(around.values(), key=itemgetter("event_timestamp", "TransactionID"))
        ),
        is_harmless_burst=first["is_burst_of_small_alike"],
        earlier=first["card_earlier_transactions"],
        usual_amount=first["card_usual_amount"],
        most_in_window=first["card_most_in_5min"],
    )


def read_withdrawn(con: DuckDBPyConnection, withdrawn: str) -> tuple[Withdrawn, ...]:
    """Return what was shown of a partition and is no alert any more, the latest first."""
    found = con.execute(
        f"SELECT TransactionID, card_id, TransactionAmt, why, withdrawn_at FROM {withdrawn} "
        "ORDER BY withdrawn_at DESC, TransactionID"
    ).fetchall()
    return tuple(Withdrawn(*row) for row in found)


def read_history(con: DuckDBPyConnection, alert_lists: str) -> tuple[PartitionFigures, ...]:
    """Return the figures of the partitions of a relation of alert lists, in time order."""
    found = con.execute(
        "SELECT partition_key, scored_rows, anomalies, alerts, below_the_cut, amount_at_risk, model_version "
        f"FROM {alert_lists} ORDER BY partition_key"
    ).fetchall()
    return tuple(PartitionFigures(*row) for row in found)


def read_quarantine(
    con: DuckDBPyConnection, quarantined: str, *, landed_rows: int, quarantined_rows: int, limit: float
) -> Quarantine:
    """Return what was refused of one partition, the most frequent reason first."""
    found = con.execute(
        f"SELECT reason, count(*) AS n FROM (SELECT unnest(reasons) AS reason FROM {quarantined}) "
        "GROUP BY reason ORDER BY n DESC, reason"
    ).fetchall()
    reasons = tuple((reason, REASONS[reason_kind(reason)], rows) for reason, rows in found)
    return Quarantine(landed_rows, quarantined_rows, limit, reasons)


def read_scores(
    con: DuckDBPyConnection, predictions: str, *, training_scores: np.ndarray, threshold: float, training_rows: int
) -> ScoreDistribution | None:
    """Return how the scores of a partition lie beside those of training, in bins that the threshold divides.

    None where either is unknown. `training_scores` are sorted, all of them or evenly spaced ones.
    """
    [(low, high, rows)] = con.execute(
        f"SELECT min(fraud_score), max(fraud_score), count(*) FROM {predictions}"
    ).fetchall()
    if not rows or not len(training_scores):
        return None
    low, high = min(low, float(training_scores[0])), max(high, float(training_scores[-1]))
    step = (high - low) / _BINS or 1.0
    first, last = (int(np.floor((one - threshold) / step)) for one in (low, high))
    binned = con.execute(
        f"SELECT floor((fraud_score - $threshold) / $step)::INTEGER AS bin, count(*) FROM {predictions} GROUP BY bin",
        {"threshold": threshold, "step": step},
    ).fetchall()
    own, training = np.zeros(last - first + 1), np.zeros(last - first + 1)
    for place, n in binned:
        own[place - first] = n
    np.add.at(training, np.floor((training_scores - threshold) / step).astype(int) - first, 1)
    return ScoreDistribution(
        edges=tuple(float(threshold + place * step) for place in range(first, last + 2)),
        training=tuple(map(float, training / training.sum())),
        partition=tuple(map(float, own / rows)),
        threshold=threshold,
        training_rows=training_rows,
        partition_rows=rows,
    )


def read_outcomes(con: DuckDBPyConnection, reviews: str, key: str) -> dict[str, Outcome]:
    """Return what was decided of a partition's transactions, by id."""
    return dict(
        con.execute(f"SELECT TransactionID, outcome FROM {reviews} WHERE partition_key = $key", {"key": key}).fetchall()
    )


def read_reviews(con: DuckDBPyConnection, reviews: str, alert_lists: str, *, until: str) -> Reviews | None:
    """Return what was decided of alerts up to a partition; None where none was reviewed."""
    [(fraud, genuine, unsure, cards, first, last, latest)] = con.execute(
        f"""
        SELECT
            count(*) FILTER (outcome = 'fraud'),
            count(*) FILTER (outcome = 'genuine'),
            count(*) FILTER (outcome = 'unsure'),
            count(DISTINCT card_id) FILTER (outcome != 'unsure'),
            min(partition_key), max(partition_key), max(reviewed_at)
        FROM {reviews} WHERE was_alert AND partition_key <= $until
        """,
        {"until": until},
    ).fetchall()
    if not fraud + genuine + unsure:
        return None
    [(listed,)] = con.execute(
        f"SELECT sum(alerts)::BIGINT FROM {alert_lists} WHERE partition_key BETWEEN $first AND $last",
        {"first": first, "last": last},
    ).fetchall()
    sample = read_sample(con, reviews, alert_lists, until=until)
    return Reviews(listed or 0, fraud, genuine, unsure, cards, first, last, latest, sample)


def healthy_partitions(builds: Mapping[str, Mapping[str, int]], keys: Collection[str], *, limit: float) -> list[str]:
    """Return those of the partitions, in time order, of which no larger share than the limit was refused."""
    return [
        key
        for key in sorted(keys)
        if key in builds and builds[key]["quarantined_rows"] <= limit * builds[key]["landed_rows"]
    ]
