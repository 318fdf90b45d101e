"""The list of alerts: Gold scores become what an analyst works through. How is `fraud_assets.alerts`'s business."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

import dagster as dg
import numpy as np
from duckdb import DuckDBPyConnection

from fraud_assets.alerts.lists import (
    AlertList,
    Ranked,
    Ranking,
    earlier_keys,
    list_alerts,
    most_alerts,
    most_sampled,
)
from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.partition_runs import PartitionMade, PartitionRefusedError, materialize_each, provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.model.ranker import RANKER_FEATURES, ranked_rows
from fraud_assets.partition_keys import day_of
from fraud_assets.platform_state import Made
from fraud_assets.ranked_lists import history_to_rank_by, ranker_of
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.state import made_partitions, ranker_prod, silver_states
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    ALERTS,
    CARD_HISTORY,
    PARTITION_BUILDS,
    PREDICTIONS,
    RANKER_METRICS,
    REVIEW_SAMPLES,
    SILVER_TRANSACTIONS,
    WITHDRAWN_ALERTS,
)
from fraud_assets.staleness import STAGES


# A list waits for no history: it is made without, and anew with it where a ranker orders it. As a dependency the
# history, which comes later, would show the list of every new partition as out of date.
@dg.asset(
    deps=[silver_transactions_base, fraud_predictions],
    group_name="gold",
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags={"dagster/priority": "1"},  # as Gold: where one run does it all, before the checks
    metadata=table_metadata(ALERTS, copied_from=PREDICTIONS),
)
def fraud_alerts(
    context: dg.AssetExecutionContext,
    lake: Lake,
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    ranker_registry: ModelRegistry,
    ranks_by_labels: dg.ResourceParam[bool],
    alerts_per_day: dg.ResourceParam[int],
    review_sample_per_day: dg.ResourceParam[int],
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """The most suspicious transactions of a partition, in the order of work, each with its reasons and its card's day.

    By `fraud_score` they are its highest anomalies. Where a ranker is behind `@prod`, it orders the list as soon as the
    history of the partition's cards is made; scores, and the forest's reasons, stay as they are. What was shown and is
    no alert any more moves to `gold.withdrawn_alerts`. What was drawn at random from the rest, for review, stands in
    `gold.review_samples`.
    """
    grain = landing_zone.source.partitions.grain
    built = lake.partition_states(PARTITION_BUILDS, ("silver_rows",))
    scored_at = cache(lambda at: lake.partition_states(PREDICTIONS, ("model_version",), version=at))
    scorer = cache(model_registry.scorer)
    rankings = _Rankings(lake, ranker_registry, by_labels=ranks_by_labels)

    def make(key: str) -> PartitionMade:
        # What is known and what is read are of one version: a partition may be scored anew while the run goes on.
        at = lake.version(PREDICTIONS)
        scored = scored_at(at)
        if key not in scored and (key not in built or built[key]["silver_rows"]):
            raise PartitionRefusedError(f"{key} is not scored yet. `fraud-assets run` does whatever is due.")
        version = scored[key]["model_version"] if key in scored else ""
        lists = lake.partition_states(ALERT_LISTS, ("alerts", "alerts_per_day", "ranker_version", "sampled_rows"))
        shown = {other: one["alerts"] for other, one in lists.items() if one["alerts_per_day"] == alerts_per_day}
        predictions = lake.select(PREDICTIONS, keys=[key], version=at)
        ranking = rankings.of(connection, key, lists.get(key), gold=predictions) if version else None
        drawn = lists.get(key, {}).get("sampled_rows") or 0
        made = list_alerts(
            connection,
            scored=predictions,
            silver=lake.select(SILVER_TRANSACTIONS, keys=[key]),
            earlier=lake.select(SILVER_TRANSACTIONS, keys=earlier_keys(key, scored, grain)),
            shown=lake.select(ALERTS, keys=[key]),
            withdrawn=lake.select(WITHDRAWN_ALERTS, keys=[key]),
            drawn=lake.select(REVIEW_SAMPLES, keys=[key]),
            scorer=scorer(version) if version else None,
            ranking=ranking,
            most=most_alerts(key, grain, alerts_per_day, shown),
            alerts_per_day=alerts_per_day,
            sampled=most_sampled(key, grain, review_sample_per_day, drawn),
            alerted_at=datetime.now(tz=UTC),
        )
        origin = provenance(context, model_version=version)
        # The list's row last: only with it is the partition done, and a run that dies before is repeated.
        for table, rows in (
            (WITHDRAWN_ALERTS, made.withdrawn),
            *([(REVIEW_SAMPLES, made.sample)] if len(made.sample) or drawn else []),
            (ALERTS, made.alerts),
            (ALERT_LISTS, made.summary),
        ):
            lake.replace_partition(table, key, rows, provenance=origin)
        ranker = "" if ranking is None or ranking.ranked is None else f"-{ranking.version}"
        return _shown(made, f"{version}-{alerts_per_day}{ranker}")

    def make_alone(key: str) -> PartitionMade:
        # Hours share the alerts of their day: of two runs the second makes its list when the first is done.
        with lake.hold(f"alerts-{day_of(key)}"):
            return make(key)

    with lake.connect() as connection:
        yield from materialize_each(context, make_alone, show=lake.publish_views)


@dataclass(frozen=True)
class _Rankings:
    """How rankers order the partitions of one run."""

    lake: Lake
    registry: ModelRegistry
    by_labels: bool

    @cached_property
    def _prod(self) -> str | None:
        return ranker_prod(self.lake) if self.by_labels else None

    @cached_property
    def _histories(self) -> dict[str, Made]:
        [stage] = [stage for stage in STAGES if stage.name == "history"]
        return made_partitions(self.lake, stage)

    @cached_property
    def _silver(self) -> dict[str, Made]:
        return silver_states(self.lake)

    @cached_property
    def _calibrated(self) -> dict[str, bool]:
        return {
            version: state["is_calibrated"]
            for version, state in self.lake.partition_states(RANKER_METRICS, ("is_calibrated",)).items()
        }

    @cached_property
    def _latest_day(self) -> str:
        return day_of(max(self.lake.partition_states(PREDICTIONS, ()), default=""))

    def of(self, con: DuckDBPyConnection, key: str, listed: Mapping[str, Any] | None, *, gold: str) -> Ranking | None:
        """Return how a partition, whose scores are `gold`, is ordered; None where its score does it.

        Without rows while there is no history.
        """
        version = ranker_of(key, listed, prod=self._prod, latest_day=self._latest_day)
        if version is None:
            return None
        history = history_to_rank_by(self._histories.get(key), self._silver.get(key))
        if history is None:
            return Ranking(version, None)
        tables = {"silver": SILVER_TRANSACTIONS, "history": CARD_HISTORY}
        relations = {name: self.lake.select(table, keys=[key]) for name, table in tables.items()}
        rows = con.execute(f"FROM {ranked_rows(**relations, gold=gold, more='silver.card_id')}").fetchnumpy()
        columns = [np.ma.filled(rows[name].astype(np.float64), np.nan) for name in RANKER_FEATURES]
        ranked = Ranked(
            transactions=rows["TransactionID"].tolist(),
            X=np.column_stack(columns),
            ranker=self.registry.ranker(version),
            history_version=history,
            is_calibrated=self._calibrated.get(version, False),
        )
        return Ranking(version, ranked)


def _shown(made: AlertList, made_by: str) -> PartitionMade:
    """Return what Dagster shows of a list: how long it is, of how many rows, how much is at risk, and its head."""
    # Not the times: to make Python's of them, pyarrow imports pandas first.
    figures: dict[str, Any] = (made.summary.drop_columns(["alerted_at"]).to_pylist() or [{}])[0]
    names = (
        "ranker_version",
        "below_the_cut",
        "alerted_cards",
        "usual_bursts",
        "amount_at_risk",
        "model_version",
        "silver_version",
    )
    head = made.alerts.select(["rank", "card_id", "ProductCD", "reason"]).slice(0, 5).to_pylist()
    return PartitionMade(
        rows=len(made.alerts),
        data_version=f"{figures.get('silver_version', '')}-{made_by}",
        metadata={
            "alerts": len(made.alerts),
            "alert_rate": len(made.alerts) / figures.get("scored_rows", 1),
            **{name: figures[name] for name in names if figures.get(name) is not None},
            "withdrawn": len(made.withdrawn),
        },
        preview=markdown_table(["rank", "card", "product", "why"], [[*row.values()] for row in head]),
    )
