"""Which labels a ranker may learn from: those that are known by now, and the days that train and that compare lists.

A label counts from when it arrives, never from when its transaction happened. Labels of files and reviews are known
since they are there. Of a label that came with its transaction nobody says when it became known: it counts once the
feed is so many days further (`FRAUD_LABEL_DELAY_DAYS`). The latest day of the feed is the clock, so that a feed that is
replayed learns as it would have then. No label of one of the days that compare lists is known to what learnt.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from fraud_assets.partition_keys import days_before, days_between

COMPARED_DAYS: Final = 7
"""Lists are compared on so many days at most, the latest with labels: a week has its weekend."""


class KnownLabels(NamedTuple):
    """What is known of labels: files, reviews, and days of the feed; a digest each, empty where there is none.

    As text it is the column `learned_from`.
    """

    files: str = ""
    reviews: str = ""
    feed: str = ""

    def __str__(self) -> str:
        return "-".join(part or "none" for part in self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digests that were stored as this text."""
        return cls(*("" if part == "none" else part for part in text.split("-")))

    @property
    def is_empty(self) -> bool:
        """Whether no label is known at all."""
        return not any(self)


ORIGINS: Final = ("label file", "feed", "review")
"""Where a label comes from; where several know one, the first counts: what the card's owner said last. A review counts
until a label is there, so that a row is measured by its label whether it was alerted or not."""


@dataclass(frozen=True)
class LearningWindow:
    """The days that train, and the later ones that compare lists; both ends included, the delay of labels between."""

    train_start: str
    train_end: str
    compare_start: str
    compare_end: str

    def trains(self, day: str) -> bool:
        """Whether rows of the day train."""
        return self.train_start <= day <= self.train_end

    def compares(self, day: str) -> bool:
        """Whether lists are compared on the day."""
        return self.compare_start <= day <= self.compare_end


def fed_until(last_day: str, *, delay_days: int) -> str:
    """Return the latest day of which labels that came with the transactions are known on a feed's latest day."""
    return days_before(last_day, delay_days)


def learning_window(labelled_days: Collection[str], *, delay_days: int) -> LearningWindow | None:
    """Return which of the days with labels train and which compare lists; None where they are too few for both.

    A third of them, `COMPARED_DAYS` at most, compare. On the first of these a label of the last training day had been
    known: `delay_days` whole days lie between.
    """
    days = sorted(labelled_days)
    if not days:
        return None
    span = days_between(days[0], days[-1]) + 1
    compared = min(COMPARED_DAYS, max(1, (span - delay_days) // 3))
    start = days_before(days[-1], compared - 1)
    train_end = days_before(start, delay_days + 1)
    return None if train_end < days[0] else LearningWindow(days[0], train_end, start, days[-1])


def no_window(by_origin: Mapping[str, int], *, has_days: bool, delay_days: int) -> str:
    """Say why there is no window: what is known of labels, by `ORIGINS`, is too little, or not of the right kind."""
    if has_days:
        return (
            f"Labels are known of too few days: {delay_days + 2} at least are needed, {delay_days} of them between "
            "what trains and what compares (FRAUD_LABEL_DELAY_DAYS)."
        )
    if by_origin:
        return (
            "Labels are known by reviews alone: of most of what is no alert nobody knows, so that lists cannot be "
            "compared."
        )
    return "No label is known yet."


def with_known_labels(rows: str, *, reviews: str, until: str) -> str:
    """Return a relation of rows with the label that is known of each: `isFraud`, and `origin`, one of `ORIGINS`.

    `is_sampled` says whether it is the review of a transaction that was drawn at random from those that are no alert.
    Rows of which none is known are left out. `rows` have partition_key, TransactionID and Silver's `isFraud`; `reviews`
    are those of `gold.alert_reviews`; `until` is `fed_until`. The table `late_labels` holds the labels of files.
    """
    label = "coalesce(of_file, of_feed, of_review)"
    return f"""(
        SELECT
            * EXCLUDE (of_file, of_review, of_feed, was_sampled) REPLACE ({label} AS isFraud),
            was_sampled AND coalesce(of_file, of_feed) IS NULL AS is_sampled,
            CASE
                WHEN of_file IS NOT NULL THEN 'label file'
                WHEN of_feed IS NOT NULL THEN 'feed'
                ELSE 'review'
            END AS origin
        FROM (
            SELECT
                own.*,
                late.isFraud AS of_file,
                (reviewed.outcome = 'fraud')::INTEGER AS of_review,
                coalesce(reviewed.was_sampled, false) AS was_sampled,
                CASE WHEN left(own.partition_key, 10) <= '{until}' THEN own.isFraud END AS of_feed
            FROM {rows} AS own
            LEFT JOIN late_labels AS late ON late.TransactionID = own.TransactionID
            LEFT JOIN {reviews} AS reviewed
                ON reviewed.TransactionID = own.TransactionID
                AND reviewed.partition_key = own.partition_key
                AND reviewed.outcome != 'unsure'
        )
        WHERE {label} IS NOT NULL
    )"""


def with_weights(known: str, *, rows: str, alerts: str) -> str:
    """Return a relation of known labels with `weight`: of how many transactions each label speaks.

    A label speaks of its own transaction. The reviews of transactions that were drawn at random speak together, in
    equal parts, of all those of their day of which no label is known and that are no alert, themselves included. So the
    rows that are learnt from are, day by day, like those that there are, however few were reviewed.

    `known` is what `with_known_labels` returns, by name, and `rows` all rows, `alerts` the alerts among them.
    """
    return f"""(
        SELECT
            known.* EXCLUDE (is_sampled),
            CASE WHEN is_sampled THEN unknown / sampled ELSE 1 END::DOUBLE AS weight
        FROM {known} AS known
        JOIN (
            SELECT
                left(partition_key, 10) AS day,
                count(*) FILTER (is_sampled) AS sampled,
                count(*) FILTER (is_sampled OR is_sampled IS NULL AND alert.TransactionID IS NULL) AS unknown
            FROM {rows} AS own
            LEFT JOIN {known} AS known USING (partition_key, TransactionID)
            LEFT JOIN {alerts} AS alert USING (partition_key, TransactionID)
            GROUP BY day
        ) ON day = left(known.partition_key, 10)
    )"""
