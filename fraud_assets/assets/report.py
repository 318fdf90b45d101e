"""The report: one page per partition, and the index of all. What stands on it is `fraud_assets.report`'s business."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.assets.alerts import fraud_alerts
from fraud_assets.assets.descriptions import OWNERS, table_metadata
from fraud_assets.assets.model import evaluation_metrics
from fraud_assets.assets.partition_runs import PartitionMade, materialize_each, provenance
from fraud_assets.assets.report_inputs import ReportInputs
from fraud_assets.assets.reviews import alert_reviews
from fraud_assets.files import replacing
from fraud_assets.report.facts import Report
from fraud_assets.report.words import partition_words
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import ALERT_LISTS, REPORTS


@dg.asset(
    deps=[fraud_alerts, alert_reviews, evaluation_metrics],
    group_name="gold",
    kinds={"html", "altair"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(REPORTS, copied_from=ALERT_LISTS),
)
def fraud_report(
    context: dg.AssetExecutionContext,
    lake: Lake,
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    alerts_per_day: dg.ResourceParam[int],
    quarantine_limit: dg.ResourceParam[float],
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """The page that an analyst opens in the morning: alerts with reasons, and whether the figures can be believed.

    One self-contained HTML file per partition in `reports/`, and `reports/index.html` for the latest and the history.
    """
    from fraud_assets.report.page import render

    inputs = ReportInputs(lake, landing_zone, model_registry, quarantine_limit, alerts_per_day)
    folder = Path(lake.data_dir) / "reports"
    folder.mkdir(parents=True, exist_ok=True)

    def make(key: str) -> PartitionMade:
        made_of, as_of = inputs.made_of(key), datetime.now(tz=UTC)
        report = inputs.read(connection, key, as_of=as_of)
        page = render(report).encode()
        file = folder / f"{key}.html"
        with replacing(file) as fresh:
            fresh.write_bytes(page)
        row = _row(report) | made_of | {"file": file.name, "bytes": len(page), "rendered_at": as_of}
        rows = pa.Table.from_pylist([row], schema=REPORTS.schema)
        lake.replace_partition(REPORTS, key, rows, provenance=provenance(context))
        return PartitionMade(
            rows=1,
            data_version="-".join(str(value) for value in made_of.values() if value is not None),
            metadata={
                "page": dg.MetadataValue.url(file.as_uri()),
                "path": dg.MetadataValue.path(file),
                "bytes": len(page),
                **{name: row[name] for name in ("alerts", "alerted_cards", "amount_at_risk")},
                **({} if report.figures.alert_rate is None else {"alert_rate": report.figures.alert_rate}),
                **_pictures(report),
            },
        )

    try:
        with lake.connect() as connection:
            yield from materialize_each(context, make)
    finally:
        _write_index(lake, landing_zone, folder)


def _row(report: Report) -> dict[str, Any]:
    figures = report.figures
    return {
        "scored_rows": figures.scored_rows,
        "anomalies": figures.anomalies,
        "alerts": figures.alerts,
        "alerted_cards": len(report.cards),
        "amount_at_risk": figures.amount_at_risk,
        "partition_key": report.key,
    }


def _pictures(report: Report) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the page's key pictures, small, for the asset's page."""
    from fraud_assets.report.charts import thumbnails

    images = [
        f"**{title}**\n\n![{title}](data:image/png;base64,{b64encode(png).decode()})"
        for title, png in thumbnails(report).items()
    ]
    return {"pictures": dg.MarkdownMetadataValue("\n\n".join(images))} if images else {}


def _write_index(lake: Lake, landing_zone: LandingZone, folder: Path) -> None:
    """Write the index of all reports, as the table of reports lists them; of two runs the later one writes it last."""
    from fraud_assets.report.page import IndexEntry, render_index

    grain = landing_zone.source.partitions.grain
    with lake.hold("reports-index"):
        entries = [
            IndexEntry(
                key=row["partition_key"],
                file=row["file"],
                words=partition_words(row["partition_key"], grain),
                as_of=row["rendered_at"],
                cards=row["alerted_cards"],
                **{name: row[name] for name in ("alerts", "scored_rows", "amount_at_risk", "model_version")},
            )
            for row in sorted(lake.rows(REPORTS), key=lambda row: row["partition_key"])
        ]
        with replacing(folder / "index.html") as fresh:
            fresh.write_text(render_index(landing_zone.source.name, entries), encoding="utf-8")
