"""What a report says of its figures in whole sentences. Why a transaction is suspicious is said in `alerts.reasons`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Final

from fraud_assets.alerts.reasons import USUAL_DAYS
from fraud_assets.alerts.review_findings import precision_of_reviewed
from fraud_assets.model.estimates import FOREST, Estimate, Evaluation
from fraud_assets.model.list_words import CALIBRATION, is_calibrated
from fraud_assets.partition_keys import Grain
from fraud_assets.report.facts import CardAlerts, Drift, Model, Order, PartitionFigures, Quarantine, Report, Reviews
from fraud_assets.report.words import amount, count, moment, share
from fraud_assets.silver.contract import WINDOW

UNITS: Final[dict[Grain, str]] = {"daily": "day", "hourly": "hour"}

LEAST_HEALTHY: Final = 7
"""With fewer earlier partitions nothing is called unusual: a week has its weekend, and of eight that are alike one is
further off than the others anyway."""

MINUTES: Final = WINDOW // timedelta(minutes=1)
"""Of a card's window."""


def lede(report: Report) -> str:
    """Say in a sentence or two what an analyst has before them."""
    figures, unit = report.figures, UNITS[report.grain]
    if not figures.scored_rows:
        return f"No transaction of this {unit} was scored, so nothing is known of it. {_why_nothing(report)}"
    if not figures.alerts:
        return f"No alert: {_why_no_alert(figures)} of version {figures.model_version}."
    first = report.cards[0] if report.cards else None
    start = f" Begin with the card at the top: {amount(first.amount_at_risk)} at risk." if first else ""
    return headline(figures.alerts, len(report.cards), figures.amount_at_risk, figures.scored_rows) + start


def headline(alerts: int, cards: int, at_risk: float, scored_rows: int) -> str:
    """Say the figures of a partition in a line."""
    if not scored_rows:
        return "No transaction was scored."
    return (
        f"{count(alerts, 'alert')} on {count(cards, 'card')}, {amount(at_risk)} at risk, of "
        f"{count(scored_rows, 'scored transaction')}."
    )


def _why_nothing(report: Report) -> str:
    refused = report.quarantine
    if refused and refused.landed_rows and refused.landed_rows == refused.quarantined_rows:
        return f"All {count(refused.landed_rows, 'landed row')} stand in quarantine; why, stands below."
    return "Below stands what landed."


def no_alerts(report: Report) -> str:
    """Say why the list is empty."""
    figures, unit = report.figures, UNITS[report.grain]
    if not figures.scored_rows:
        return f"There is no list: no transaction of this {unit} was scored. {_why_nothing(report)}"
    return f"The list is empty: {_why_no_alert(figures)}. Whether that is usual, the other {unit}s below show."


def _why_no_alert(figures: PartitionFigures) -> str:
    scored = count(figures.scored_rows, "scored transaction")
    if figures.below_the_cut:  # an hour after others of its day
        return f"the day's list was full, though of {scored} {figures.below_the_cut:,} lie above the threshold"
    return f"of {scored} none lies above the threshold"


def cut(report: Report) -> str:
    """Say how many anomalies are no alerts, and why."""
    figures = report.figures
    anomalies = count(figures.anomalies, "anomaly", "anomalies")
    limit = f"{report.alert_limit:,} a day (FRAUD_ALERTS_PER_DAY)"
    if not figures.anomalies:
        return f"Nothing stayed below the cut of {limit}: there was no anomaly."
    if not figures.below_the_cut:
        return f"Nothing stayed below the cut of {limit}: all {anomalies} are here."
    return (
        f"{figures.below_the_cut:,} of {anomalies} stayed below the cut of {limit}. They stand in "
        "gold.fraud_predictions, where is_anomaly."
    )


def bursts(report: Report) -> str:
    """Say how much of the list is bursts of small purchases, where it is; they are hardly ever a card's story."""
    if not report.bursts:
        return ""
    part = f"{report.bursts:,} of {count(report.figures.alerts, 'alert')}"
    are = "is" if report.bursts == 1 else "are"
    return (
        f"{part} {are} part of a burst of small purchases, marked below. Hardly ever are "
        "they a card's story: where they fill the list, the model needs another look."
    )


def card_usual(card: CardAlerts) -> str:
    """Say what the card did in the days before; empty where that is not known."""
    if card.earlier is None:
        return ""
    if not card.earlier:
        return f"New: this card has no transaction in the {USUAL_DAYS} days before."
    most = f", at most {card.most_in_window:,} in {MINUTES} minutes" if card.most_in_window is not None else ""
    usual = f", usually {amount(card.usual_amount)}" if card.usual_amount is not None else ""
    return f"In the {USUAL_DAYS} days before: {count(card.earlier, 'transaction')}{usual}{most}."


def findings(report: Report) -> Iterator[str]:
    """Say of each figure whether it lies within what the partitions before had, and of the features what drifted."""
    unit, earlier = UNITS[report.grain], report.history[:-1]
    if report.figures.scored_rows and earlier:
        yield _compared(report, earlier, "anomaly_rate", "of the scored rows lie above the threshold", share)
        yield _compared(report, earlier, "alerts", "alerts", lambda value: f"{value:,.0f}")
        yield _compared(report, earlier, "amount_at_risk", "at risk", amount)
    if report.drift is not None:
        yield _drifted(report.drift, unit)


def _compared(
    report: Report, earlier: Sequence[PartitionFigures], field: str, what: str, say: Callable[[float], str]
) -> str:
    now = getattr(report.figures, field) or 0.0
    before = [value for one in earlier if (value := getattr(one, field)) is not None]
    if not before:
        return f"{say(now)} {what}; nothing to compare it with."
    low, high = min(before), max(before)
    place = "above all of" if now > high else "below all of" if now < low else "within the range of"
    others = f"the {count(len(before), UNITS[report.grain])} before"
    span = f"{say(low)} to {say(high)}, half of them below {say(median(before))}" if len(before) > 1 else say(low)
    return f"{say(now)} {what}: {place} {others} ({span})."


def _drifted(drift: Drift, unit: str) -> str:
    if all(one.limit is None for one in drift.features):
        return f"No limit for drift is known yet: it needs at least {LEAST_HEALTHY} earlier healthy {unit}s."
    unusual = [one.feature for one in drift.features if one.is_unusual]
    limit = f"the limit that {count(drift.healthy, f'earlier healthy {unit}')} set"
    if not unusual:
        return f"No feature lies further from training than {limit}."
    lie = "lies" if len(unusual) == 1 else "lie"
    these = f"{len(unusual)} of {len(drift.features)} features {lie}"
    return f"{these} further from training than {limit}: {', '.join(unusual)}."


def false_alarms(drift: Drift, unit: str) -> str:
    """Say how often the limit calls a healthy partition unusual."""
    if not drift.healthy:
        return ""
    if all(one.limit is None for one in drift.features):
        return f"There are {drift.healthy} of them, {LEAST_HEALTHY} are needed."
    expected = (
        f"One {unit} in {drift.healthy + 1} that is like the {drift.healthy} before it has a feature over its limit: a "
        f"false-alarm rate of {share(1 / (drift.healthy + 1))} is to be expected."
    )
    if not drift.replayed:
        return f"{expected} How often it happened cannot be counted yet."
    return (
        f"{expected} Counted: of {count(drift.replayed, f'healthy {unit}')}, each compared with those before it by the "
        f"same rule, {drift.false_alarms:,} had one, {share(drift.false_alarms / drift.replayed)}."
    )


def quarantine(refused: Quarantine, unit: str) -> str:
    """Say how much was refused, of how much."""
    if not refused.landed_rows:
        return f"No row landed for this {unit}."
    if not refused.quarantined_rows:
        return f"None of {count(refused.landed_rows, 'landed row')} was refused."
    part = refused.quarantined_rows / refused.landed_rows
    place = "above" if part > refused.limit else "within"
    return (
        f"{refused.quarantined_rows:,} of {count(refused.landed_rows, 'landed row')} "
        f"{'was' if refused.quarantined_rows == 1 else 'were'} refused: {share(part)}, {place} the limit of "
        f"{share(refused.limit)} (FRAUD_QUARANTINE_LIMIT)."
    )


def not_measured(model: Model) -> str:
    """Say why there is no figure of the model's quality."""
    if model.evaluation is None:
        return f"Version {model.version} was not evaluated here, so that nobody knows how much fraud it finds."
    why = model.evaluation.estimate(FOREST, "roc_auc").not_measurable
    return f"How much fraud version {model.version} finds is not measurable: {why}."


def order(found: Order) -> str:
    """Say by what the list is ordered."""
    if found.version is None:
        return "This list is ordered by the forest's score."
    if found.waits_for_history:
        return (
            f"This list is ordered by the forest's score until the history of its cards is made; then version "
            f"{found.version} of the ranker orders it."
        )
    return f"This list is ordered by version {found.version} of the ranker, which learnt from labels."


def calibrated(lists: Evaluation) -> str:
    """Say whether the ranker's probability can be believed."""
    brier, guess = (lists.estimate(CALIBRATION, name) for name in ("brier", "brier_of_base_rate"))
    if brier.value is None or guess.value is None:
        return "Whether the ranker's probability comes true is not measurable."
    interval = "" if brier.lower is None else f" ({brier.lower:.4f} to {brier.upper:.4f})"
    measured = f"Brier score {brier.value:.4f}{interval}; the base rate alone has {guess.value:.4f}."
    shown = "is shown" if is_calibrated(lists) else "is not shown, since it was not seen to come true"
    return f"The ranker's probability {shown}. {measured}"


def reviews(found: Reviews) -> str:
    """Say what was decided so far, and how much of it was fraud."""
    decided = found.fraud + found.genuine
    total = decided + found.unsure
    latest = f", the latest {moment(found.latest_at)}" if found.latest_at else ""
    said = (
        f"{total:,} of {count(found.alerts, 'alert')} of {found.first_key} to {found.last_key} were reviewed{latest}: "
        f"{found.fraud:,} fraud, {found.genuine:,} genuine, {found.unsure:,} unsure."
    )
    estimates = precision_of_reviewed(found.fraud, decided, found.cards, found.sample)
    rest = _rest(found, estimates)
    if not decided:
        return f"{said} Precision is not measurable: none was decided. {rest}"
    estimate = estimates["precision"]
    interval = f"{share(estimate.lower)} to {share(estimate.upper)}, 95 % interval by cards"
    return (
        f"{said} Precision {share(estimate.value)} ({interval}), of the {decided:,} that were decided, on "
        f"{count(found.cards, 'card')}. {rest}"
    )


def _rest(found: Reviews, estimates: Mapping[str, Estimate]) -> str:
    """Say how much fraud is no alert, where transactions were drawn at random for review and decided."""
    if found.sample is None:
        return "Only alerts are reviewed: how much fraud is no alert, reviews cannot say."
    rate, recall = estimates["unalerted_fraud_rate"], estimates["recall"]
    said = (
        f"Drawn at random from what is no alert, and decided: {count(found.sample.decided, 'transaction')}, "
        f"{found.sample.frauds:,} fraud: {share(rate.value)} ({share(rate.lower)} to {share(rate.upper)})"
    )
    if recall.value is None:
        return f"{said}."
    between = f"{share(recall.lower)} to {share(recall.upper)}"
    return f"{said}, so that the lists hold {share(recall.value)} of all fraud ({between})."
