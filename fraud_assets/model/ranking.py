"""What a review queue catches: every metric of a score comes from one weighted, sorted, cumulative sum.

Belongs here: metrics of one score on labelled rows, for many weightings of the cards at once. Does not belong here:
which scores are compared, intervals (`model.bootstrap`), what may be measured (`model.evaluation`).

Rows that tie stand at one place of the queue, and where a capacity ends among them, the share of them that fits is
reviewed: the expected value over all orders of the ties, so that no metric depends on the order of the rows.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReviewQueue:
    """Labelled rows as they would be reviewed: part by part (all rows, or days), the most suspicious first.

    A tie is a run of rows with one score. Only ties that hold fraud are listed: one without fraud changes how many rows
    come before the next, and nothing else.
    """

    card: np.ndarray
    """Card code of each row in queue order, (n_rows,)."""
    part_bounds: np.ndarray
    """First row of each part, and the number of rows, (n_parts + 1,)."""
    tie_bounds: np.ndarray
    """First row of each tie that holds fraud, and the row after its last, (2, n_ties)."""
    tie_part: np.ndarray
    """Part of each such tie, (n_ties,)."""
    fraud_card: np.ndarray
    """Card code of each fraud row in queue order, (n_frauds,)."""
    fraud_amount: np.ndarray
    """Amount of each, (n_frauds,)."""
    first_fraud: np.ndarray
    """Where in these two each tie begins, (n_ties,)."""


@dataclass(frozen=True)
class WeightedQueue:
    """A queue whose cards have weights, k weightings at once: `size` is (k, n_parts), the rest (k, n_ties)."""

    size: np.ndarray
    """Rows of each part."""
    ahead: np.ndarray
    """Rows of the part that come before the tie."""
    tied: np.ndarray
    frauds: np.ndarray
    amounts: np.ndarray
    tie_part: np.ndarray


def review_queue(
    score: np.ndarray, is_fraud: np.ndarray, amount: np.ndarray, card: np.ndarray, part: np.ndarray | None = None
) -> ReviewQueue:
    """Return the queue of labelled rows, at least one of them fraud; all arguments have shape (n_rows,).

    Higher scores are more suspicious; `card` and `part` are codes from 0, none left out of `part`, one by default.
    """
    parts = np.zeros(len(score), np.intp) if part is None else part
    order = np.lexsort((-score, parts))
    score, parts, card = score[order], parts[order], card[order]
    is_new_part = np.diff(parts, prepend=-1) != 0
    is_new_tie = is_new_part | (np.diff(score, prepend=np.nan) != 0)
    tie = np.cumsum(is_new_tie) - 1
    tie_start = np.append(np.flatnonzero(is_new_tie), len(score))
    fraud_at = np.flatnonzero(is_fraud[order])
    fraud_tie, first_fraud = np.unique(tie[fraud_at], return_index=True)
    return ReviewQueue(
        card=card,
        part_bounds=np.append(np.flatnonzero(is_new_part), len(score)),
        tie_bounds=np.stack([tie_start[fraud_tie], tie_start[fraud_tie + 1]]),
        tie_part=parts[tie_start[fraud_tie]],
        fraud_card=card[fraud_at],
        fraud_amount=amount[order][fraud_at],
        first_fraud=first_fraud,
    )


def cards_of_a_day(
    score: np.ndarray, is_fraud: np.ndarray, card: np.ndarray, day: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return score, fraud, card and day of each card on each day: its highest score, and whether any row is fraud."""
    pair = day.astype(np.int64) * (int(card.max()) + 1) + card
    order = np.argsort(pair, kind="stable")
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    of_pair = order[first]
    return (
        np.maximum.reduceat(score[order], first),
        np.logical_or.reduceat(is_fraud[order], first),
        card[of_pair],
        day[of_pair],
    )


def weighted(queue: ReviewQueue, weights: np.ndarray) -> WeightedQueue:
    """Return the queue in which each card counts `weights` times, shape (k, n_cards): k weightings at once."""
    rows = np.zeros((len(weights), len(queue.card) + 1))
    np.cumsum(weights[:, queue.card], axis=1, out=rows[:, 1:])
    bounds = rows[:, queue.part_bounds]
    before, after = rows[:, queue.tie_bounds[0]], rows[:, queue.tie_bounds[1]]
    of_frauds = weights[:, queue.fraud_card]
    return WeightedQueue(
        size=np.diff(bounds, axis=1),
        ahead=before - bounds[:, queue.tie_part],
        tied=after - before,
        frauds=np.add.reduceat(of_frauds, queue.first_fraud, axis=1),
        amounts=np.add.reduceat(of_frauds * queue.fraud_amount, queue.first_fraud, axis=1),
        tie_part=queue.tie_part,
    )


def ranking_metrics(queue: WeightedQueue) -> dict[str, np.ndarray]:
    """Return how well the score ranks, per weighting of a queue of one part; NaN where a class has no weight.

    `roc_auc` counts a tie half. `average_precision` is the sum of recall steps times the precision after each;
    `pr_auc` the trapezoid `auc(recall, precision)` from (0, 1) on, which interpolates and so flatters a little.
    """
    caught = np.cumsum(queue.frauds, axis=1)
    frauds, others = caught[:, -1], queue.size[:, 0] - caught[:, -1]
    below = others[:, None] - (queue.ahead + queue.tied - caught)
    step = _ratio(queue.frauds, frauds[:, None])
    precision = _ratio(caught, queue.ahead + queue.tied)
    precision_before = np.where(queue.ahead > 0, _ratio(caught - queue.frauds, queue.ahead), 1.0)
    return {
        "roc_auc": _ratio((queue.frauds * (below + (queue.tied - queue.frauds) / 2)).sum(axis=1), frauds * others),
        "pr_auc": _summed(step * (precision + precision_before) / 2, queue.frauds),
        "average_precision": _summed(step * precision, queue.frauds),
    }


def average_precision(score: np.ndarray, is_fraud: np.ndarray) -> float:
    """Return the average precision of a score on labelled rows, one at least of them fraud, as they are."""
    nothing = np.zeros(len(score), np.intp)
    queue = review_queue(score, is_fraud, nothing.astype(np.float64), nothing)
    return float(ranking_metrics(weighted(queue, np.ones((1, 1))))["average_precision"][0])


def capacity_metrics(queue: WeightedQueue, capacity: np.ndarray, *, at: str) -> dict[str, np.ndarray]:
    """Return what reviewing the first `capacity` rows of each part, shape (k, n_parts), finds.

    Precision is the share of fraud among the reviewed rows, recall the share of the fraud rows that is reviewed, and
    the amount's share that of their amount. A part that is shorter than its capacity is reviewed whole.
    """
    taken = _taken(queue, capacity)
    caught = (taken * queue.frauds).sum(axis=1)
    return {
        f"precision_at_{at}": _ratio(caught, np.minimum(capacity, queue.size).sum(axis=1)),
        f"recall_at_{at}": _ratio(caught, queue.frauds.sum(axis=1)),
        f"fraud_amount_share_at_{at}": _ratio((taken * queue.amounts).sum(axis=1), queue.amounts.sum(axis=1)),
    }


def precision_by_part(queue: WeightedQueue, capacity: np.ndarray) -> np.ndarray:
    """Return the precision among the first `capacity` of each part, averaged over the parts that have any weight."""
    reviewed = np.minimum(capacity, queue.size)
    caught = _taken(queue, capacity) * queue.frauds
    of_part = np.divide(caught, reviewed[:, queue.tie_part], out=np.zeros_like(caught), where=caught > 0)
    return _ratio(of_part.sum(axis=1), (queue.size > 0).sum(axis=1))


def _taken(queue: WeightedQueue, capacity: np.ndarray) -> np.ndarray:
    """Return the share of each tie that is reviewed."""
    return np.clip(np.nan_to_num(_ratio(capacity[:, queue.tie_part] - queue.ahead, queue.tied)), 0.0, 1.0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _summed(steps: np.ndarray, frauds: np.ndarray) -> np.ndarray:
    """Sum over the ties that have weight; NaN where none has."""
    return np.where(frauds.any(axis=1), np.where(frauds > 0, steps, 0.0).sum(axis=1), np.nan)
