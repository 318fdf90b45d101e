"""What reviews tell: how precise the alerts were, and, where some of the rest was drawn and reviewed, what they missed.

What belongs here: the estimates and their intervals. What does not: which decision counts (`reviews`), what is drawn
(`lists`).
"""

import math
from dataclasses import dataclass
from typing import Final

from duckdb import DuckDBPyConnection

from fraud_assets.model.estimates import Estimate

_Z: Final = 1.959963984540054
"""Of a 95 % interval."""

_NOBODY_LOOKED: Final = "only alerts are reviewed: nobody has looked at what was missed"


@dataclass(frozen=True)
class SampleReviews:
    """What was decided of transactions that were drawn at random, and of the alerts of the same partitions.

    Args:
        decided: drawn transactions that were found to be fraud or genuine.
        frauds: those that were fraud.
        share: of fraud among them, each counted by how many transactions of its partition it stands for.
        draws: independent draws of one population that say as much.
        unalerted: transactions that are no alert, in these partitions.
        caught: fraud among their alerts, as far as these were reviewed; None where no alert of them was.
    """

    decided: int
    frauds: int
    share: float
    draws: float
    unalerted: int
    caught: float | None


def read_sample(
    con: DuckDBPyConnection, reviews: str, alert_lists: str, *, version: str | None = None, until: str | None = None
) -> SampleReviews | None:
    """Return what was decided of drawn transactions, of one version's or all, up to a partition or of all partitions.

    None where nothing was. Source of `draws`: Kish, Survey Sampling, 1965, 11.7.
    """
    [(decided, frauds, share, draws, unalerted, caught)] = con.execute(
        f"""
        WITH
            found AS (
                SELECT
                    partition_key,
                    count(*) FILTER (was_sampled) AS decided,
                    count(*) FILTER (was_sampled AND outcome = 'fraud') AS frauds,
                    count(*) FILTER (was_alert) AS alerts_decided,
                    count(*) FILTER (was_alert AND outcome = 'fraud') AS alert_frauds
                FROM {reviews}
                WHERE outcome != 'unsure'
                    AND ($version IS NULL OR model_version = $version)
                    AND ($until IS NULL OR partition_key <= $until)
                GROUP BY partition_key
                HAVING decided > 0
            ),

            stood_for AS (
                SELECT *, scored_rows - alerts AS unalerted, (scored_rows - alerts) / decided AS weight
                FROM found JOIN {alert_lists} USING (partition_key)
                WHERE scored_rows > alerts  -- else a correction has made alerts of all that was drawn from
            )
        SELECT
            coalesce(sum(decided), 0)::BIGINT,
            coalesce(sum(frauds), 0)::BIGINT,
            sum(frauds * weight) / sum(unalerted),
            sum(unalerted) ** 2 / sum(decided * weight ** 2),
            coalesce(sum(unalerted), 0)::BIGINT,
            sum(alerts) * sum(alert_frauds) / nullif(sum(alerts_decided), 0)
        FROM stood_for
        """,
        {"version": version, "until": until},
    ).fetchall()
    return SampleReviews(decided, frauds, share, draws, unalerted, caught) if decided else None


def precision_of_reviewed(
    frauds: int, decided: int, cards: int, sample: SampleReviews | None = None
) -> dict[str, Estimate]:
    """Return what reviews say of a version's alerts: how many were decided, and their precision with a 95 % interval.

    Alerts of one card stand and fall together: the interval is that of as many independent ones as there are cards.
    Where only alerts are reviewed recall is not measurable: nobody has looked at what was missed. A sample of the rest
    makes it so, with the interval of the share that was missed.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    missed = {"recall": Estimate(None, not_measurable=_NOBODY_LOOKED)} if sample is None else _missed(sample)
    if not decided:
        nothing = "no alert of this version was found to be fraud or genuine yet"
        return {"precision": Estimate(None, not_measurable=nothing), **missed}
    return {
        "reviewed_alerts": Estimate(float(decided)),
        "precision": _wilson(frauds / decided, max(cards, 1)),
        **missed,
    }


def _missed(sample: SampleReviews) -> dict[str, Estimate]:
    """Return the share of fraud among what is no alert, and the share of all fraud that is among alerts."""
    share = _wilson(sample.share, sample.draws)
    found = {"reviewed_sample": Estimate(float(sample.decided)), "unalerted_fraud_rate": share}
    caught = sample.caught
    if caught is None:
        return found | {"recall": Estimate(None, not_measurable="no alert of the sampled partitions was decided yet")}
    if not caught and not sample.share:
        return found | {"recall": Estimate(None, not_measurable="no fraud was found yet")}

    def recall(missed_share: float | None) -> float:
        return caught / (caught + (missed_share or 0.0) * sample.unalerted)

    return found | {"recall": Estimate(recall(share.value), recall(share.upper), recall(share.lower))}


def _wilson(share: float, n: float) -> Estimate:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))
