"""The ranker of alerts: learnt from labels, compared list by list, and put behind `@prod` by a recorded decision.

How it learns, which labels it may see and when it may rank is `fraud_assets.model`'s business; what it reads stands in
`ranker_inputs`. Heavy imports stand in the bodies: loading definitions must stay light.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
import pyarrow as pa

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.gold import fraud_predictions
from fraud_assets.assets.history import card_history
from fraud_assets.assets.partition_runs import provenance
from fraud_assets.assets.ranker_inputs import RankerInputs, read_ranker_inputs
from fraud_assets.assets.reviews import alert_reviews
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.model.estimates import Evaluation
from fraud_assets.model.known_labels import KnownLabels, no_window
from fraud_assets.model.list_words import is_calibrated, lists_table
from fraud_assets.model.ranker import RANKER_FEATURES
from fraud_assets.model.records import metrics_table
from fraud_assets.partition_keys import days_between
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.promotions import apply_decision, reconcile
from fraud_assets.resources.models.registration import library_versions
from fraud_assets.resources.models.registry import SILVER_DATA_TAG, ModelRegistry
from fraud_assets.resources.models.run_log import describe_run
from fraud_assets.resources.models.tracked_run import mark_mlflow_run_failed
from fraud_assets.resources.state import known_labels, silver_data_digest, silver_states
from fraud_assets.resources.tables import RANKER_METRICS, RANKER_PROMOTIONS, RANKER_TRAININGS

LABELS_STOP: Final = 21
"""Days without a new label, beyond their delay, after which labels have stopped: three weekly files did not come."""


@dataclass(frozen=True)
class _Outcome:
    """What came of an attempt, in a word and in words, and the version and its lists where there are any."""

    outcome: str
    said: str
    version: str | None = None
    lists: Evaluation | None = None


@dg.asset(
    deps=[silver_transactions_base, fraud_predictions, card_history, alert_reviews],
    kinds={"scikitlearn", "mlflow", "deltalake"},
    owners=OWNERS,
    group_name="model",
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(RANKER_PROMOTIONS),
    hooks={mark_mlflow_run_failed},
)
def fraud_alert_ranker(
    context: dg.AssetExecutionContext,
    lake: Lake,
    landing_zone: LandingZone,
    ranker_registry: ModelRegistry,
    mlflow: dg.ResourceParam[Any],
    alerts_per_day: dg.ResourceParam[int],
    label_delay_days: dg.ResourceParam[int],
) -> dg.MaterializeResult:
    """Gradient boosting that orders alerts, learnt from the labels that are known now, tracked and registered.

    Its list of each later day is compared with those of the forest and of the plain rule. Only where it is shown to
    hold more fraud it goes behind `@prod`; where the present one is not shown to any more, alerts go back to their
    score. Each attempt is a row of `model.ranker_trainings`, each decision one of `model.ranker_promotions`.
    """
    reconcile(lake, ranker_registry)
    silver, files = silver_states(lake), landing_zone.label_files()
    labels = known_labels(lake, files, silver, delay_days=label_delay_days, feed=landing_zone.source.name)
    inputs = read_ranker_inputs(lake, landing_zone, delay_days=label_delay_days)
    attempt = _Attempt(
        context, lake, ranker_registry, mlflow, alerts_per_day, inputs, labels, silver_data_digest(silver)
    )
    done = attempt.make(delay_days=label_delay_days)
    describe_run(mlflow, done.said, name=f"ranker version {done.version}" if done.version else "ranker: nothing learnt")
    row = {
        "outcome": done.outcome,
        "said": done.said,
        "last_day": inputs.last_day,
        "labelled_until": inputs.labelled_until,
        "version": done.version,
        "tried_at": datetime.now(tz=UTC),
        "learned_from": str(labels),
    }
    # The attempt last: only with it is it known what was learnt from, and a run that dies before is repeated.
    rows = pa.Table.from_pylist([row], schema=RANKER_TRAININGS.schema)
    lake.replace_partition(RANKER_TRAININGS, str(labels), rows, provenance=provenance(context))
    shown = None if done.lists is None else markdown_table(*lists_table(done.lists, alerts_per_day))
    return dg.MaterializeResult(
        metadata={
            "outcome": done.outcome,
            "said": done.said,
            "training_rows": len(inputs.training),
            "compared_rows": len(inputs.compared),
            **{f"labels by {origin}": count for origin, count in inputs.by_origin.items()},
            **({"prod_version": prod} if (prod := ranker_registry.prod_version()) else {}),
            **({"lists": dg.MarkdownMetadataValue(shown)} if shown else {}),
        },
        data_version=dg.DataVersion(f"{labels}-{done.version or 'none'}"),
    )


@dataclass(frozen=True)
class _Attempt:
    context: dg.AssetExecutionContext
    lake: Lake
    registry: ModelRegistry
    mlflow: Any
    alerts_per_day: int
    inputs: RankerInputs
    labels: KnownLabels
    silver_data: str

    def make(self, *, delay_days: int) -> _Outcome:
        """Learn, compare and decide; or say why not, and take a ranker away that nothing speaks for any more."""
        from fraud_assets.model.ranker_gate import too_little

        inputs = self.inputs
        if why := self._labels_stopped(delay_days):
            return self._without(why)
        if inputs.window is None:
            return self._without(
                no_window(inputs.by_origin, has_days=inputs.labelled_until is not None, delay_days=delay_days)
            )
        if why := too_little(inputs.training):
            return self._without(why)
        return self._learn()

    def _labels_stopped(self, delay_days: int) -> str:
        until, last = self.inputs.labelled_until, self.inputs.last_day
        if until is None or days_between(until, last) <= delay_days + LABELS_STOP:
            return ""
        return (
            f"Labels have stopped: the latest are of {until}, {days_between(until, last)} days before the latest day. "
            "What was learnt from them may not hold any more."
        )

    def _without(self, why: str) -> _Outcome:
        prod = self.registry.prod_version()
        if prod is None:
            return _Outcome("nothing", why)
        self._decide(prod, "withdrawn", why)
        return _Outcome("withdrawn", f"{why} Alerts are ordered by their score again.", None)

    def _learn(self) -> _Outcome:
        from fraud_assets.model.ranker_gate import compare_lists, decide_ranker, still_better
        from fraud_assets.model.ranker_training import train_ranker

        inputs, window, capacity = self.inputs, self.inputs.window, self.alerts_per_day
        assert window is not None
        trained = train_ranker(inputs.training)
        facts = {
            "train_start": window.train_start,
            "train_end": window.train_end,
            "compare_start": window.compare_start,
            "compare_end": window.compare_end,
            "training_rows": len(inputs.training),
            "training_fraud_rows": int(inputs.training["isFraud"].sum()),
            **library_versions(),
        }
        self.mlflow.log_params(facts)
        tags = {**{name: str(value) for name, value in facts.items()}, **provenance(self.context)}
        version = self.registry.register_ranker(trained, tags={**tags, SILVER_DATA_TAG: self.silver_data})
        X = inputs.compared[list(RANKER_FEATURES)].to_numpy("float64")  # noqa: N806 - scikit-learn's name
        prod = self.registry.prod_version()
        production = {} if prod is None else {prod: self.registry.ranker(prod).probability(X)}
        lists = compare_lists(inputs.compared, trained.ranker.probability(X), production, alerts_per_day=capacity)
        said_by = provenance(self.context, model_version=version)
        table = metrics_table(
            lists,
            model_version=version,
            window=(window.compare_start, window.compare_end),
            evaluated_at=datetime.now(tz=UTC),
            labels_version=str(self.labels),
            schema=RANKER_METRICS.schema,
            is_calibrated=is_calibrated(lists),
        )
        self.lake.replace_partition(RANKER_METRICS, version, table, provenance=said_by)
        self.mlflow.log_metrics(_logged(lists))
        matches = self.registry.signature_matches(version)
        decision = decide_ranker(lists, signature_matches=matches, production=prod, alerts_per_day=capacity)
        said = f"Version {version} was {decision.move}: {'; '.join(decision.reasons)}."
        self._decide(version, decision.move, "; ".join(decision.reasons))
        if decision.promote or prod is None:
            return _Outcome(decision.move, said, version, lists)
        good, words = still_better(lists, prod, alerts_per_day=capacity)
        if good:
            return _Outcome("kept", f"{said} Version {prod} stays: {words}.", version, lists)
        self._decide(prod, "withdrawn", words)
        return _Outcome(
            "withdrawn",
            f"{said} Version {prod} was withdrawn: {words}. Alerts are ordered by their score again.",
            version,
            lists,
        )

    def _decide(self, version: str, move: Any, reason: str) -> None:
        apply_decision(
            self.lake,
            self.registry,
            version,
            move=move,
            decided_by="gate",
            reason=reason,
            provenance=provenance(self.context),
        )


def _logged(lists: Evaluation) -> dict[str, float]:
    """Return the known values by `<list>/<metric>`, as MLflow groups them."""
    return {
        f"{scored_by.replace(chr(39), '')}/{metric}": float(one.value)
        for scored_by, estimates in lists.estimates.items()
        for metric, one in estimates.items()
        if one.value is not None
    }
