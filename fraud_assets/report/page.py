"""A report as one HTML file, and the index of all reports: values in, text out.

Everything that the file needs stands in it. What a source wrote is text on it, never markup: templates escape, and the
file's own policy lets a browser run no script but ours and ask nothing of any other computer. What the figures say in
words stands in `report.sentences`, the pictures in `report.charts`.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fraud_assets.model.estimates import FOREST, RULE, quality_notes, quality_table, summary
from fraud_assets.model.list_words import RANKER, as_text, calibration_table, lists_table
from fraud_assets.report import sentences, words
from fraud_assets.report.facts import CardAlerts, Report

MOST_TIMELINES: Final = 40
"""Cards that have a picture: it takes 30 ms to draw, and whoever comes so far down the list reads the table."""

_INLINE: Final = ("page.js", "style.css")
"""What stands in every file as it is."""


@dataclass(frozen=True)
class Picture:
    """SVG, the words for those who cannot see it, and the caption below it."""

    drawn: Markup
    says: str
    caption: str


@dataclass(frozen=True)
class IndexEntry:
    """One report, as the index lists it."""

    key: str
    file: str
    words: str
    as_of: datetime
    alerts: int
    cards: int
    scored_rows: int
    amount_at_risk: float
    model_version: str


def render(report: Report) -> str:
    """Return the report as one HTML file."""
    unit = sentences.UNITS[report.grain]
    evaluation = report.model.evaluation
    measured = evaluation is not None and evaluation.estimate(FOREST, "roc_auc").value is not None
    return _template("report.html.j2").render(
        report=report,
        words=words.partition_words(report.key, report.grain),
        unit=unit,
        this=f"this {unit}",
        lede=sentences.lede(report),
        freshness=_freshness(report),
        no_alerts=sentences.no_alerts(report),
        cut=sentences.cut(report),
        bursts=sentences.bursts(report),
        withdrawn_rows=_withdrawn_rows(report),
        card_usual=sentences.card_usual,
        findings=list(sentences.findings(report)),
        timelines=list(_timelines(report.cards)),
        alert_rows=_alert_rows,
        day_rows=_day_rows,
        **_other_days(report, unit),
        **_drift(report, unit),
        quarantine=report.quarantine and sentences.quarantine(report.quarantine, unit),
        quarantine_rows=_quarantine_rows(report),
        stage_rows=[
            [stage.name, stage.what, words.moment(stage.at) if stage.at else stage.missing] for stage in report.stages
        ],
        check_rows=[
            [check.name, check.claim, _result(check.passed), words.visible(check.found, 300)] for check in report.checks
        ],
        reviews=report.reviews and sentences.reviews(report.reviews),
        quality=quality_table(evaluation) if evaluation is not None and measured else None,
        quality_notes=quality_notes(evaluation) if evaluation is not None and measured else [],
        quality_words=summary(evaluation, report.model.version, report.model.window) if evaluation is not None else "",
        quality_caption=_quality_caption(report),
        not_measured=sentences.not_measured(report.model),
        **_order(report),
    )


def render_index(feed: str, entries: Sequence[IndexEntry]) -> str:
    """Return the index of all reports; the entries come in time order."""
    shown = list(reversed(entries))
    first = shown[0] if shown else None
    return _template("index.html.j2").render(
        feed=feed,
        latest=first,
        lede=first and sentences.headline(first.alerts, first.cards, first.amount_at_risk, first.scored_rows),
        rows=[
            [
                Markup('<a href="{}">{}</a>').format(one.file, one.key),
                f"{one.alerts:,}",
                f"{one.scored_rows:,}",
                words.share(one.alerts / one.scored_rows if one.scored_rows else None),
                words.amount(one.amount_at_risk),
                words.visible(one.model_version),
                words.moment(one.as_of),
            ]
            for one in shown
        ],
    )


def _freshness(report: Report) -> list[tuple[str, datetime]]:
    return [(stage.name, stage.at) for stage in report.stages if stage.at is not None]


def _timelines(cards: Sequence[CardAlerts]) -> Iterator[Picture | str]:
    for number, card in enumerate(cards):
        yield _timeline(card, is_drawn=number < MOST_TIMELINES)


def _timeline(card: CardAlerts, *, is_drawn: bool) -> Picture | str:
    window = card.busiest
    if len(window) < 2:
        return f"Nothing else on this card in the {sentences.MINUTES} minutes before."
    says = (
        f"{words.count(len(window), 'transaction')} in the {sentences.MINUTES} minutes up to "
        f"{window[-1].time:%H:%M:%S} UTC, {words.amount(sum(one.amount for one in window))} in all"
    )
    if not is_drawn:
        return f"{says}."
    from fraud_assets.report.charts import timeline

    return Picture(Markup(timeline(card)), says, f"{says}.")


def _alert_rows(card: CardAlerts) -> list[list[Any]]:
    return [
        [
            words.isolated(one.transaction_id),
            words.isolated(one.product),
            words.visible("; ".join(one.reasons), 300),
            one.rank,
            f"{one.time:%H:%M:%S}",
            words.amount(one.amount),
            words.odds(one.percentile),
            one.outcome or "-",
        ]
        for one in card.alerts
    ]


def _withdrawn_rows(report: Report) -> list[list[Any]]:
    return [
        [
            words.isolated(one.transaction_id),
            words.isolated(one.card_id),
            one.why,
            words.moment(one.withdrawn_at),
            words.amount(one.amount),
        ]
        for one in report.withdrawn
    ]


def _day_rows(card: CardAlerts) -> list[list[Any]]:
    alerts = {alert.transaction_id for alert in card.alerts}
    return [
        [
            words.isolated(one.transaction_id),
            words.isolated(one.product),
            "alert" if one.transaction_id in alerts else "anomaly below the cut" if one.is_anomaly else "unsuspicious",
            f"{one.time:%H:%M:%S}",
            words.amount(one.amount),
        ]
        for one in card.day
    ]


def _other_days(report: Report, unit: str) -> dict[str, Any]:
    history = report.history
    rows = [
        [
            one.key,
            f"{one.scored_rows:,}",
            f"{one.anomalies:,}",
            words.share(one.anomaly_rate),
            f"{one.alerts:,}",
            words.share(one.alert_rate),
            words.amount(one.amount_at_risk),
            words.visible(one.model_version),
        ]
        for one in reversed(history)
    ]
    pictures = []
    if len(history) > 1:
        from fraud_assets.report.charts import as_svg, over_time

        span = f"{words.count(len(history), unit)}, {history[0].key} to {history[-1].key}"
        for name, title, percent, caption in (
            ("alerts", "alerts", False, f"Alerts by {unit}: at most {report.alert_limit:,} a day."),
            ("anomaly_rate", "share of scored rows", True, "Anomaly rate: rows above the threshold, of the scored."),
            ("amount_at_risk", "amount", False, "Amount at risk: sum of the alerts, in the feed's currency."),
        ):
            drawn = Markup(as_svg(over_time(history, name, title=title, percent=percent)))
            says = f"{caption} {span}; the table below has the same figures."
            pictures.append(Picture(drawn, says, f"{caption} {span}, this one in colour."))
    return {"history_rows": rows, "history_pictures": pictures}


def _drift(report: Report, unit: str) -> dict[str, Any]:
    scores, drift = report.scores, report.drift
    score_picture = drift_picture = None
    if scores is not None or drift is not None:
        from fraud_assets.report import charts

        if scores is not None:
            caption = (
                f"fraud_score of {words.count(scores.partition_rows, 'scored row')} of this {unit} (line) and of "
                f"{words.count(scores.training_rows, 'training row')} (surface), in {len(scores.partition)} bins. The "
                f"vertical scale is that of square roots, so that few rows are seen. Dashed: the threshold, "
                f"{words.number(scores.threshold)}; rows to its right are anomalies."
            )
            drawn = charts.as_svg(charts.score_distribution(scores, today=f"this {unit}"))
            score_picture = Picture(Markup(drawn), caption, caption)
        if drift is not None:
            caption = (
                f"Effect size of each feature: this {unit} (dot; coloured where it is over its limit) and "
                f"{words.count(drift.healthy, f'earlier healthy {unit}')} (ticks). The table below has the figures."
            )
            drift_picture = Picture(Markup(charts.as_svg(charts.drift(drift))), caption, caption)
    rows = [
        [
            one.feature,
            one.meaning,
            "no limit yet" if one.limit is None else "unusual" if one.is_unusual else "usual",
            words.share(one.effect),
            words.share(one.limit),
            words.number(one.training_mean),
            words.number(one.mean),
        ]
        for one in (drift.features if drift else ())
    ]
    return {
        "score_picture": score_picture,
        "drift_picture": drift_picture,
        "drift_rows": rows,
        "false_alarms": sentences.false_alarms(drift, unit) if drift else "",
        "quarantine_limit": report.quarantine.limit if report.quarantine else None,
        "history_length": f"{words.count(len(report.history), unit)}",
    }


def _quarantine_rows(report: Report) -> list[list[Any]]:
    refused = report.quarantine
    if refused is None:
        return []
    return [
        [words.visible(reason), meaning, f"{rows:,}", words.share(rows / refused.landed_rows)]
        for reason, meaning, rows in refused.reasons
    ]


def _quality_caption(report: Report) -> str:
    start, end = report.model.window or ("", "")
    when = f", measured {words.moment(report.model.evaluated_at)}" if report.model.evaluated_at else ""
    return f"Version {report.model.version} on labelled rows of {start} to {end}, later than its training{when}"


def _order(report: Report) -> dict[str, Any]:
    found = report.order
    if found is None:
        return {"order": None}
    at = f"precision_at_{found.alerts_per_day}_a_day"
    over_time = [
        [f"{start} to {end}", version, *(as_text(lists.estimate(one, at)) for one in (RANKER, FOREST, RULE))]
        for version, (start, end), lists in found.lists
    ]
    latest = found.lists[0][2] if found.lists else None
    is_measured = latest is not None and latest.estimate(RANKER, at).value is not None
    return {
        "order": sentences.order(found),
        "order_said": found.said,
        "lists": lists_table(latest, found.alerts_per_day) if latest is not None and is_measured else None,
        "lists_caption": f"What each list finds, within {found.alerts_per_day} alerts a day, on {over_time[0][0]}"
        if over_time
        else "",
        "lists_over_time": over_time,
        "calibrated": sentences.calibrated(latest) if latest is not None else "",
        "calibration": calibration_table(latest) if latest is not None else None,
    }


def _result(passed: bool | None) -> Markup:
    if passed is None:
        return Markup("not evaluated")
    return Markup("passed") if passed else Markup('<strong class="failed">failed</strong>')


@cache
def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("fraud_assets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": words.amount,
        "counted": words.count,
        "moment": words.moment,
        "number": words.number,
        "odds": words.odds,
        "share": words.share,
        "visible": words.visible,
        "isolated": words.isolated,
    }
    script, style = (files("fraud_assets.report").joinpath("templates", name).read_text() for name in _INLINE)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "style": Markup(style),
        "script_digest": f"sha256-{digest}",
    }
    return environment.get_template(name)
