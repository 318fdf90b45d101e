"""The model: trained, evaluated on later data, and put behind `@prod` by a recorded decision.

What a forest is, how it is measured and when it may score is `fraud_assets.model`'s business; MLflow is
`fraud_assets.resources.model_registry`'s. Heavy imports stand in the bodies: loading definitions must stay light.
"""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.model import promotion, records
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.model_registry import (
    SILVER_DATA_TAG,
    ModelRegistry,
    NoModelError,
    mark_mlflow_run_failed,
)
from fraud_assets.resources.promotions import carry_out, decisions
from fraud_assets.resources.state import silver_data_version, silver_states
from fraud_assets.resources.tables import EVALUATION_METRICS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.contract import FEATURE_NAMES, as_features

if TYPE_CHECKING:
    import pandas as pd


class TrainingConfig(dg.Config):
    """What a person may choose for one training."""

    first_partition: str | None = Field(
        default=None, description="First Silver partition to use. Default: the first that is built."
    )
    last_partition: str | None = Field(
        default=None, description="Last Silver partition to use. Default: the last that is built."
    )
    evaluation_share: float = Field(
        default=0.3, gt=0, lt=1, description="Share of the partitions, the latest ones, kept for evaluation."
    )
    gap: int = Field(
        default=0,
        ge=0,
        description="Partitions left out between training and evaluation, for labels that arrive late.",
    )
    n_estimators: int = Field(default=200, ge=1, description="Trees of the forest.")
    contamination: float = Field(
        default=0.035, gt=0, le=0.5, description="Share of the training rows that score above 0."
    )
    random_state: int = Field(default=42, description="Seed of the forest.")


@dg.asset(
    deps=[silver_transactions_base],
    group_name="model",
    kinds={"scikitlearn", "mlflow"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def fraud_isolation_forest(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: Lake,
    model_registry: ModelRegistry,
    mlflow: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """An Isolation Forest over the eight features, tracked by MLflow and registered as a new version.

    Trained without labels on the earlier partitions; the later ones are left for its evaluation.
    """
    from fraud_assets.model import training

    everything = silver_states(lake)
    silver = {
        key: state
        for key, state in everything.items()
        if state.rows
        and (config.first_partition is None or key >= config.first_partition)
        and (config.last_partition is None or key <= config.last_partition)
    }
    window = training.split_window(list(silver), evaluation_share=config.evaluation_share, gap=config.gap)
    keys = [key for key in silver if window.train_start <= key <= window.train_end]
    parameters = training.TrainingParameters(
        n_estimators=config.n_estimators, contamination=config.contamination, random_state=config.random_state
    )
    features = as_features(_read_silver(lake, keys))
    pipeline = training.fit_pipeline(features, parameters)
    facts = {
        "train_start": window.train_start,
        "train_end": window.train_end,
        "gap": str(config.gap),
        "training_rows": str(len(features)),
        "training_data_version": silver_data_version({key: silver[key] for key in keys}),
        "silver_table_version": str(lake.version(SILVER_TRANSACTIONS)),
    }
    mlflow.log_params({**vars(parameters), **facts})
    with TemporaryDirectory() as folder:
        version = model_registry.register(
            pipeline,
            scorer_folder=_compile(context, pipeline, features, Path(folder) / "scorer"),
            input_example=features.iloc[:5],
            tags={**facts, SILVER_DATA_TAG: silver_data_version(everything), **provenance(context)},
        )
    context.log.info(
        f"Registered version {version}: {len(features):,} rows, {window.train_start} to {window.train_end}"
    )
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "mlflow_run_id": mlflow.active_run().info.run_id,
            **{name: int(value) if value.isdecimal() else value for name, value in facts.items()},
        },
        data_version=dg.DataVersion(f"{facts['training_data_version']}-{version}"),
    )


@dg.asset(
    deps=[fraud_isolation_forest, silver_transactions_base],
    group_name="model",
    kinds={"scikitlearn", "mlflow", "deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(EVALUATION_METRICS),
)
def evaluation_metrics(
    context: dg.AssetExecutionContext,
    lake: Lake,
    model_registry: ModelRegistry,
    mlflow: dg.ResourceParam[Any],
) -> dg.MaterializeResult:
    """How well the latest version ranks fraud on rows later than its training: ROC-AUC and PR-AUC.

    Always beside the base rate, a plain rule, and the `@prod` version on the same rows. What cannot be measured has no
    value and a reason. One row per metric.
    """
    from fraud_assets.model import evaluation

    version = _candidate(context, model_registry)
    tags = model_registry.version_tags(version)
    keys = sorted(key for key, state in silver_states(lake).items() if state.rows and key > tags["train_end"])
    keys = keys[int(tags["gap"]) :]
    rows = _read_silver(lake, keys)

    def evaluated(of: str) -> evaluation.Evaluation:
        scorer = model_registry.scorer(of)
        scores = scorer.score(as_features(rows).to_numpy(dtype="float64"))
        return evaluation.evaluate(rows["isFraud"], scores, evaluation.rule_score(rows), threshold=scorer.threshold)

    measured = evaluated(version)
    prod_version = model_registry.prod_version()
    table = records.metrics_table(
        measured,
        production=None if prod_version in (None, version) else (prod_version, evaluated(prod_version)),
        model_version=version,
        window=(keys[0], keys[-1]) if keys else None,
        evaluated_at=datetime.now(tz=UTC),
    )
    lake.replace_partition(EVALUATION_METRICS, version, table, provenance=provenance(context, model_version=version))
    mlflow.log_metrics(measured.as_metrics())
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "evaluated_partitions": len(keys),
            **measured.as_metrics(),
            **({} if measured.not_measurable is None else {"not_measurable": measured.not_measurable}),
            "metrics": dg.MarkdownMetadataValue(
                markdown_table(["", *records.RANKING_FIGURES], records.quality_rows(table.to_pylist()))
            ),
        }
    )


@dg.asset(
    deps=[evaluation_metrics],
    group_name="model",
    kinds={"mlflow"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(PROMOTIONS),
)
def prod_model(context: dg.AssetExecutionContext, lake: Lake, model_registry: ModelRegistry) -> dg.MaterializeResult:
    """The version behind `@prod`, and the decision that put it there or refused a candidate.

    Every decision is a row of `model.promotions`. A refused candidate leaves `@prod` where it is. A version is decided
    about once: what a person set stays.
    """
    version = _candidate(context, model_registry)
    decision = "none needed"
    if version not in {row["model_version"] for row in decisions(lake)}:
        decision, reason = _gate(lake, model_registry, version)
        carry_out(
            lake,
            model_registry,
            version,
            move=decision,
            decided_by="gate",
            reason=reason,
            provenance=provenance(context),
        )
    history, now = decisions(lake), model_registry.prod_version()
    if now is None:
        raise dg.Failure(
            f"No version is behind @prod: version {version} was refused, since {history[0]['reason']}. "
            f"`fraud-assets promote {version} --reason TEXT` overrides.",
            allow_retries=False,
        )
    columns = ["decided_at", "model_version", "decision", "decided_by", "reason"]
    return dg.MaterializeResult(
        metadata={
            "prod_version": now,
            "candidate": version,
            "decision": decision,
            "reason": history[0]["reason"],
            "history": dg.MarkdownMetadataValue(
                markdown_table(columns, [[row[name] for name in columns] for row in history[:10]])
            ),
        },
        data_version=dg.DataVersion(now),
    )


def _gate(lake: Lake, model_registry: ModelRegistry, version: str) -> tuple[promotion.Move, str]:
    """Return what the gate decides about a version that nobody decided about, and why."""
    before = model_registry.prod_version()
    if version == before:
        return "promoted", "found behind @prod, where it was put in MLflow itself"
    with lake.connect() as connection:
        metrics = connection.sql(f"FROM {lake.select(EVALUATION_METRICS, keys=[version])}").to_arrow_table().to_pylist()
    measured = records.evaluation_of(metrics, "forest")
    production = None if before is None else records.evaluation_of(metrics, records.prod_scorer(before))
    if measured is None or (before is not None and production is None):
        raise dg.Failure(
            f"Version {version} was not evaluated beside the present @prod version. Materialize evaluation_metrics "
            "first, or `dagster job execute -m fraud_assets.definitions -j training_job`.",
            allow_retries=False,
        )
    decision = promotion.decide(
        measured, signature_matches=model_registry.signature_matches(version), production=production
    )
    return "promoted" if decision.promote else "refused", "; ".join(decision.reasons)


def _candidate(context: dg.AssetExecutionContext, model_registry: ModelRegistry) -> str:
    """Return the version that this run registered, or the latest where it registered none."""
    version = model_registry.latest_version(of_run=context.run.run_id)
    if version is None:
        raise NoModelError(
            "No model is registered yet. Materialize fraud_isolation_forest first, or `fraud-assets run`."
        )
    return version


def _read_silver(lake: Lake, keys: list[str]) -> "pd.DataFrame":
    columns = ", ".join(f'"{name}"' for name in (*FEATURE_NAMES, "isFraud"))
    with lake.connect() as connection:
        return connection.sql(f"SELECT {columns} FROM {lake.select(SILVER_TRANSACTIONS, keys=keys)}").df()


def _compile(context: dg.AssetExecutionContext, pipeline: Any, features: "pd.DataFrame", folder: Path) -> Path | None:
    from fraud_assets.model.scorer import Scorer, ScorerMismatch

    try:
        Scorer.from_pipeline(pipeline, training_rows=features.to_numpy(dtype="float64")).save(folder)
    except ScorerMismatch as error:
        context.log.warning(f"Scoring goes through scikit-learn: the compiled scorer differs from it. {error}")
        return None
    return folder


MODEL_ASSETS = [
    asset.with_hooks({mark_mlflow_run_failed}) for asset in (fraud_isolation_forest, evaluation_metrics)
] + [prod_model]
