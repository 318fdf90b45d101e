"""What a report asks of the tables: relations in, values of `report.facts` out. No table is opened here."""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from duckdb import DuckDBPyConnection

from fraud_assets.report.facts import (
    Alert,
    CardAlerts,
    PartitionFigures,
    Quarantine,
    Reviews,
    ScoreDistribution,
    Transaction,
)
from fraud_assets.silver.cleaning import REASONS, reason_kind

_BINS: Final = 40
"""Of the score: fine enough to see a second hump, coarse enough that the bins of a day are not noise."""


def read_cards(con: DuckDBPyConnection, alerts: str, reviews: str) -> tuple[CardAlerts, ...]:
    """Return the cards of one partition's alerts, the most suspicious first, with what reviews say of them by now."""
    outcomes = dict(con.execute(f"SELECT TransactionID, outcome FROM {reviews}").fetchall())
    found = con.execute(
        f"""
        SELECT
            card_rank, card_id, card_amount_at_risk, is_alike_burst, card_transactions,
            rank, TransactionID, event_timestamp, TransactionAmt, ProductCD, fraud_score, score_percentile,
            [reason.text FOR reason IN reasons]
        FROM {alerts} ORDER BY card_rank, rank
        """
    ).fetchall()
    cards: dict[int, CardAlerts] = {}
    for card_rank, card_id, at_risk, is_burst, bought, rank, transaction_id, time, *values, reasons in found:
        amount, product, score, percentile = values
        alert = Alert(
            rank=rank,
            transaction_id=transaction_id,
            time=time,
            amount=amount,
            product=product,
            score=score,
            percentile=percentile,
            reasons=tuple(reasons),
            outcome=outcomes.get(transaction_id),
        )
        if (card := cards.get(card_rank)) is not None:
            cards[card_rank] = CardAlerts(
                card.rank, card.card_id, (*card.alerts, alert), card.amount_at_risk, card.day, card.is_harmless_burst
            )
            continue
        day = tuple(
            Transaction(
                one["TransactionID"],
                one["event_timestamp"],
                one["TransactionAmt"],
                one["ProductCD"],
                is_anomaly=one["is_anomaly"],
            )
            for one in bought
        )
        cards[card_rank] = CardAlerts(card_rank, card_id, (alert,), at_risk, day, bool(is_burst))
    return tuple(cards.values())


def read_history(con: DuckDBPyConnection, alert_lists: str) -> tuple[PartitionFigures, ...]:
    """Return the figures of the partitions of a relation of alert lists, in time order."""
    found = con.execute(
        "SELECT partition_key, scored_rows, anomalies, alerts, amount_at_risk, model_version "
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


def read_reviews(con: DuckDBPyConnection, reviews: str, alerts: str) -> Reviews | None:
    """Return what was decided of the alerts of a relation; None where none was reviewed."""
    [(shown, fraud, genuine, unsure, first, last, latest)] = con.execute(
        f"""
        SELECT
            count(*),
            count(*) FILTER (outcome = 'fraud'),
            count(*) FILTER (outcome = 'genuine'),
            count(*) FILTER (outcome = 'unsure'),
            min(partition_key), max(partition_key), max(reviewed_at)
        FROM {alerts} AS alerts LEFT JOIN (SELECT TransactionID, outcome, reviewed_at FROM {reviews})
            USING (TransactionID)
        """
    ).fetchall()
    if not fraud + genuine + unsure:
        return None
    return Reviews(shown, fraud, genuine, unsure, first, last, latest)


def healthy_partitions(builds: Mapping[str, Mapping[str, int]], keys: Collection[str], *, limit: float) -> list[str]:
    """Return those of the partitions, in time order, of which no larger share than the limit was refused."""
    return [
        key
        for key in sorted(keys)
        if key in builds and builds[key]["quarantined_rows"] <= limit * builds[key]["landed_rows"]
    ]
