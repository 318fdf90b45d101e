"""The model: trained, evaluated on later data, and put behind `@prod` by a recorded decision.

What a forest is, how it is measured and when it may score is `fraud_assets.model`'s business; what the assets read
stands in `model_inputs`; MLflow is `fraud_assets.resources.models`'. Heavy imports stand in the bodies:
loading definitions must stay light.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.model_inputs import (
    EvaluationInputs,
    read_evaluation_inputs,
    read_reviewed,
    read_same_trees,
    read_training,
    scores_of,
    version_of_run,
)
from fraud_assets.assets.partition_runs import provenance
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.model.estimates import FOREST, REVIEWED, Evaluation, quality_notes, quality_table, summary
from fraud_assets.model.promotion import decide
from fraud_assets.model.records import evaluation_of, metrics_table
from fraud_assets.model.training_facts import TrainingFacts, TrainingParameters
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.promotions import apply_decision, decisions, reconcile
from fraud_assets.resources.models.registry import RUN_TAG, ModelRegistry
from fraud_assets.resources.models.run_log import describe_run, log_pictures, log_rows
from fraud_assets.resources.models.tracked_run import mark_mlflow_run_failed
from fraud_assets.resources.tables import EVALUATION_METRICS, PROMOTIONS
from fraud_assets.silver.labels import LabelsDigest


class TrainingConfig(TrainingParameters, dg.Config):
    """What a person may choose for one training."""


@dg.asset(
    deps=[silver_transactions_base],
    kinds={"scikitlearn", "mlflow"},
    owners=OWNERS,
    group_name="model",
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    hooks={mark_mlflow_run_failed},
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
    version that exists, with another threshold. "Materialize all" trains, too: each time it makes a new version, which
    may then move `@prod`. For new or changed days alone, materialize Silver and Gold.
    """
    reconcile(lake, model_registry)  # before a lost registry gives a number anew
    if config.same_trees_as:
        trained, facts = read_same_trees(config.same_trees_as, model_registry, alert_share=config.alert_share)
    else:
        from fraud_assets.model.training import train

        features, facts = read_training(config, lake)
        trained = train(features, config)
    if trained.not_compiled:
        context.log.warning(f"Scoring goes through scikit-learn: the compiled scorer differs. {trained.not_compiled}")
    mlflow.log_params(facts.as_tags())
    version = model_registry.register(trained, tags={**facts.as_tags(), **provenance(context)})
    log_rows(
        model_registry,
        lake,
        version,
        context="training",
        table_version=facts.silver_table_version,
        digest=facts.training_data_version,
        metrics={"training/rows": facts.training_rows, "training/alert_rate": facts.alert_share},
    )
    model_registry.append_to_description(version, facts.summary(version))
    describe_run(mlflow, facts.summary(version), name=f"training of version {version}")
    run = mlflow.active_run().info
    url = model_registry.run_url(run)
    return dg.MaterializeResult(
        metadata={
            "model_version": version,
            "mlflow_run_id": run.run_id,
            **({} if url is None else {"mlflow_run": dg.MetadataValue.url(url)}),
            "threshold": trained.threshold,
            **vars(facts),
        },
        data_version=dg.DataVersion(f"{facts.training_data_version}-{version}"),
    )


@dg.asset(
    deps=[fraud_isolation_forest, silver_transactions_base],
    kinds={"scikitlearn", "mlflow", "deltalake"},
    owners=OWNERS,
    group_name="model",
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(EVALUATION_METRICS),
    hooks={mark_mlflow_run_failed},
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

    The version that the run names or registered, else the latest; always beside the base rate, a plain rule, the amount
    alone, the best single column, a supervised reference, and the `@prod` version on the same rows. What cannot be
    measured has no value and a reason. One row per metric and scorer.
    """
    from fraud_assets.model.comparison import compare
    from fraud_assets.model.pictures import draw

    version, prod_version = version_of_run(context, model_registry), model_registry.prod_version()
    tags = model_registry.version_tags(version)
    facts = TrainingFacts.from_tags(tags)
    inputs = read_evaluation_inputs(lake, landing_zone, facts)
    for message in inputs.labels.broken.values():
        context.log.warning(f"Not read, none of its labels count: landing/{message}")
    others = [] if prod_version in (None, version) else [prod_version]
    evaluation, scorers = compare(
        inputs.rows,
        inputs.training_rows,
        candidate=scores_of(version, model_registry, inputs.rows),
        production={other: scores_of(other, model_registry, inputs.rows) for other in others},
        alerts_per_day=alerts_per_day,
    )
    if (reviewed := read_reviewed(version, lake)) is not None:
        evaluation = replace(evaluation, estimates={**evaluation.estimates, REVIEWED: reviewed})
    now, labels_version = datetime.now(tz=UTC), inputs.labels_version
    table = metrics_table(
        evaluation, model_version=version, window=inputs.window, evaluated_at=now, labels_version=labels_version
    )
    lake.replace_partition(EVALUATION_METRICS, version, table, provenance=provenance(context, model_version=version))
    log_rows(
        model_registry,
        lake,
        version,
        context="evaluation",
        table_version=inputs.table_version,
        digest=str(LabelsDigest.parse(labels_version)._replace(reviews="")),  # of the rows, which no review is part of
        metrics=evaluation.as_metrics(),
    )
    # A training that evaluates what it trained is one run, and named already.
    name = None if tags.get(RUN_TAG) == context.run.run_id else f"evaluation of version {version}"
    describe_run(mlflow, summary(evaluation, version, inputs.window), name=name)
    is_measured = evaluation.estimate(FOREST, "roc_auc").value is not None
    pictures = draw(inputs.rows, scorers, alerts_per_day=alerts_per_day) if is_measured else {}
    log_pictures(mlflow, pictures)
    return dg.MaterializeResult(
        metadata={"model_version": version, **_evaluation_metadata(inputs, evaluation, pictures)}
    )


def _evaluation_metadata(
    inputs: EvaluationInputs, evaluation: Evaluation, pictures: Mapping[str, bytes]
) -> dict[str, Any]:
    broken = "\n".join(inputs.labels.broken.values())
    not_measurable = evaluation.estimate(FOREST, "roc_auc").not_measurable
    table = "\n\n".join([markdown_table(*quality_table(evaluation)), *quality_notes(evaluation)])
    shown = (
        f"**{title[:1].upper()}{title[1:]}**\n\n![{title}](data:image/png;base64,{b64encode(png).decode()})"
        for title, png in pictures.items()
    )
    return {
        **({"not_measurable": not_measurable} if not_measurable else {}),
        "metrics": dg.MarkdownMetadataValue(table),
        **({"pictures": dg.MarkdownMetadataValue("\n\n".join(shown))} if pictures else {}),
        "evaluated_partitions": len(inputs.keys),
        "late_labels": inputs.labels.summary(),
        **({"label_files_not_read": broken} if broken else {}),
        **evaluation.headline(),
    }


@dg.asset(
    deps=[evaluation_metrics],
    kinds={"mlflow"},
    owners=OWNERS,
    group_name="model",
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
    about once: what a person set stays. "Materialize all" trains a new version, which moves `@prod` where the gate
    passes it; `fraud-assets rollback` takes that back.
    """
    reconcile(lake, model_registry)
    version = version_of_run(context, model_registry)
    if version not in {row["model_version"] for row in decisions(lake)}:
        decision = decide(
            evaluation_of(lake.rows(EVALUATION_METRICS, keys=[version])),
            signature_matches=model_registry.signature_matches(version),
            production=model_registry.prod_version(),
        )
        apply_decision(
            lake,
            model_registry,
            version,
            move=decision.move,
            decided_by="gate",
            reason="; ".join(decision.reasons),
            provenance=provenance(context),
        )
    history, prod_version = decisions(lake), model_registry.prod_version()
    latest = next(row for row in history if row["model_version"] == version)
    yield dg.AssetCheckResult(
        check_name="candidate_was_promoted",
        passed=latest["decision"] != "refused",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"candidate": version, "decision": latest["decision"], "reason": latest["reason"]},
        description=f"Version {version} was {latest['decision']} by {latest['decided_by']}: {latest['reason']}",
    )
    if prod_version is None:
        raise dg.Failure(
            f"No version is behind @prod: version {version} was {latest['decision']}: {latest['reason']}. "
            f"`fraud-assets promote {version} --reason TEXT` overrides.",
            allow_retries=False,
        )
    told = [
        f"**Version {row['model_version']} was {row['decision']}** by {row['decided_by']}, "
        f"{row['decided_at']:%Y-%m-%d %H:%M} UTC: {row['reason']}"
        for row in history[:10]
    ]
    yield dg.MaterializeResult(
        metadata={
            "prod_version": prod_version,
            "candidate": version,
            "decision": latest["decision"],
            "reason": latest["reason"],
            "history": dg.MarkdownMetadataValue("\n\n".join(told)),
        },
        data_version=dg.DataVersion(prod_version),
    )


MODEL_ASSETS = [fraud_isolation_forest, evaluation_metrics, prod_model]
