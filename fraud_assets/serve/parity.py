"""Whether what was answered is what Gold says: the evaluator behind `answers_match_gold`.

An answer is made of what is known at the moment of the request. What becomes known later, and lies in its window, may
change features and score; nothing else may.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import duckdb
import msgspec
import pyarrow as pa

from fraud_assets.columns import number_array, text_array
from fraud_assets.partition_keys import Grain, key_of
from fraud_assets.serve.journal import Entry
from fraud_assets.serve.service import Answer
from fraud_assets.silver.contract import FEATURE_NAMES

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_OWN: Final = FEATURE_NAMES[:4]
"""Features of the transaction alone: nothing that becomes known later changes them."""


@dataclass(frozen=True)
class Parity:
    """How many answers there are of scored partitions, and how Gold compares with them, each counted once.

    equal: every feature and the score are the same bits. late_data: the window holds more now. other_version: the same
    features, scored by another model version. missing: not in Gold. different: anything else, which is a defect.
    """

    answers: int
    equal: int
    late_data: int
    other_version: int
    missing: int
    different: int

    def shares(self) -> dict[str, float]:
        """Return each kind as a share of the answers."""
        return {name: count / max(self.answers, 1) for name, count in asdict(self).items() if name != "answers"}


def answers_table(entries: Iterable[Entry], grain: Grain) -> pa.Table:
    """Return answers by the columns that Gold and Silver have; of several to one transaction the first counts."""
    decode = msgspec.json.Decoder(Answer).decode
    rows: dict[tuple[str, str], Answer] = {}
    for entry in entries:
        key = key_of(_EPOCH + timedelta(microseconds=entry.time_us), grain)
        rows.setdefault((key, entry.id), decode(entry.answer))
    answers = rows.values()
    return pa.table(
        {
            "partition_key": text_array(key for key, _ in rows),
            "TransactionID": text_array(name for _, name in rows),
            "model_version": text_array(answer.model_version for answer in answers),
            **{
                name: number_array([getattr(answer, name) for answer in answers], pa.float64())
                for name in ("fraud_score", *FEATURE_NAMES)
            },
        }
    )


def compare_answers(con: duckdb.DuckDBPyConnection, answers: pa.Table, *, silver: str, gold: str) -> Parity:
    """Compare answers with two relations of Silver and Gold rows, for the partitions that are in Gold."""
    con.register("answers", answers)
    same = {
        names: " AND ".join(f"silver.{name}::DOUBLE = answers.{name}" for name in names)
        for names in (FEATURE_NAMES, _OWN)
    }
    try:
        found = dict(
            con.execute(
                f"""
                SELECT
                    CASE
                        WHEN gold.TransactionID IS NULL OR silver.TransactionID IS NULL THEN 'missing'
                        WHEN {same[FEATURE_NAMES]} THEN CASE
                            WHEN gold.model_version <> answers.model_version THEN 'other_version'
                            WHEN gold.fraud_score = answers.fraud_score THEN 'equal'
                            ELSE 'different'
                        END
                        WHEN {same[_OWN]} AND silver.txn_count_5min > answers.txn_count_5min THEN 'late_data'
                        ELSE 'different'
                    END AS kind,
                    count(*)
                FROM answers
                LEFT JOIN {gold} AS gold USING (partition_key, TransactionID)
                LEFT JOIN {silver} AS silver USING (partition_key, TransactionID)
                WHERE partition_key IN (SELECT DISTINCT partition_key FROM {gold})
                GROUP BY ALL
                """
            ).fetchall()
        )
    finally:
        con.unregister("answers")
    kinds = ("equal", "late_data", "other_version", "missing", "different")
    return Parity(answers=sum(found.values()), **{kind: found.get(kind, 0) for kind in kinds})
