"""Reports made by hand, to render without a lake: a usual day, an empty one, and one whose texts are hostile."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from fraud_assets.model.estimates import Estimate, Evaluation
from fraud_assets.report.facts import (
    Alert,
    CardAlerts,
    CheckState,
    Drift,
    FeatureDrift,
    Model,
    PartitionFigures,
    Quarantine,
    Report,
    Reviews,
    ScoreDistribution,
    StageState,
    Transaction,
    Withdrawn,
)
from fraud_assets.silver.contract import FEATURES

KEY: Final = "2026-01-30"
NOON: Final = datetime(2026, 1, 30, 12, tzinfo=UTC)
AS_OF: Final = datetime(2026, 1, 31, 6, 30, tzinfo=UTC)


def card(rank: int, *, alerts: int = 1, others: int = 2, seed: int = 0, card_id: str = "") -> CardAlerts:
    """A card whose alerts lie in a burst of a few minutes, with other purchases on the day."""
    drawn = random.Random(f"{rank} {seed}")
    start = NOON + timedelta(minutes=drawn.randrange(-600, 600), seconds=drawn.randrange(60))
    made = [
        Alert(
            rank=rank * 10 - place,
            transaction_id=f"20260130-{rank:03}{place:02}",
            time=start - timedelta(seconds=35 * place),
            amount=drawn.choice([4.99, 19.9, 249.0, 880.5]),
            product=drawn.choice(["grocery_pos", "misc_net", "shopping_net"]),
            score=0.2 - rank / 1000 - place / 10_000,
            percentile=1 - rank * (place + 1) / 9_000,
            reasons=(
                f"{alerts} purchases in 5 minutes; this card's usual is 1",
                "Abroad; this card's home is elsewhere",
            ),
        )
        for place in range(alerts)
    ]
    bought = [Transaction(one.transaction_id, one.time, one.amount, one.product, is_anomaly=True) for one in made]
    bought += [
        Transaction(
            f"20260130-{rank:03}9{place}", start - timedelta(minutes=2 + 47 * place), 12.5 + place, "grocery_pos", False
        )
        for place in range(others)
    ]
    return CardAlerts(
        rank=rank,
        card_id=card_id or f"4{drawn.randrange(10**11):011}",
        alerts=tuple(made),
        amount_at_risk=sum(one.amount for one in made),
        day=tuple(sorted(bought, key=lambda one: one.time)),
        earlier=drawn.randrange(80),
        usual_amount=drawn.uniform(8, 90),
        most_in_window=drawn.randrange(1, 3),
    )


def history(days: int) -> tuple[PartitionFigures, ...]:
    """Days that end with the one that the report is about."""
    drawn = random.Random(days)
    last = date.fromisoformat(KEY)
    return tuple(
        PartitionFigures(
            key=str(last - timedelta(days=back)),
            scored_rows=(rows := drawn.randrange(2800, 3200)),
            anomalies=(anomalies := int(rows * drawn.uniform(0.03, 0.042))),
            alerts=min(anomalies, 100),
            below_the_cut=max(anomalies - 100, 0),
            amount_at_risk=drawn.uniform(18_000, 32_000),
            model_version="1",
        )
        for back in reversed(range(days))
    )


def evaluation() -> Evaluation:
    """A forest beside a rule and a reference, on rows that were measured."""

    def scorer(roc: float, pr: float, **more: float) -> dict[str, Estimate]:
        found = {"roc_auc": roc, "pr_auc": pr, "average_precision": pr, "precision_at_100_a_day": pr / 2}
        found |= {"recall_at_100_a_day": roc / 2, "card_precision_at_100_a_day": pr / 3, **more}
        return {name: Estimate(value, value - 0.02, value + 0.02) for name, value in found.items()}

    rows = {"rows": Estimate(27_000.0), "labelled_rows": Estimate(26_800.0), "fraud_rows": Estimate(402.0)}
    rows |= {"base_rate": Estimate(0.015, 0.012, 0.018), "reviewed_share_at_100_a_day": Estimate(0.033)}
    forest = scorer(0.931, 0.412, alert_rate=0.036)
    return Evaluation(
        {
            "rows": rows,
            "forest": forest,
            "rule": scorer(0.78, 0.21),
            "amount": scorer(0.61, 0.05),
            "best column: txn_count_5min, highest first": scorer(0.74, 0.18),
            "reference": scorer(0.988, 0.86),
        }
    )


def drift(healthy: int = 24) -> Drift:
    """Eight features, one of them further from training than before."""
    drawn = random.Random(healthy)

    def feature(position: int, name: str, meaning: str) -> FeatureDrift:
        earlier = tuple(drawn.uniform(0.004, 0.03) for _ in range(healthy))
        effect = 0.061 if position == 3 else drawn.uniform(0.004, 0.025)
        limit = max(earlier) if healthy >= 5 else None
        return FeatureDrift(name, meaning, drawn.uniform(0, 80), drawn.uniform(0, 80), effect, limit, earlier)

    features = tuple(feature(n, one.name, one.meaning) for n, one in enumerate(FEATURES))
    return Drift(features, training_rows=63_000, healthy=healthy, replayed=max(0, healthy - 5), false_alarms=2)


def distribution() -> ScoreDistribution:
    """Most rows score low, a few high."""
    bins = 40
    edges = tuple(-0.25 + n * 0.5 / bins for n in range(bins + 1))
    weights = [2.718 ** -(((n - 10) / 6) ** 2) + 0.002 for n in range(bins)]
    total = sum(weights)
    training = tuple(one / total for one in weights)
    moved = [one * (1.1 if n % 3 else 0.85) for n, one in enumerate(training)]
    return ScoreDistribution(edges, training, tuple(one / sum(moved) for one in moved), 0.0, 63_000, 3_012)


def report(*, cards: int = 8, days: int = 30) -> Report:
    """A usual day."""
    listed = tuple(card(rank, alerts=1 + rank % 4, others=rank % 5) for rank in range(1, cards + 1))
    alerts = sum(len(one.alerts) for one in listed)
    figures = PartitionFigures(KEY, 3_012, alerts + 31, alerts, 31, sum(one.amount_at_risk for one in listed), "1")
    return Report(
        feed="simulated",
        key=KEY,
        grain="daily",
        as_of=AS_OF,
        figures=figures,
        alert_limit=100,
        cards=listed,
        bursts=0,
        withdrawn=(Withdrawn("20260130-77701", "499900001111", 18.2, "others are more suspicious now", AS_OF),),
        history=(*history(days)[:-1], figures),
        scores=distribution(),
        drift=drift(),
        quarantine=Quarantine(
            3_030,
            18,
            0.05,
            (("duplicate", "An equal copy of the row is in Silver.", 11), ("missing_card", "A cell is empty.", 7)),
        ),
        stages=(
            StageState("landing", "the newest file of the day", AS_OF - timedelta(hours=6)),
            StageState("Silver", "3,012 rows", AS_OF - timedelta(hours=5)),
            StageState("Gold", "3,012 scores", AS_OF - timedelta(hours=4)),
            StageState("alerts", "the list", AS_OF - timedelta(hours=4)),
        ),
        checks=(
            CheckState("rows_are_accounted_for", "Landed = Silver + quarantined.", True, "3,030 rows"),
            CheckState("every_transaction_is_scored_once", "Every row has exactly one score.", True, "3,012 rows"),
        ),
        reviews=Reviews(
            1_940, fraud=61, genuine=48, unsure=4, cards=70, first_key="2026-01-01", last_key=KEY, latest_at=AS_OF
        ),
        model=Model(
            "1",
            0.0,
            "Version 1: an Isolation Forest of 200 trees, trained without labels on 63,000 rows of 2026-01-01 to "
            "2026-01-21; 3.50% of them lie above its threshold.",
            evaluation(),
            ("2026-01-22", KEY),
            AS_OF - timedelta(days=1),
            "Version 1 was promoted by gate, 2026-01-22 04:00 UTC: ROC-AUC 0.931 is above a blind guess's 0.5.",
        ),
        versions=(("gold.fraud_alerts", "30"), ("silver_version", "1f0a2b3c4d5e6f70")),
    )


def empty_report() -> Report:
    """The first day of a feed, of which every row was refused, before any model."""
    figures = PartitionFigures(KEY, 0, 0, 0, 0, 0.0, "1")
    return replace(
        report(cards=0),
        figures=figures,
        withdrawn=(),
        history=(figures,),
        scores=None,
        drift=None,
        quarantine=Quarantine(12, 12, 0.05, (("missing_card", "A cell is empty.", 12),)),
        reviews=None,
        model=Model("1", None, "", None),
    )


HOSTILE: Final = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=1">',
    "</style></script><h1>mine</h1>",
    "\u202e12.00 refund\u2066",
    '=HYPERLINK("https://example.com";"click")',
    "{{ 7 * 7 }}",
    "x" * 10_000,
    "a\x00b\r\nc\u200b",
    "'; DROP TABLE cards; --",
)
"""What a source may write into any text of its own."""


def hostile_report() -> Report:
    """A day whose every text of the source's own is hostile."""
    usual = report(cards=len(HOSTILE))
    listed = tuple(
        replace(
            one,
            card_id=text,
            alerts=tuple(replace(alert, transaction_id=text, product=text, reasons=(text,)) for alert in one.alerts),
            day=tuple(replace(bought, transaction_id=text, product=text) for bought in one.day),
        )
        for one, text in zip(usual.cards, HOSTILE, strict=True)
    )
    refused = Quarantine(10, 9, 0.05, tuple((f"unreadable_{text}", "A cell.", 1) for text in HOSTILE))
    return replace(usual, feed=HOSTILE[0], cards=listed, quarantine=refused)
