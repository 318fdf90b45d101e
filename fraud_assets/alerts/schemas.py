"""The tables of alerts: their columns, in order, in words. What fills them is `lists`; decisions are in `decisions`."""

from typing import Final

import pyarrow as pa

from fraud_assets.alerts.reasons import USUAL_DAYS
from fraud_assets.columns import UTC_MICROSECONDS, column
from fraud_assets.gold.predictions import GOLD_SCHEMA
from fraud_assets.silver.contract import FEATURES, silver_schema

_SILVER: Final = silver_schema()

_MADE_OF: Final = [
    GOLD_SCHEMA.field("model_version"),
    GOLD_SCHEMA.field("silver_version"),
    column("alerted_at", UTC_MICROSECONDS, "When the list was made (UTC)."),
    GOLD_SCHEMA.field("partition_key"),
]

BURST: Final = 3
"""So many purchases in one window are a burst: two are a person who bought a coffee and a paper."""

FAR: Final = 3.0
"""As many times a card's usual amount is no usual purchase, however often the card has had such bursts."""

NEAREST: Final = 25
"""The card's transactions that are kept on either side of an alert: a day's story, and never a list without end."""

REASON: Final = pa.struct(
    [
        ("feature", pa.string()),
        ("value", pa.float64()),
        ("contribution", pa.float64()),
        ("text", pa.string()),
    ]
)
"""One reason, as `fraud_assets.alerts.reasons.Reason`."""

CARD_TRANSACTION: Final = pa.struct(
    [
        ("TransactionID", pa.string()),
        ("event_timestamp", UTC_MICROSECONDS),
        ("TransactionAmt", pa.float64()),
        ("ProductCD", pa.string()),
        ("fraud_score", pa.float64()),
        ("is_anomaly", pa.bool_()),
    ]
)
"""One transaction of an alerted card."""

RANKED_BY: Final = [
    column(
        "ranker_version",
        pa.string(),
        "Version of the ranker that the list goes by; NULL where it goes by fraud_score alone.",
        nullable=True,
    ),
    column(
        "history_version",
        pa.string(),
        "Digest of the history of its cards that the ranker looked at; NULL while there is none: until then the list "
        "goes by fraud_score.",
        nullable=True,
    ),
]
"""Which ranker ordered a list."""

ALERTS_SCHEMA: Final = pa.schema(
    [
        column("rank", pa.int64(), "Place in the order of work: 1 is looked at first, then on card by card."),
        GOLD_SCHEMA.field("TransactionID"),
        GOLD_SCHEMA.field("event_timestamp"),
        GOLD_SCHEMA.field("card_id"),
        _SILVER.field("ProductCD"),
        *(_SILVER.field(feature.name) for feature in FEATURES),
        GOLD_SCHEMA.field("fraud_score"),
        GOLD_SCHEMA.field("score_percentile"),
        column("reasons", pa.list_(REASON), "What made the transaction suspicious, the strongest reason first."),
        column("reason", pa.string(), "The texts of the reasons, as one sentence."),
        column(
            "card_transactions",
            pa.list_(CARD_TRANSACTION),
            "The card's transactions of the partition in order of time, this one included: the nearest "
            f"{NEAREST} before and after it.",
        ),
        column("card_rank", pa.int64(), "Place of the card among the alerted cards, by its most suspicious alert."),
        column("card_alerts", pa.int64(), "Alerts of the card in this partition."),
        column("card_amount_at_risk", pa.float64(), "Sum of their amounts."),
        column("card_earlier_transactions", pa.int64(), f"The card's transactions of the {USUAL_DAYS} days before."),
        column(
            "card_usual_amount",
            pa.float64(),
            "Median of their amounts; NULL where there is none.",
            nullable=True,
        ),
        column(
            "card_most_in_5min",
            pa.int64(),
            "The most of them within five minutes; NULL where there is none.",
            nullable=True,
        ),
        column(
            "is_burst_of_small_alike",
            pa.bool_(),
            f"{BURST} or more purchases in five minutes, small ones: mean and standard deviation of "
            "their amounts together lie below the usual amount of all cards. Card testing looks like this.",
        ),
        column(
            "is_usual_burst",
            pa.bool_(),
            f"{BURST} or more purchases in five minutes on a card that has had as many before, of less than {FAR:.0f} "
            "times its usual amount. A list full of these is one of harmless bursts.",
        ),
        *_MADE_OF,
        *RANKED_BY,
        column("ranker_score", pa.float64(), "Logarithm of the odds of fraud, by the ranker.", nullable=True),
        column(
            "fraud_probability",
            pa.float64(),
            "Probability of fraud, by the ranker; NULL where it was not shown to come true.",
            nullable=True,
        ),
        column(
            "ranker_reasons",
            pa.list_(REASON),
            "What raised the ranker's score, the strongest reason first; a contribution is to the log odds, above 0.",
            nullable=True,
        ),
        column("ranker_reason", pa.string(), "The texts of these reasons, as one sentence.", nullable=True),
    ]
)
"""The columns of `gold.fraud_alerts`, in order."""

RANKED_COLUMNS: Final = ("ranker_version", "history_version", *ALERTS_SCHEMA.names[-4:])
"""What a list has since alerts may be ordered by a ranker; NULL where the score decided."""

LISTS_SCHEMA: Final = pa.schema(
    [
        column("scored_rows", pa.int64(), "Scored transactions of the partition."),
        column("anomalies", pa.int64(), "Those above the threshold of the model version."),
        column("alerts", pa.int64(), "Transactions on the list; anomalies, unless a ranker ordered it."),
        column("below_the_cut", pa.int64(), "Anomalies that are not on the list."),
        column("alerted_cards", pa.int64(), "Cards with an alert."),
        column("bursts_of_small_alike", pa.int64(), "Alerts of which is_burst_of_small_alike is true."),
        column("usual_bursts", pa.int64(), "Alerts of which is_usual_burst is true."),
        column("amount_at_risk", pa.float64(), "Sum of the amounts of the alerts."),
        column(
            "usual_amount",
            pa.float64(),
            "Median amount of the partition's transactions: what is usual for all cards.",
            nullable=True,
        ),
        column("alerts_per_day", pa.int64(), "FRAUD_ALERTS_PER_DAY when the list was made."),
        column("most_alerts", pa.int64(), "How many alerts the partition could have at most, of those of its day."),
        *_MADE_OF,
        *RANKED_BY,
        column(
            "sampled_rows",
            pa.int64(),
            "Transactions that are no alert and were drawn at random for review, in gold.review_samples; NULL in lists "
            "that were made before there were any.",
            nullable=True,
        ),
    ]
)
"""The columns of `gold.alert_lists`, in order."""

SAMPLES_SCHEMA: Final = pa.schema(
    [
        *(GOLD_SCHEMA.field(name) for name in ("TransactionID", "event_timestamp", "card_id", "TransactionAmt")),
        _SILVER.field("ProductCD"),
        GOLD_SCHEMA.field("fraud_score"),
        GOLD_SCHEMA.field("score_percentile"),
        column(
            "unalerted_rows", pa.int64(), "Transactions of the partition that are no alert: it was drawn from them."
        ),
        *_MADE_OF,
    ]
)
"""The columns of `gold.review_samples`, in order."""

WITHDRAWN_SCHEMA: Final = pa.schema(
    [
        *(GOLD_SCHEMA.field(name) for name in ("TransactionID", "event_timestamp", "card_id", "TransactionAmt")),
        GOLD_SCHEMA.field("fraud_score"),
        ALERTS_SCHEMA.field("reason"),
        column("why", pa.string(), "Why it is no alert any more."),
        GOLD_SCHEMA.field("model_version"),
        GOLD_SCHEMA.field("silver_version"),
        column("alerted_at", UTC_MICROSECONDS, "When the last list that showed it was made (UTC)."),
        column("withdrawn_at", UTC_MICROSECONDS, "When a list without it took its place (UTC)."),
        GOLD_SCHEMA.field("partition_key"),
    ]
)
"""The columns of `gold.withdrawn_alerts`, in order: alerts as they were shown last."""
