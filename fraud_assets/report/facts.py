"""What a report shows, as values, in the order in which they stand on the page.

Nothing is read, measured, drawn or worded here. Shares lie between 0 and 1, times are UTC, amounts are in the feed's
own currency. None means that a thing is not known; the page says so in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fraud_assets.alerts.review_findings import SampleReviews
from fraud_assets.alerts.reviews import Outcome
from fraud_assets.model.estimates import Evaluation
from fraud_assets.partition_keys import Grain
from fraud_assets.silver.contract import WINDOW


@dataclass(frozen=True)
class Transaction:
    """One transaction of an alerted card on its day."""

    transaction_id: str
    time: datetime
    amount: float
    product: str
    is_anomaly: bool


@dataclass(frozen=True)
class Alert:
    """One transaction that is put before an analyst. Rank 1 is looked at first."""

    rank: int
    transaction_id: str
    time: datetime
    amount: float
    product: str
    score: float
    percentile: float | None
    reasons: tuple[str, ...]
    outcome: Outcome | None = None


@dataclass(frozen=True)
class CardAlerts:
    """The alerts of one card, the most suspicious first, and what else the card bought that day.

    Attributes:
        rank: the card's place on the list; 1 is looked at first.
        day: its transactions around the alerts, these included, in time order.
        is_harmless_burst: whether its first alert is one of a burst of small purchases.
        earlier: its transactions of the days before.
        usual_amount: their median amount; None where there is none.
        most_in_window: the most of them within one window; None where there is none.
    """

    rank: int
    card_id: str
    alerts: tuple[Alert, ...]
    amount_at_risk: float
    day: tuple[Transaction, ...] = ()
    is_harmless_burst: bool = False
    earlier: int | None = None
    usual_amount: float | None = None
    most_in_window: int | None = None

    @property
    def busiest(self) -> tuple[Transaction, ...]:
        """The transactions of the window that ends at an alert and holds the most, the alert among them, in order."""
        windows = [
            tuple(one for one in self.day if alert.time - WINDOW <= one.time <= alert.time) for alert in self.alerts
        ]
        return max(windows, key=len)


@dataclass(frozen=True)
class Withdrawn:
    """A transaction that was shown as an alert and is none any more."""

    transaction_id: str
    card_id: str
    amount: float
    why: str
    withdrawn_at: datetime


@dataclass(frozen=True)
class PartitionFigures:
    """What came out of one partition.

    Attributes:
        below_the_cut: anomalies that are no alerts; a ranker may list rows that are no anomalies.
    """

    key: str
    scored_rows: int
    anomalies: int
    alerts: int
    below_the_cut: int
    amount_at_risk: float
    model_version: str

    @property
    def anomaly_rate(self) -> float | None:
        """Share of the scored rows above the threshold."""
        return self.anomalies / self.scored_rows if self.scored_rows else None

    @property
    def alert_rate(self) -> float | None:
        """Share of the scored rows that are alerts."""
        return self.alerts / self.scored_rows if self.scored_rows else None


@dataclass(frozen=True)
class ScoreDistribution:
    """Shares of rows per bin of `fraud_score`: n + 1 edges, n shares of the training rows and of the partition's."""

    edges: tuple[float, ...]
    training: tuple[float, ...]
    partition: tuple[float, ...]
    threshold: float
    training_rows: int
    partition_rows: int


@dataclass(frozen=True)
class FeatureDrift:
    """How far a feature's values lie from the training's.

    Attributes:
        effect: the largest difference between the two cumulative distributions, 0 to 1.
        limit: the largest usual effect, as the earlier healthy partitions set it; None where they are too few.
        earlier: the effects of those.
    """

    feature: str
    meaning: str
    training_mean: float
    mean: float
    effect: float
    limit: float | None
    earlier: tuple[float, ...] = ()

    @property
    def is_unusual(self) -> bool:
        """Whether the effect is above the limit."""
        return self.limit is not None and self.effect > self.limit


@dataclass(frozen=True)
class Drift:
    """The drift of all features, and how often healthy partitions were called unusual by the same rule.

    Attributes:
        replayed: earlier healthy partitions that were compared with those before them.
        false_alarms: how many of these had a feature over its limit then.
    """

    features: tuple[FeatureDrift, ...]
    training_rows: int
    healthy: int
    replayed: int
    false_alarms: int


@dataclass(frozen=True)
class Quarantine:
    """What was refused of a partition: rows, and by reason how many; a row may have several."""

    landed_rows: int
    quarantined_rows: int
    limit: float
    reasons: tuple[tuple[str, str, int], ...] = ()
    """Reason, its meaning, rows."""


@dataclass(frozen=True)
class StageState:
    """When a stage last made what the page shows; `missing` says why there is no time."""

    name: str
    what: str
    at: datetime | None
    missing: str = ""


@dataclass(frozen=True)
class CheckState:
    """A check as it came out when the page was made; `passed` is None where it could not be evaluated."""

    name: str
    claim: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Reviews:
    """Reviewed alerts so far: counts of transactions, and the partitions that they lie in.

    Attributes:
        alerts: on the lists of these partitions.
        cards: with a decided alert.
        sample: what was decided of transactions that were drawn at random from the rest; None where nothing was.
    """

    alerts: int
    fraud: int
    genuine: int
    unsure: int
    cards: int
    first_key: str = ""
    last_key: str = ""
    latest_at: datetime | None = None
    sample: SampleReviews | None = None


@dataclass(frozen=True)
class Model:
    """The version that scored the partition.

    Attributes:
        training: in a sentence, what it was trained on; empty where its record cannot be read.
        evaluation: None where the version was not evaluated here.
        window: first and last partition that it was evaluated on.
        decision: in a sentence, how it came behind `@prod`.
    """

    version: str
    threshold: float | None
    training: str
    evaluation: Evaluation | None
    window: tuple[str, str] | None = None
    evaluated_at: datetime | None = None
    decision: str = ""


@dataclass(frozen=True)
class Order:
    """How the list came by its order, where something learns from labels.

    Attributes:
        version: of the ranker that the list goes by; None where it goes by its score.
        said: what came of the latest attempt to learn, in words.
        lists: of each version that was compared, the days and what each list found then, the latest first.
        alerts_per_day: the capacity that they were compared within.
    """

    version: str | None
    waits_for_history: bool
    said: str
    lists: tuple[tuple[str, tuple[str, str], Evaluation], ...]
    alerts_per_day: int


@dataclass(frozen=True)
class Note:
    """A sentence that stands above everything else: what failed, or what is not as fresh as it looks."""

    kind: Literal["failed", "stale"]
    text: str


@dataclass(frozen=True)
class Report:
    """All that one page shows.

    Attributes:
        figures: of the partition itself.
        history: of the partitions before it, in time order, itself last.
        alert_limit: how many alerts a day may have.
        bursts: alerts that are part of a burst of small purchases.
        as_of: when the page's tables were read.
    """

    feed: str
    key: str
    grain: Grain
    as_of: datetime
    figures: PartitionFigures
    alert_limit: int
    cards: tuple[CardAlerts, ...]
    bursts: int
    withdrawn: tuple[Withdrawn, ...]
    history: tuple[PartitionFigures, ...]
    scores: ScoreDistribution | None
    drift: Drift | None
    quarantine: Quarantine | None
    stages: tuple[StageState, ...]
    checks: tuple[CheckState, ...]
    reviews: Reviews | None
    model: Model
    notes: tuple[Note, ...] = ()
    order: Order | None = None
    """None where nothing ever tried to learn from labels."""
    versions: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """What the page was made of: table or digest, and its version."""
