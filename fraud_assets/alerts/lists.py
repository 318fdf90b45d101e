"""Gold scores become a list for an analyst: which anomalies, in which order, with what beside them.

What belongs here: the making of one partition's list, from relations and a scorer. What does not: words (`reasons`),
columns (`schemas`), and where tables lie. Queries stand in the .sql files beside this one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from fraud_assets.alerts.ranker_reasons import ranker_reasons
from fraud_assets.alerts.reasons import LEAST_PURCHASES, USUAL_DAYS, Reason, Usual, in_one_sentence, reasons
from fraud_assets.alerts.schemas import (
    ALERTS_SCHEMA,
    BURST,
    FAR,
    LISTS_SCHEMA,
    NEAREST,
    SAMPLES_SCHEMA,
    WITHDRAWN_SCHEMA,
)
from fraud_assets.gold.predictions import RowScorer, count_anomalies
from fraud_assets.model.attribution import Attribution
from fraud_assets.model.ranker import Ranker
from fraud_assets.model.scorer import Scorer
from fraud_assets.partition_keys import Grain, bounds, day_of, key_of
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.sql import rows_as

_ALERTED, _USUAL, _ALERTS, _SAMPLE, _SUMMARY, _WITHDRAWN = (
    Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
    for name in ("alerted", "usual", "alerts", "sample", "summary", "withdrawn")
)

_NO_REASONS: Final = "No reasons: this model version has no compiled scorer to take them from"


@dataclass(frozen=True)
class Ranked:
    """All rows of a partition as a ranker sees them: ids, what it looks at, (n_rows, n_features), and its trees."""

    transactions: Sequence[str]
    X: np.ndarray
    ranker: Ranker
    history_version: str
    is_calibrated: bool
    """Whether its probability may be shown."""


@dataclass(frozen=True)
class Ranking:
    """The version of the ranker that a list goes by; `ranked` is None until the history of its cards is made."""

    version: str
    ranked: Ranked | None


@dataclass(frozen=True)
class AlertList:
    """One partition's list, as rows of `gold.fraud_alerts`, `withdrawn_alerts`, `review_samples` and `alert_lists`."""

    alerts: pa.Table
    withdrawn: pa.Table
    sample: pa.Table
    summary: pa.Table


def earlier_keys(key: str, keys: Iterable[str], grain: Grain) -> list[str]:
    """Return those of the partitions that lie in the days before one, from which a card's usual is taken."""
    start, _ = bounds(key, grain)
    first = key_of(start - timedelta(days=USUAL_DAYS), grain)
    return sorted(other for other in keys if first <= other < key)


def most_alerts(key: str, grain: Grain, alerts_per_day: int, shown: Mapping[str, int]) -> int:
    """Return how many alerts a partition may have at most.

    Analysts can look at so many a day. Where partitions are hours, the day's list grows: by the end of its n-th hour it
    holds n / 24 of them at most, what an hour leaves over is for later ones, and what an earlier hour has shown stays.

    Args:
        key: the partition.
        grain: what partitions are.
        alerts_per_day: of the whole day.
        shown: alerts of other partitions, by key, as far as their lists were made for as many a day.
    """
    if grain == "daily":
        return alerts_per_day
    start, _ = bounds(key, grain)
    of_day = {other: alerts for other, alerts in shown.items() if day_of(other) == day_of(key) and other != key}
    by_now = -(-alerts_per_day * (start.hour + 1) // 24)
    earlier = sum(alerts for other, alerts in of_day.items() if other < key)
    return max(0, min(by_now - earlier, alerts_per_day - sum(of_day.values())))


def most_sampled(key: str, grain: Grain, sample_per_day: int, drawn: int) -> int:
    """Return how many transactions of a partition are drawn for review: its part of the day's.

    Never fewer than were `drawn` before, since somebody may have reviewed them.
    """
    if grain == "daily":
        return max(sample_per_day, drawn)
    hour = bounds(key, grain)[0].hour
    until, before = (sample_per_day * hours // 24 for hours in (hour + 1, hour))
    return max(until - before, drawn)


def list_alerts(
    con: DuckDBPyConnection,
    *,
    scored: str,
    silver: str,
    earlier: str,
    shown: str,
    withdrawn: str,
    drawn: str,
    scorer: RowScorer | None,
    ranking: Ranking | None = None,
    most: int,
    alerts_per_day: int,
    sampled: int = 0,
    alerted_at: datetime,
) -> AlertList:
    """Return the list of one scored partition.

    Args:
        con: an in-memory connection; temporary views and tables of these names are made anew in it.
        scored: the partition's Gold rows; of none, nothing is listed and all that was shown is withdrawn.
        silver: its Silver rows.
        earlier: Silver rows of the days before, from which a card's usual is taken.
        shown: the partition's alerts as they stand now.
        withdrawn: what was withdrawn of it before.
        drawn: what was drawn of it for review before.
        scorer: the version that scored; reasons are taken from its compiled form, and there are none without it.
        ranking: how a ranker orders the partition; None where the score does.
        most: the most alerts of this partition.
        alerts_per_day: of its whole day.
        sampled: how many transactions that are no alert are drawn for review.
        alerted_at: when this list is made (UTC).
    """
    relations = {"scored_rows": scored, "silver_rows": silver, "earlier_rows": earlier}
    relations |= {"shown_alerts": shown, "withdrawn_before": withdrawn, "drawn_before": drawn}
    for name, relation in relations.items():
        con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {relation}")
    ranked = None if ranking is None else ranking.ranked
    _tell_ranked(con, ranked)
    [(usual_amount, usual_count)] = con.execute(
        "SELECT median(TransactionAmt), median(txn_count_5min)::DOUBLE FROM silver_rows"
    ).fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE alerted AS {_ALERTED}", {"most": most})
    con.execute(f"CREATE OR REPLACE TEMP TABLE card_usuals AS {_USUAL}")
    _tell_reasons(con, scorer, ranked, {"TransactionAmt": usual_amount, "txn_count_5min": usual_count})
    ranker = None if ranking is None else ranking.version
    _tell_list(con, usual_amount, alerted_at, {"ranker": ranker, "history": ranked and ranked.history_version})
    con.execute(f"CREATE OR REPLACE TEMP TABLE drawn AS {_SAMPLE}", {"most": sampled})
    _tell_summary(con, usual_amount=usual_amount, alerts_per_day=alerts_per_day, most=most)
    return AlertList(
        alerts=rows_as(con, "SELECT {} FROM listed_alerts ORDER BY rank", ALERTS_SCHEMA),
        withdrawn=rows_as(con, _WITHDRAWN, WITHDRAWN_SCHEMA),
        sample=rows_as(con, "SELECT {} FROM drawn ORDER BY TransactionID", SAMPLES_SCHEMA),
        summary=rows_as(con, "SELECT {} FROM alert_list", LISTS_SCHEMA),
    )


def _tell_list(
    con: DuckDBPyConnection, usual_amount: float | None, alerted_at: datetime, ranked_by: Mapping[str, str | None]
) -> None:
    """Make `made_of`, what the list was made of and when, and `listed_alerts`, the list."""
    con.execute("SET VARIABLE alerted_at = $at", {"at": alerted_at})
    con.execute(
        "CREATE OR REPLACE TEMP TABLE made_of AS SELECT model_version, silver_version,"
        " getvariable('alerted_at') AS alerted_at, partition_key, $ranker::VARCHAR AS ranker_version,"
        " $history::VARCHAR AS history_version FROM scored_rows LIMIT 1",
        ranked_by,
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE listed_alerts AS FROM ({_ALERTS}) CROSS JOIN made_of",
        {"usual_amount": usual_amount, "burst": BURST, "far": FAR, "nearest": NEAREST},
    )


def _tell_summary(con: DuckDBPyConnection, **figures: float | None) -> None:
    """Make `alert_list`, the one row that sums the list up."""
    rows, anomalies = count_anomalies(con, "scored_rows")
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE alert_list AS {_SUMMARY}",
        {"scored_rows": rows, "anomalies": anomalies, **figures},
    )


def _tell_ranked(con: DuckDBPyConnection, ranked: Ranked | None) -> None:
    """Make the table `ranked_rows`: the ranker's score and probability of each row, or no row."""
    con.execute("SET VARIABLE is_ranked = $is", {"is": ranked is not None})
    columns = "TransactionID VARCHAR, ranker_score DOUBLE, fraud_probability DOUBLE"
    con.execute(f"CREATE OR REPLACE TEMP TABLE ranked_rows ({columns})")
    if ranked is not None:
        found = {
            "ids": [*ranked.transactions],
            "scores": ranked.ranker.log_odds(ranked.X).tolist(),
            "shown": ranked.is_calibrated,
        }
        con.execute(
            "INSERT INTO ranked_rows SELECT id, score, CASE WHEN $shown THEN 1 / (1 + exp(-score)) END"
            " FROM (SELECT unnest($ids::VARCHAR[]) AS id, unnest($scores::DOUBLE[]) AS score)",
            found,
        )


def _ranker_reasons(ranked: Ranked | None, transactions: Sequence[str]) -> dict[str, tuple[Reason, ...]]:
    """Return of each of the transactions why the ranker puts it there."""
    if ranked is None:
        return {}
    place = {transaction: at for at, transaction in enumerate(ranked.transactions)}
    X = ranked.X[[place[one] for one in transactions]]  # noqa: N806
    added = ranked.ranker.contributions(X)
    return {
        one: ranker_reasons(values, own)
        for one, values, own in zip(transactions, X.tolist(), added.tolist(), strict=True)
    }


def _tell_reasons(
    con: DuckDBPyConnection, scorer: RowScorer | None, ranked: Ranked | None, of_everybody: Mapping[str, float]
) -> None:
    """Make the table `told`: the reasons of each alert, the forest's and the ranker's, as rows and as one sentence."""
    features = ", ".join(f"{name}::DOUBLE" for name in FEATURE_NAMES)
    found = con.execute(
        f"""
        SELECT
            TransactionID, [{features}], coalesce(earlier_transactions, 0),
            most_in_5min, own_usual_amount, own_usual_count, share_abroad
        FROM alerted LEFT JOIN card_usuals USING (card_id)
        """
    ).fetchall()
    told = []
    if isinstance(scorer, Scorer):
        X = np.array([values for _, values, *_ in found], np.float64).reshape(-1, len(FEATURE_NAMES))  # noqa: N806
        contributions = Attribution.of(scorer).contributions(X)
    else:
        contributions = np.zeros((len(found), len(FEATURE_NAMES)))
    names = [*of_everybody, "is_international_txn"]
    by_ranker = _ranker_reasons(ranked, [transaction for transaction, *_ in found])
    for (transaction, values, before, most, *usual), own in zip(found, contributions.tolist(), strict=True):
        of_card = dict(zip(names, usual, strict=True)) if before >= LEAST_PURCHASES else {}
        reasons_ = reasons(values, own, Usual(of_card, of_everybody, most if of_card else None))
        sentence = in_one_sentence(reasons_) if isinstance(scorer, Scorer) else _NO_REASONS
        ranked_by = by_ranker.get(transaction)
        told.append(
            {
                "TransactionID": transaction,
                "reasons": [asdict(one) for one in reasons_],
                "reason": sentence,
                "ranker_reasons": None if ranked_by is None else [asdict(one) for one in ranked_by],
                "ranker_reason": None if ranked_by is None else in_one_sentence(ranked_by),
            }
        )
    # As JSON: pyarrow's way from Python's values imports pandas first, and row by row DuckDB is slow.
    type_ = {"feature": "VARCHAR", "value": "DOUBLE", "contribution": "DOUBLE", "text": "VARCHAR"}
    texts = dict.fromkeys(("TransactionID", "reason", "ranker_reason"), "VARCHAR")
    shape = [{**texts, "reasons": [type_], "ranker_reasons": [type_]}]
    con.execute(
        "CREATE OR REPLACE TEMP TABLE told AS FROM (SELECT unnest(json_transform($told, $shape), max_depth := 2))",
        {"told": json.dumps(told), "shape": json.dumps(shape)},
    )
