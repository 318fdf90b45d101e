"""What a training of the ranker reads from the lake: labelled rows of the days that train, and of those that compare.

Belongs here: which partitions and labels. Does not belong here: which days those are (`model.known_labels`), what
becomes of the rows (`model.ranker_training`, `model.ranker_gate`). pandas comes with the rows: import it late.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fraud_assets.model.known_labels import LearningWindow, fed_until, learning_window, with_known_labels, with_weights
from fraud_assets.model.ranker import ranked_rows
from fraud_assets.partition_keys import day_of
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import ALERT_REVIEWS, ALERTS, CARD_HISTORY, PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.labels import read_labels

if TYPE_CHECKING:
    import pandas as pd

_TRAINING_ROWS: Final = 300_000
"""The most rows to learn from: more take longer and hardly rank better."""


@dataclass(frozen=True)
class RankerInputs:
    """Labelled rows with all that a ranker looks at, `isFraud`, `weight`, `card_id` and their key.

    Where nobody can learn from what is known, `window` is None and there are no rows.
    """

    last_day: str
    labelled_until: str | None
    by_origin: Mapping[str, int]
    """How many labels are known, by where they come from."""
    window: LearningWindow | None
    training: "pd.DataFrame"
    compared: "pd.DataFrame"


def read_ranker_inputs(lake: Lake, landing_zone: LandingZone, *, delay_days: int) -> RankerInputs:
    """Return the rows that a ranker may learn from and be compared on, as tables and labels are now.

    Labels by review alone train and never compare: only what was alerted is reviewed, and a list would be measured by
    what another one found.
    """
    version = lake.version(SILVER_TRANSACTIONS)
    files = [file.raw for file in landing_zone.label_files()]
    with lake.connect() as con:
        everything = lake.select(SILVER_TRANSACTIONS, version=version)
        read_labels(con, landing_zone.source, files, silver=everything)
        [(last_key,)] = con.execute(f"SELECT max(partition_key) FROM {everything}").fetchall()
        last_day = day_of(last_key or "")
        relation = with_known_labels(
            f"(SELECT partition_key, TransactionID, isFraud FROM {everything})",
            reviews=lake.select(ALERT_REVIEWS),
            until=fed_until(last_day, delay_days=delay_days) if last_day else "",
        )
        con.execute(f"CREATE TEMP TABLE labels_known AS FROM {relation}")
        weighted = with_weights("labels_known", rows=everything, alerts=lake.select(ALERTS))
        con.execute(f"CREATE TEMP TABLE known AS FROM {weighted}")
        by_origin = dict(con.execute("SELECT origin, count(*) FROM known GROUP BY ALL ORDER BY ALL").fetchall())
        days = con.execute(
            "SELECT DISTINCT left(partition_key, 10) AS day FROM known WHERE origin != 'review' ORDER BY day"
        ).fetchall()
        labelled = [day for (day,) in days]
        window = learning_window(labelled, delay_days=delay_days)

        def rows(first: str, last: str, condition: str, most: int | None = None) -> "pd.DataFrame":
            ranked = ranked_rows(
                silver=everything,
                gold=lake.select(PREDICTIONS),
                history=lake.select(CARD_HISTORY),
                more="silver.card_id, known.isFraud, known.origin, known.weight",
                labels="known",
            )
            return con.execute(
                f"""
                FROM {ranked}
                WHERE left(partition_key, 10) BETWEEN $first AND $last AND {condition}
                ORDER BY md5(TransactionID), partition_key LIMIT $most
                """,
                {"first": first, "last": last, "most": most},
            ).df()

        first, last = (window.train_start, window.train_end) if window else ("", "")
        compare = (window.compare_start, window.compare_end) if window else ("", "")
        return RankerInputs(
            last_day=last_day,
            labelled_until=labelled[-1] if labelled else None,
            by_origin=by_origin,
            window=window,
            training=rows(first, last, "true", _TRAINING_ROWS),
            compared=rows(*compare, "origin != 'review'"),
        )
