"""How an executor scores files of Silver rows. How a row is scored is `fraud_assets.gold`'s business."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from fraud_assets.errors import FraudAssetsError
from fraud_assets.gold.predictions import GOLD_SCHEMA, score_partition
from fraud_assets.model.scorer import Scorer
from fraud_assets.resources.data_files import write_data_file
from fraud_assets.resources.models.local_scorers import LocalScorers
from fraud_assets.resources.row_batches import BATCH_ROWS
from fraud_assets.spark.executor import Batches, connected, numbers, report


@dataclass(frozen=True)
class Scoring:
    """By what rows are scored: a version's compiled scorer, which lies where every executor can read it."""

    scorers: LocalScorers
    version: str
    scored_at: datetime
    folder: str
    memory: str


def score_files(batches: Batches, scoring: Scoring, files: Sequence[tuple[str, str, str]]) -> Batches:
    """Score files of Silver rows: of each the partition's key, the relation, and the digest it was built with."""
    names = [name for name in GOLD_SCHEMA.names if name != "partition_key"]
    for number in numbers(batches):
        key, silver, built_digest = files[number]
        with connected(scoring.memory) as con:
            # The digest that stands in the rows; what something else wrote has none, and is known by its record's.
            [(digest,)] = con.execute(f"SELECT any_value(silver_version) FROM {silver}").fetchall()
            digest = digest or built_digest
            rows = score_partition(
                con,
                silver,
                batch_rows=BATCH_ROWS,
                silver_version=digest,
                scorer=_scorer(scoring.scorers, scoring.version),
                scored_at=scoring.scored_at,
                model_version=scoring.version,
                partition_key=key,
            )
            written = write_data_file(
                Path(scoring.folder), GOLD_SCHEMA, "partition_key", key, (batch.select(names) for batch in rows)
            )
            yield report(
                key=key,
                digest=digest,
                rows=0 if written is None else written.rows,
                written=None if written is None else asdict(written),
            )


@lru_cache(maxsize=2)
def _scorer(scorers: LocalScorers, version: str) -> Scorer:
    """Return the scorer of a version, loaded once in a process."""
    scorer = scorers.load(version)
    if scorer is None:
        raise FraudAssetsError(
            f"{scorers.folder / version} holds no compiled scorer that this executor can read. The data directory must "
            "lie where all executors see it, and they must have the driver's scikit-learn."
        )
    return scorer
