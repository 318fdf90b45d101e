"""The pictures of a report, as SVG that takes its colours from the page around it.

Belongs here: which marks show which values. Does not belong here: measuring them; what a picture says in words stands
beside it on the page, for those who cannot see it. Nothing that a source wrote is drawn. Altair takes a second to
import: import this module late.
"""

import json
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any, Final

import altair as alt
import vl_convert
from PIL import Image

from fraud_assets.report.facts import CardAlerts, Drift, PartitionFigures, Report, ScoreDistribution
from fraud_assets.silver.contract import WINDOW

Chart = alt.Chart | alt.LayerChart | alt.FacetChart

_ACCENT: Final = "var(--accent)"
_INK: Final = "var(--ink)"
_MUTED: Final = "var(--muted)"
_RULE: Final = "var(--rule)"
"""Colours of the page's style sheet, which knows light, dark and print."""

_PAPER: Final = {_ACCENT: "#b23a12", _INK: "#1d1f21", _MUTED: "#5c6166", _RULE: "#dcd9d2"}
"""The light ones, where there is no style sheet."""

_WIDTH: Final = 340
"""Pixels of a picture: a phone shows it as it is, a wide page several side by side, so that its text stays readable."""

_CONFIG: Final[dict[str, Any]] = {
    "aria": False,
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _MUTED,
        "titleColor": _MUTED,
        "domainColor": _RULE,
        "tickColor": _RULE,
        "gridColor": _RULE,
        "gridOpacity": 0.6,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelFlush": True,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False, "tickCount": 4, "labelPadding": 6},
    "legend": {"labelColor": _INK, "labelFontSize": 11, "title": None, "orient": "top", "symbolSize": 60},
}

_TYPE: Final = {"autosize": {"type": "fit", "contains": "padding"}}
"""Axes and titles lie within the width."""


def over_time(history: Sequence[PartitionFigures], field: str, *, title: str, percent: bool = False) -> Chart:
    """Return bars of one figure, a partition each; the last, which the page is about, stands out."""
    rows = [
        {"key": figures.key, "value": getattr(figures, field), "is_last": figures is history[-1]} for figures in history
    ]
    shown = _some([figures.key for figures in history], 4)
    axis = alt.Axis(values=shown, labelExpr=_SHORT_KEY, title=None, labelAngle=0)
    drawn = (
        alt.Chart(_values(rows))
        .mark_bar()
        .encode(
            x=alt.X("key:O", axis=axis, scale=alt.Scale(paddingInner=0.25)),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(format=".1%" if percent else ",~s", titleAnchor="end")),
            color=alt.condition(alt.datum.is_last, alt.value(_ACCENT), alt.value(_MUTED)),
            opacity=alt.condition(alt.datum.is_last, alt.value(1), alt.value(0.55)),
        )
    )
    return drawn.properties(height=170)


def score_distribution(scores: ScoreDistribution, *, today: str) -> Chart:
    """Return the training's scores as a surface, the partition's as a line, and the threshold between them."""
    rows = [
        {"from": low, "to": high, "share": part, "rows": words}
        for words, shares in (("training", scores.training), (today, scores.partition))
        for low, high, part in zip(scores.edges, scores.edges[1:], shares, strict=False)
    ]
    colours = alt.Scale(domain=["training", today], range=[_MUTED, _ACCENT])
    x = alt.X("from:Q", title="fraud_score, higher is more suspicious", axis=alt.Axis(tickCount=6))
    y = alt.Y("share:Q", title="share of rows per bin", axis=alt.Axis(format=".0%"), scale=alt.Scale(type="sqrt"))
    base = alt.Chart(_values(rows)).encode(x=x, y=y, color=alt.Color("rows:N", scale=colours))
    surface = base.transform_filter(alt.datum.rows == "training").mark_area(interpolate="step-after", opacity=0.35)
    line = base.transform_filter(alt.datum.rows != "training").mark_line(interpolate="step-after", strokeWidth=1.8)
    cut = alt.Chart(_values([{"at": scores.threshold}])).mark_rule(color=_INK, strokeDash=[4, 3]).encode(x="at:Q")
    return (surface + line + cut).properties(height=220)


def drift(drift: Drift) -> Chart:
    """Return a row of ticks per feature, the earlier partitions' effects, and this one's as a dot."""
    earlier = [{"feature": one.feature, "effect": effect} for one in drift.features for effect in one.earlier]
    now = [
        {"feature": one.feature, "effect": one.effect, "what": "unusual" if one.is_unusual else "usual"}
        for one in drift.features
    ]
    names = [one.feature for one in drift.features]
    y = alt.Y("feature:N", sort=names, title=None, axis=alt.Axis(grid=True, labelLimit=0, labelPadding=8))
    x = alt.X("effect:Q", title="effect size, share of rows", axis=alt.Axis(format=".1%", tickCount=4))
    ticks = alt.Chart(_values(earlier)).mark_tick(color=_MUTED, thickness=1, size=10, opacity=0.7).encode(x=x, y=y)
    colours = alt.Scale(domain=["usual", "unusual"], range=[_INK, _ACCENT])
    dots = (
        alt.Chart(_values(now))
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x=x, y=y, color=alt.Color("what:N", scale=colours, legend=None))
    )
    return (ticks + dots).properties(height=220)


def timeline(card: CardAlerts) -> str:
    """Return the SVG of the card's busiest five minutes: when it paid, and how much."""
    end = card.busiest[-1].time
    alerts = {alert.transaction_id for alert in card.alerts}
    rows = [
        {
            "before": (one.time - end).total_seconds() / 60,
            "amount": one.amount,
            "what": "alert" if one.transaction_id in alerts else "other",
        }
        for one in card.busiest
    ]
    return _drawn(_timeline() | {"datasets": {"card": rows}, "params": [{"name": "at", "value": f"{end:%H:%M:%S}"}]})


@cache
def _timeline() -> dict[str, Any]:
    """Return the picture of no card in particular: to describe it takes longer than to draw it."""
    minutes = WINDOW.total_seconds() / 60
    axis = alt.Axis(values=[-minutes, -minutes / 2, 0], labelExpr=_MINUTES_BEFORE)
    x = alt.X("before:Q", title=None, axis=axis, scale=alt.Scale(domain=[-minutes, 0], nice=False))
    y = alt.Y("amount:Q", title=None, axis=alt.Axis(tickCount=2, format=",~s"))
    colours = alt.Scale(domain=["alert", "other"], range=[_ACCENT, _MUTED])
    base = alt.Chart(alt.NamedData("card")).encode(x=x, y=y, color=alt.Color("what:N", scale=colours, legend=None))
    layers = base.mark_rule(strokeWidth=1.5) + base.mark_point(filled=True, size=45, opacity=1)
    return _spec(layers.properties(height=84))


_SHORT_KEY: Final = "slice(datum.value, 5)"
"""A key without its year."""

_MINUTES_BEFORE: Final = "datum.value == 0 ? at : format(datum.value, '~') + ' min'"


def _values(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=list(rows))


def _some(keys: Sequence[str], most: int) -> list[str]:
    """Return a few evenly spaced keys, the last one among them."""
    step = max(1, -(-len(keys) // most))
    return list(reversed(keys[::-1][::step]))


def as_svg(chart: Chart) -> str:
    """Return a picture for a page that has the style sheet's colours."""
    return _drawn(_spec(chart))


def _drawn(spec: dict[str, Any]) -> str:
    drawn = vl_convert.vegalite_to_svg(spec, config=_CONFIG)
    # The words beside it say what it shows: a screen reader shall not read its lines and ticks, too.
    return drawn.replace("<svg", '<svg aria-hidden="true"', 1)


def thumbnails(report: Report) -> dict[str, bytes]:
    """Return the key pictures of a report by title, as small PNGs on white paper, for pages that are not ours."""
    charts: dict[str, Chart] = {}
    if len(report.history) > 1:
        charts["Alerts over time"] = over_time(report.history, "alerts", title="alerts")
    if report.scores is not None:
        charts["Scores against training"] = score_distribution(report.scores, today=report.key)
    return {title: _as_png(chart) for title, chart in charts.items()}


def _as_png(chart: Chart) -> bytes:
    on_paper = json.dumps([_spec(chart), _CONFIG | {"background": "white"}])
    for variable, colour in _PAPER.items():
        on_paper = on_paper.replace(variable, colour)
    spec, config = json.loads(on_paper)
    png = Image.open(BytesIO(vl_convert.vegalite_to_png(spec, config=config)))
    file = BytesIO()
    png.convert("RGB").quantize(32).save(file, "png", optimize=True)  # A third of the bytes: events carry them.
    return file.getvalue()


def _spec(chart: Chart) -> dict[str, Any]:
    # To validate it again, as a whole, would cost more than to draw it.
    return chart.properties(width=_WIDTH).to_dict(validate=False) | _TYPE
