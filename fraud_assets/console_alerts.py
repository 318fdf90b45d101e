"""What the command line says of alerts, and the spreadsheets that go out and come back. Decides nothing.

How alerts are ranked and told is `fraud_assets.alerts`'; a review lands as a file, and is counted by the next run.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click

from fraud_assets.alerts import spreadsheets
from fraud_assets.alerts.reasons import USUAL_DAYS
from fraud_assets.alerts.reviews import OUTCOMES, REVIEW_COLUMNS, read_decisions
from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.tables import ALERT_LISTS, ALERTS, REVIEW_SAMPLES, SILVER_TRANSACTIONS, WITHDRAWN_ALERTS

_WIDTH: Final = 110
"""Characters of a line of reasons."""

_RAREST: Final = 10_000
"""A percentile is exact to one in as many."""

_EXPORTED: Final = (
    "rank", "TransactionID", "event_timestamp", "card_id", "TransactionAmt", "ProductCD", "reason", "score_percentile",
    "fraud_score", "card_rank", "card_alerts", "card_amount_at_risk", "card_usual_amount", "is_international_txn",
    "txn_count_5min", "is_burst_of_small_alike", "is_usual_burst", "model_version", "ranker_version",
    "partition_key",
)  # fmt: skip
"""What a spreadsheet shows of an alert, before the empty columns of a decision."""


_DRAWN: Final = "drawn at random from what is no alert"


class NoAlertsError(FraudAssetsError):
    """There is no list of alerts of a day, or a file holds no decision; the message says what to do."""


@dataclass(frozen=True)
class DayOfAlerts:
    """The lists of a day's partitions, in order of time, their alerts, in the order of work, and what was drawn."""

    day: str
    lists: Sequence[dict[str, Any]]
    alerts: Sequence[dict[str, Any]]
    drawn: Sequence[dict[str, Any]]
    withdrawn: int


def read_day(lake: Lake, day: str) -> DayOfAlerts:
    """Return the alerts of a day, or of one partition of it.

    Raises:
        NoAlertsError: no list of it was made.
    """
    made = lake.partition_states(ALERT_LISTS, ())
    keys = [key for key in sorted(made) if key == day or key.startswith(f"{day}-")]
    if not keys:
        there = f"There are {min(made)} to {max(made)}" if made else "`fraud-assets run` makes them"
        raise NoAlertsError(f"There is no list of alerts of {day}. {there}.")
    alerts = sorted(lake.rows(ALERTS, keys=keys), key=lambda row: (row["partition_key"], row["rank"]))
    lists = sorted(lake.rows(ALERT_LISTS, keys=keys), key=lambda row: row["partition_key"])
    drawn = sorted(lake.rows(REVIEW_SAMPLES, keys=keys), key=lambda row: (row["event_timestamp"], row["TransactionID"]))
    return DayOfAlerts(day, lists, alerts, drawn, len(lake.rows(WITHDRAWN_ALERTS, keys=keys)))


def show(day: DayOfAlerts) -> None:
    """Print what a morning begins with: how many alerts and how much is at risk, then card after card."""
    total = {
        name: sum(one[name] for one in day.lists)
        for name in ("alerts", "scored_rows", "below_the_cut", "usual_bursts", "amount_at_risk")
    }
    cards = len({alert["card_id"] for alert in day.alerts})
    click.echo(
        f"{day.day}: {total['alerts']:,} alerts on {cards:,} cards, of {total['scored_rows']:,} transactions; "
        f"{total['amount_at_risk']:,.2f} at risk"
    )
    notes = [
        (total["below_the_cut"], "more anomalies below the cut"),
        (total["usual_bursts"], "of the alerts are bursts like those that their cards have had before"),
        (day.withdrawn, "alerts were shown before and are none any more: gold.withdrawn_alerts"),
    ]
    for count, what in notes:
        if count:
            click.echo(f"  {count:,} {what}")
    for version in sorted({one["ranker_version"] for one in day.lists if one["history_version"] is not None}):
        click.echo(f"  ordered by version {version} of the ranker, whose reasons these are")
    for _, alerts in groupby(day.alerts, key=lambda row: (row["partition_key"], row["card_rank"])):
        _show_card(list(alerts))
    if day.drawn:
        click.echo(f"\n{len(day.drawn):,} transactions {_DRAWN}: what they turn out to be says what the list misses")
    for row in day.drawn:
        _show_transaction(row, "")


def _show_card(alerts: Sequence[dict[str, Any]]) -> None:
    first = alerts[0]
    before = f"in the {USUAL_DAYS} days before"
    usual = f"not used {before}"
    if count := first["card_earlier_transactions"]:
        usual = f"usually {first['card_usual_amount']:,.2f}, {count:,} purchases {before}"
    card, at_risk = _printable(first["card_id"]), first["card_amount_at_risk"]
    click.echo(f"\ncard {card}: {at_risk:,.2f} at risk; {usual}")
    for alert in alerts:
        share = alert["score_percentile"]
        rarity = "" if share is None or share >= 1 else f"1 in {min(1 / (1 - share), _RAREST):,.0f}"
        _show_transaction(alert, rarity)
        click.echo(textwrap.fill(_reason(alert), _WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 7))


def _reason(alert: dict[str, Any]) -> str:
    """Return why an alert stands where it does: by the ranker, where one put it there."""
    return alert["ranker_reason"] or alert["reason"]


def _show_transaction(row: dict[str, Any], rarity: str) -> None:
    click.echo(
        f"  {row.get('rank', ''):>3}  {row['event_timestamp']:%H:%M:%S}  {row['TransactionAmt']:>12,.2f}  "
        f"{_printable(row['ProductCD'])[:12]:<12}  {rarity:<11}  {_printable(row['TransactionID'])}"
    )


def _printable(text: str) -> str:
    """Return a text of the feed as a terminal may have it: no control characters, no marks that turn its direction."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def write_csv(path: Path, day: DayOfAlerts) -> None:
    """Write the alerts and what was drawn for review as CSV, with empty columns for decisions."""
    names = (*_EXPORTED, *REVIEW_COLUMNS)
    rows = [
        row | {"event_timestamp": row["event_timestamp"].isoformat(sep=" ", timespec="seconds")} for row in _rows(day)
    ]
    spreadsheets.write_csv(path, names, spreadsheets.by_names(names, rows))


def write_xlsx(path: Path, day: DayOfAlerts) -> None:
    """Write the alerts and what was drawn for review as a workbook, with empty columns for decisions."""
    names = (*_EXPORTED, *REVIEW_COLUMNS)
    spreadsheets.write_xlsx(path, names, spreadsheets.by_names(names, _rows(day)))


def _rows(day: DayOfAlerts) -> list[dict[str, Any]]:
    alerts = (row | {"reason": _reason(row)} for row in day.alerts)
    return [*alerts, *(row | {"reason": _DRAWN} for row in day.drawn)]


def take_reviews(file: Path, lake: Lake, landing_zone: LandingZone, *, reviewer: str) -> None:
    """Land a file's decisions and print what becomes of them; the next run counts them.

    Raises:
        NoAlertsError: no row of it holds a decision.
    """
    reviewed = read_decisions(spreadsheets.read_rows(file, ("TransactionID", REVIEW_COLUMNS[0])))
    for why in reviewed.refused:
        click.echo(f"Refused    {_printable(why)}", err=True)
    if not reviewed.decisions:
        outcomes = f"{', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}"
        raise NoAlertsError(f"{file.name} holds no decision: write {outcomes} into the column outcome.")
    names = ("TransactionID", *REVIEW_COLUMNS)
    rows = [
        [one.transaction, one.outcome, one.reviewer or reviewer, "" if at is None else at.isoformat(), one.note]
        for one, at in ((one, one.reviewed_at) for one in reviewed.decisions)
    ]
    name, is_new = landing_zone.land_review(spreadsheets.as_csv(names, rows))
    counts = [(sum(one.outcome == outcome for one in reviewed.decisions), outcome) for outcome in OUTCOMES]
    said = ", ".join(f"{count:,} {outcome}" for count, outcome in counts if count)
    click.echo(f"Landed     {file.name}: {said}; landing/{name}{'' if is_new else ' (landed before)'}")
    if reviewed.undecided:
        click.echo(f"Note       {reviewed.undecided:,} rows have no outcome yet")
    ids = sorted({one.transaction for one in reviewed.decisions})
    with lake.connect() as connection:
        silver = lake.select(SILVER_TRANSACTIONS)
        query = f"SELECT unnest($ids) EXCEPT SELECT TransactionID FROM {silver} ORDER BY ALL"
        unknown = [transaction for (transaction,) in connection.execute(query, {"ids": ids}).fetchall()]
    for transaction in unknown:
        click.echo(f"Unknown    {_printable(transaction)} is no transaction of this feed (yet)", err=True)
    click.echo("           `fraud-assets run` counts them; `make dev` does it by itself.")
