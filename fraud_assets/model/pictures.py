"""Pictures of an evaluation, for the asset's page and for MLflow: what a table of metrics does not show.

Belongs here: drawing ready scores and labels. Does not belong here: measuring; precision and recall come from
`fraud_assets.model.ranking`, as in the table. matplotlib takes half a second to import: import this module late.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Final, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from PIL import Image

from fraud_assets.model.estimates import FOREST, REFERENCE, RULE, SCORER_WORDS
from fraud_assets.model.evaluation import Scores, labelled_rows
from fraud_assets.model.ranking import capacity_metrics, review_queue, weighted
from fraud_assets.model.scorer import is_anomaly

_LOOKS: Final[Mapping[str, tuple[str, str]]] = {
    FOREST: ("#0072B2", "-"),
    RULE: ("#D55E00", "--"),
    REFERENCE: ("#009E73", "-."),
}
"""Colour and dashes of each: Okabe and Ito's colours, told apart without red and green, and on grey paper."""

_RECALL: Final = "recall: share of the fraud rows that is found"
_GREY: Final = "#595959"
_INCHES: Final = (7.0, 4.2)
_BINS: Final = 50


def draw(rows: pd.DataFrame, scorers: Mapping[str, Scores], *, alerts_per_day: int) -> dict[str, bytes]:
    """Return PNG pictures, 700 pixels wide, by title.

    Rows and scorers are those of `evaluation.evaluate`, with fraud among the rows; `alerts_per_day` is marked.
    """
    labelled = labelled_rows(rows)
    is_fraud, threshold = labelled.is_fraud, scorers[FOREST].threshold
    drawn = {name: scorers[name].values for name in _LOOKS if name in scorers}
    ranked = {name: values[labelled.known] for name, values in drawn.items() if values is not None}
    is_alert = is_anomaly(ranked[FOREST], np.inf if threshold is None else threshold)
    return {
        "ROC curve": _png(_roc_curve(is_fraud, ranked, is_alert)),
        "precision-recall curve": _png(_precision_recall_curve(is_fraud, ranked, is_alert)),
        "alerts per day": _png(_alerts_per_day(is_fraud, labelled.day, ranked, alerts_per_day=alerts_per_day)),
        "scores by label": _png(_scores_by_label(is_fraud, ranked[FOREST], threshold=threshold)),
    }


def _reviewed(is_fraud: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many fraud rows, and how many rows, are reviewed at or above each score, the highest first."""
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    return np.cumsum(is_fraud[order])[last_of_tie], np.arange(1, len(order) + 1)[last_of_tie]


def _roc_curve(is_fraud: np.ndarray, ranked: Mapping[str, np.ndarray], is_alert: np.ndarray) -> Figure:
    figure, [axes] = _figure(1)
    for name, score in ranked.items():
        caught, reviewed = _reviewed(is_fraud, score)
        false, true = (reviewed - caught) / (~is_fraud).sum(), caught / caught[-1]
        _line(axes, name, np.append(0.0, false), np.append(0.0, true))
    axes.plot([0, 1], [0, 1], color=_GREY, ls=":", label="blind guess")
    if is_alert.any():
        recall, false_alarms = is_alert[is_fraud].mean(), is_alert[~is_fraud].mean()
        _point(axes, false_alarms, recall, f"recall {recall:.0%}, {false_alarms:.1%} of the others")
    axes.set(xlabel="false alarms: share of the other rows that is flagged", ylabel=_RECALL)
    _finish(axes, "lower right")
    return figure


def _precision_recall_curve(is_fraud: np.ndarray, ranked: Mapping[str, np.ndarray], is_alert: np.ndarray) -> Figure:
    figure, [axes] = _figure(1)
    for name, score in ranked.items():
        caught, reviewed = _reviewed(is_fraud, score)
        _line(axes, name, caught / caught[-1], caught / reviewed)
    base_rate = is_fraud.mean()
    axes.axhline(base_rate, color=_GREY, ls=":", label=f"base rate, {base_rate:.1%}")
    if is_alert.any():
        recall, precision = is_alert[is_fraud].mean(), is_fraud[is_alert].mean()
        _point(axes, recall, precision, f"precision {precision:.0%}, recall {recall:.0%}")
    axes.set(xlabel=_RECALL, ylabel="precision: share of fraud among alerts")
    _finish(axes, "upper right")
    return figure


def _alerts_per_day(
    is_fraud: np.ndarray, day: np.ndarray, ranked: Mapping[str, np.ndarray], *, alerts_per_day: int
) -> Figure:
    figure, axes = _figure(2)
    most = max(int(np.bincount(day).max()), alerts_per_day)
    capacities = np.unique(np.geomspace(1, most, 60).round())
    same = np.zeros(len(day), np.intp)
    panels = {"precision": "share of fraud among alerts", "recall": "share of the fraud rows found"}
    for name, score in ranked.items():
        queue = weighted(review_queue(score, is_fraud, np.zeros(len(day)), same, day), np.ones((1, 1)))
        found = [capacity_metrics(queue, np.full_like(queue.size, capacity), at="") for capacity in capacities]
        for panel, metric in zip(axes, panels, strict=True):
            _line(panel, name, capacities, np.array([float(one[f"{metric}_at_"][0]) for one in found]))
    axes[0].axhline(is_fraud.mean(), color=_GREY, ls=":", label="base rate")
    for panel, (metric, words) in zip(axes, panels.items(), strict=True):
        panel.axvline(alerts_per_day, color=_GREY, lw=1, label=f"{alerts_per_day:,} a day")
        panel.set(xscale="log", xlim=(1, most), ylim=(0, 1.02), xlabel="alerts per day", ylabel=words, title=metric)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _format_percent(panel.yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8.5)
    return figure


def _scores_by_label(is_fraud: np.ndarray, score: np.ndarray, *, threshold: float | None) -> Figure:
    figure, axes = _figure(1)
    edges = np.linspace(score.min(), max(score.max(), score.min() + 1e-9), _BINS + 1)
    of_label = (~is_fraud, "other rows", _GREY, "--"), (is_fraud, "fraud rows", _LOOKS[RULE][0], "-")
    for what, words, colour, dashes in of_label:
        share = np.histogram(score[what], edges)[0] / what.sum()
        axes[0].stairs(share, edges, color=colour, ls=dashes, lw=1.8, label=f"{words} ({what.sum():,})")
        axes[0].stairs(share, edges, color=colour, fill=True, alpha=0.15)
    if threshold is not None:
        axes[0].axvline(threshold, color="black", lw=1, label=f"threshold {threshold:g}: alerts to the right")
    words = f"share of the label's rows in each of {_BINS} bins"
    axes[0].set(xlabel="fraud_score, higher is more suspicious", ylabel=words)
    _format_percent(axes[0].yaxis)
    axes[0].legend(loc="upper right")
    return figure


def _line(axes: Axes, scorer: str, x: np.ndarray, y: np.ndarray) -> None:
    colour, dashes = _LOOKS[scorer]
    axes.plot(x, y, color=colour, ls=dashes, label=SCORER_WORDS[scorer])


def _point(axes: Axes, x: float, y: float, words: str) -> None:
    label = f"forest at its threshold:\n{words}"
    axes.plot(x, y, "o", color=_LOOKS[FOREST][0], mec="black", ms=8, label=label)


def _finish(axes: Axes, legend: Literal["lower right", "upper right"]) -> None:
    """Show both axes from 0 to 100 %, and a legend."""
    _format_percent(axes.xaxis, axes.yaxis)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc=legend, framealpha=0.9)


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=_INCHES, dpi=100, layout="constrained")
    axes = [figure.add_subplot(1, panels, panel + 1) for panel in range(panels)]
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _format_percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _png(figure: Figure) -> bytes:
    """Return the picture in 64 colours, which halves it or better: an asset's page carries its pictures as text."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    file = BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64).save(file, "png", optimize=True)
    return file.getvalue()
