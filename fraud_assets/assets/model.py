"""The model: trained, evaluated on later data, and put behind `@prod` by a recorded decision.

What a forest is, how it is measured and when it may score is `fraud_assets.model`'s business; MLflow is
`fraud_assets.resources.model_registry`'s. Heavy imports stand in the bodies: loading definitions must stay light.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic import Field

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import MODEL_VERSION_TAG, provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.model import promotion, records
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, LandingZone
from fraud_assets.resources.model_registry import (
    RUN_TAG,
    SILVER_DATA_TAG,
    ModelRegistry,
    NoModelError,
    library_versions,
    mark_mlflow_run_failed,
)
from fraud_assets.resources.promotions import carry_out, decisions, settle
from fraud_assets.resources.state import evaluated_labels_digest, silver_data_digest, silver_states
from fraud_assets.resources.tables import EVALUATION_METRICS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets.silver.contract import FEATURE_NAMES, as_features
from fraud_assets.silver.labels import LateLabels, read_labels, with_late_labels
from fraud_assets.silver.source import Source
from fraud_assets.staleness import Made

if TYPE_CHECKING:
    import pandas as pd

    from fraud_assets.model.evaluation import Scores
    from fraud_assets.model.training import Trained

_TRAINING_FACTS: Final = (
    *("train_start", "train_end", "gap", "training_rows", "available_rows"),
    *("training_data_version", "silver_table_version"),
    *("n_estimators", "contamination", "random_state", "max_samples"),
    *("scikit_learn_version", "numpy_version", "mlflow_version", "fraud_assets_version"),
)
"""What decided how a forest came out, as its version's tags say it; the same trees keep it under another threshold."""


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
    max_rows: int = Field(
        default=1_000_000,
        ge=1,
        description="The most rows to train on. Of more, so many are chosen by a hash of TransactionID.",
    )
    alert_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the training rows above the version's threshold. Default: the threshold is 0.0, above "
        "which the contamination lies.",
    )
    same_trees_as: str | None = Field(
        default=None,
        description="A registered version: register its trees again with the threshold that alert_share asks for. "
        "Everything else here is then that version's.",
    )


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

    Trained without labels on the earlier partitions; the later ones are left for its evaluation. Or the trees of a
    version that exists, with another threshold.
    """
    silver = silver_states(lake)
    trained, facts = _same_trees(config, model_registry) if config.same_trees_as else _train(config, lake, silver)
    said = {**facts, "alert_share": str(config.alert_share or facts["contamination"]), **provenance(context)}
    mlflow.log_params({name: value for name, value in said.items() if name != RUN_TAG})
    model_registry.log_training_data(
        name=SILVER_TRANSACTIONS.address,
        location=lake.location(SILVER_TRANSACTIONS),
        version=int(facts["silver_table_version"]),
        digest=facts["training_data_version"],
    )
    version = model_registry.register(
        trained.pipeline,
        scorer=trained.scorer,
        threshold=trained.threshold,
        training_distribution=trained.distribution,
        input_example=trained.example(),
        tags={**said, SILVER_DATA_TAG: silver_data_digest(silver)},
    )
    if trained.not_compiled:
        context.log.warning(f"Scoring goes through scikit-learn: the compiled scorer differs. {trained.not_compiled}")
    run = mlflow.active_run().info
    url = model_registry.run_url(run)
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "mlflow_run_id": run.run_id,
            **({} if url is None else {"mlflow_run": dg.MetadataValue.url(url)}),
            "threshold": trained.threshold,
            **{name: int(value) if value.isdecimal() else value for name, value in said.items()},
        },
        data_version=dg.DataVersion(f"{facts['training_data_version']}-{version}"),
    )


def _train(config: TrainingConfig, lake: Lake, silver: Mapping[str, Made]) -> tuple["Trained", dict[str, str]]:
    """Return a new forest, and all that decided how it came out."""
    from fraud_assets.model import training

    window = training.split_window(
        [key for key, state in silver.items() if state.rows],
        evaluation_share=config.evaluation_share,
        gap=config.gap,
        first=config.first_partition,
        last=config.last_partition,
    )
    states = {key: state for key, state in silver.items() if state.rows and window.trains_on(key)}
    table_version = lake.version(SILVER_TRANSACTIONS)
    parameters = training.TrainingParameters(
        n_estimators=config.n_estimators, contamination=config.contamination, random_state=config.random_state
    )
    rows = lake.select(SILVER_TRANSACTIONS, keys=states, version=table_version)
    with lake.connect() as connection:
        read = dict(connection.execute(f"SELECT DISTINCT partition_key, silver_version FROM {rows}").fetchall())
        if read != {key: state.of["silver_version"] for key, state in states.items()}:
            raise dg.Failure("Silver was built anew while its state was read. Train again.")
        features = training.read_training_rows(connection, rows, max_rows=config.max_rows)
    facts = {
        "train_start": window.train_start,
        "train_end": window.train_end,
        "gap": config.gap,
        "training_rows": len(features),
        "available_rows": sum(state.rows for state in states.values()),
        "training_data_version": silver_data_digest(states),
        "silver_table_version": table_version,
        **vars(parameters),
        **library_versions(),
    }
    trained = training.train(features, parameters, alert_share=config.alert_share)
    return trained, {name: str(value) for name, value in facts.items()}


def _same_trees(config: TrainingConfig, model_registry: ModelRegistry) -> tuple["Trained", dict[str, str]]:
    """Return the trees of a version with another threshold, and what was recorded of their training."""
    from fraud_assets.model import training

    version = str(config.same_trees_as)
    tags = model_registry.version_tags(version)
    trained = training.with_threshold(
        model_registry.load_pipeline(version),
        model_registry.scorer(version),
        model_registry.training_distribution(version),
        alert_share=config.alert_share,
    )
    return trained, {**{name: tags[name] for name in _TRAINING_FACTS}, "same_trees_as": version}


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
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    mlflow: dg.ResourceParam[Any],
    alerts_per_day: dg.ResourceParam[int],
) -> dg.MaterializeResult:
    """How well a version finds fraud on rows later than its training, with 95 % intervals.

    The version that the run names or registered, else the latest; always beside the base rate, a plain rule, a
    supervised reference, and the `@prod` version on the same rows. What cannot be measured has no value and a reason.
    One row per metric and scorer.
    """
    from fraud_assets.model import evaluation, reference

    version, prod_version = _candidate(context, model_registry), model_registry.prod_version()
    tags = model_registry.version_tags(version)
    silver = silver_states(lake)
    built = sorted(key for key, state in silver.items() if state.rows)
    keys = [key for key in built if key > tags["train_end"]][int(tags["gap"]) :]
    window = (keys[0], keys[-1]) if keys else None
    label_files = landing_zone.label_files()
    trained_on = [key for key in built if tags["train_start"] <= key <= tags["train_end"]]
    rows, training_rows, late_labels = _read_labelled(lake, landing_zone.feed, keys, trained_on, label_files)
    for message in late_labels.broken.values():
        context.log.warning(f"Not read, none of its labels count: landing/{message}")

    beside = [] if prod_version in (None, version) else [prod_version]
    scorers = {
        records.FOREST: _scores(model_registry, version, rows),
        **{records.prod_scorer(other): _scores(model_registry, other, rows) for other in beside},
        records.RULE: evaluation.Scores(evaluation.rule_score(rows)),
        records.REFERENCE: reference.reference_scores(training_rows, rows),
    }
    measured = evaluation.evaluate(
        rows,
        scorers,
        alerts_per_day=alerts_per_day,
        differences={records.minus_prod(other): (records.FOREST, records.prod_scorer(other)) for other in beside},
    )
    table = records.metrics_table(
        measured,
        model_version=version,
        window=window,
        evaluated_at=datetime.now(tz=UTC),
        labels_version=str(evaluated_labels_digest(label_files, silver, window)),
    )
    lake.replace_partition(EVALUATION_METRICS, version, table, provenance=provenance(context, model_version=version))
    mlflow.log_metrics(measured.as_metrics())
    not_measurable = measured.figure(records.FOREST, "roc_auc").not_measurable
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "evaluated_partitions": len(keys),
            "late_labels": late_labels.summary(),
            **({"label_files_not_read": "\n".join(late_labels.broken.values())} if late_labels.broken else {}),
            **measured.headline(),
            "metrics": dg.MarkdownMetadataValue(markdown_table(*records.quality_table(measured))),
            **(
                {"pictures": _pictures(mlflow, rows, scorers, alerts_per_day=alerts_per_day)}
                if not_measurable is None
                else {"not_measurable": not_measurable}
            ),
        }
    )


def _scores(model_registry: ModelRegistry, version: str, rows: "pd.DataFrame") -> "Scores":
    """Return a version's scores of the rows, and the share of its training rows that its threshold cuts off."""
    from fraud_assets.model.evaluation import Scores

    scorer = model_registry.scorer(version)
    alert_share = model_registry.version_tags(version).get("alert_share")
    return Scores(
        scorer.score(as_features(rows).to_numpy(dtype="float64")),
        threshold=scorer.threshold,
        training_alert_rate=None if alert_share is None else float(alert_share),
    )


def _pictures(
    mlflow: Any, rows: "pd.DataFrame", scorers: Mapping[str, "Scores"], *, alerts_per_day: int
) -> dg.MarkdownMetadataValue:
    """Log the pictures of an evaluation to the MLflow run, and return them for the asset's page."""
    from fraud_assets.model.pictures import draw

    drawn = draw(rows, scorers, alerts_per_day=alerts_per_day)
    with TemporaryDirectory() as folder:
        for title, png in drawn.items():
            (Path(folder) / f"{title.replace(' ', '_')}.png").write_bytes(png)
        mlflow.log_artifacts(folder, artifact_path="pictures")
    return dg.MarkdownMetadataValue(
        "\n\n".join(
            f"**{title.capitalize()}**\n\n![{title}](data:image/png;base64,{b64encode(png).decode()})"
            for title, png in drawn.items()
        )
    )


@dg.asset(
    deps=[evaluation_metrics],
    group_name="model",
    kinds={"mlflow"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(PROMOTIONS),
    check_specs=[
        dg.AssetCheckSpec(
            name="candidate_was_promoted",
            asset="prod_model",
            description="The latest version was not refused. A warning: @prod stays and scores on, a person decides.",
        )
    ],
)
def prod_model(
    context: dg.AssetExecutionContext, lake: Lake, model_registry: ModelRegistry
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """The version behind `@prod`, and the decision that put it there or refused a candidate.

    Every decision is a row of `model.promotions`. A refused candidate leaves `@prod` where it is. A version is decided
    about once: what a person set stays.
    """
    settle(lake, model_registry)
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
    latest = next(row for row in history if row["model_version"] == version)
    yield dg.AssetCheckResult(
        check_name="candidate_was_promoted",
        passed=latest["decision"] != "refused",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"candidate": version, "decision": latest["decision"], "reason": latest["reason"]},
        description=f"Version {version} was {latest['decision']} by {latest['decided_by']}: {latest['reason']}",
    )
    if now is None:
        raise dg.Failure(
            f"No version is behind @prod: version {version} was refused, since {history[0]['reason']}. "
            f"`fraud-assets promote {version} --reason TEXT` overrides.",
            allow_retries=False,
        )
    columns = ["decided_at", "model_version", "decision", "decided_by", "reason"]
    yield dg.MaterializeResult(
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
    with lake.connect() as connection:
        metrics = connection.sql(f"FROM {lake.select(EVALUATION_METRICS, keys=[version])}").to_arrow_table().to_pylist()
    measured = records.evaluation_of(metrics)
    if measured is None or (before is not None and records.minus_prod(before) not in measured.figures):
        raise dg.Failure(
            f"Version {version} was not evaluated beside the present @prod version. Materialize evaluation_metrics "
            "first, or `dagster job execute -m fraud_assets.definitions -j training_job`.",
            allow_retries=False,
        )
    decision = promotion.decide(
        measured, signature_matches=model_registry.signature_matches(version), production=before
    )
    return "promoted" if decision.promote else "refused", "; ".join(decision.reasons)


def _candidate(context: dg.AssetExecutionContext, model_registry: ModelRegistry) -> str:
    """Return the version that this run's tag names, or that it registered; the latest where it did neither."""
    version = context.run.tags.get(MODEL_VERSION_TAG) or model_registry.latest_version(of_run=context.run.run_id)
    if version is None:
        raise NoModelError(
            "No model is registered yet. Materialize fraud_isolation_forest first, or `fraud-assets run`."
        )
    return version


def _read_labelled(
    lake: Lake, feed: Source, keys: list[str], trained_on: list[str], files: Sequence[LandedFile]
) -> tuple["pd.DataFrame", "pd.DataFrame", LateLabels]:
    """Return Silver rows with the labels that landed late, those that a reference learns from, and the files' labels.

    The rows come in order of time, the others in no particular order.
    """
    from fraud_assets.model.reference import read_reference_rows

    columns = ", ".join(f'"{name}"' for name in (*FEATURE_NAMES, "isFraud", "card_id", "partition_key"))
    with lake.connect() as connection:
        everything = lake.select(SILVER_TRANSACTIONS)
        late = read_labels(connection, feed, [file.raw for file in files], silver=everything)
        rows, training_rows = (
            with_late_labels(lake.select(SILVER_TRANSACTIONS, keys=some)) for some in (keys, trained_on)
        )
        return (
            connection.sql(f"SELECT {columns} FROM {rows} ORDER BY event_timestamp, TransactionID").df(),
            read_reference_rows(connection, training_rows),
            late,
        )


MODEL_ASSETS = [
    asset.with_hooks({mark_mlflow_run_failed}) for asset in (fraud_isolation_forest, evaluation_metrics)
] + [prod_model]
