"""What the model's assets read from lake, landing zone and registry, before they call `fraud_assets.model`.

Belongs here: which partitions, labels and versions a training, an evaluation or a decision is about. Does not belong
here: what becomes of them. Heavy imports stand in the bodies, as in the assets.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dagster as dg

from fraud_assets.alerts.review_findings import precision_of_reviewed, read_sample
from fraud_assets.assets.partition_runs import MODEL_VERSION_TAG
from fraud_assets.model import rows
from fraud_assets.model.estimates import Estimate
from fraud_assets.model.training_facts import TrainingFacts, TrainingParameters, split_window
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registration import library_versions
from fraud_assets.resources.models.registry import ModelRegistry, NoModelError
from fraud_assets.resources.state import evaluated_labels_digest, silver_data_digest, silver_states
from fraud_assets.resources.tables import ALERT_LISTS, ALERT_REVIEWS, SILVER_TRANSACTIONS
from fraud_assets.silver.contract import as_features
from fraud_assets.silver.labels import LateLabels, read_labels, with_late_labels

if TYPE_CHECKING:
    import pandas as pd

    from fraud_assets.model.evaluation import Scores
    from fraud_assets.model.training import Trained


def version_of_run(context: dg.AssetExecutionContext, model_registry: ModelRegistry) -> str:
    """Return the version that this run's tag names, or that it registered; the latest where it did neither."""
    version = context.run.tags.get(MODEL_VERSION_TAG) or model_registry.latest_version(of_run=context.run.run_id)
    if version is None:
        raise NoModelError("No model is registered yet: materialize fraud_isolation_forest, or `fraud-assets run`.")
    return version


def read_training(parameters: TrainingParameters, lake: Lake) -> tuple["pd.DataFrame", TrainingFacts]:
    """Return the rows of Silver to train on, and the facts of a training on them."""
    table_version = lake.version(SILVER_TRANSACTIONS) or 0
    silver = {key: state for key, state in silver_states(lake, table_version).items() if state.rows}
    window = split_window(silver, parameters)
    states = {key: silver[key] for key in window.training_keys(silver)}
    query = lake.select(SILVER_TRANSACTIONS, keys=states, version=table_version)
    with lake.connect() as connection:
        features = rows.read_training_rows(connection, query, max_rows=parameters.max_rows)
    return features, TrainingFacts(
        train_start=window.train_start,
        train_end=window.train_end,
        gap=window.gap,
        training_rows=len(features),
        available_rows=sum(state.rows for state in states.values()),
        training_data_version=silver_data_digest(states),
        silver_table_version=table_version,
        silver_data_version=silver_data_digest(silver),
        n_estimators=parameters.n_estimators,
        contamination=parameters.contamination,
        random_state=parameters.random_state,
        alert_share=parameters.alert_share or parameters.contamination,
        **library_versions(),
    )


def read_same_trees(
    version: str, model_registry: ModelRegistry, *, alert_share: float | None
) -> tuple["Trained", TrainingFacts]:
    """Return the trees of a version with another threshold, and the facts of their training."""
    from fraud_assets.model.training import with_threshold

    facts = TrainingFacts.from_tags(model_registry.version_tags(version))
    trained = with_threshold(
        model_registry.load_pipeline(version),
        model_registry.scorer(version),
        model_registry.training_distribution(version),
        alert_share=alert_share,
    )
    return trained, replace(facts, alert_share=alert_share or facts.contamination, same_trees_as=version)


@dataclass(frozen=True)
class EvaluationInputs:
    """What a version is evaluated on: the rows of the partitions `keys`, with the labels known now."""

    keys: list[str]
    window: tuple[str, str] | None
    table_version: int | None
    rows: "pd.DataFrame"
    training_rows: "pd.DataFrame"
    """Labelled rows of its training window, for the supervised reference."""
    labels: LateLabels
    labels_version: str


def read_evaluation_inputs(lake: Lake, landing_zone: LandingZone, facts: TrainingFacts) -> EvaluationInputs:
    """Return what a version that was trained so is evaluated on, as Silver and the label files are now."""
    silver = silver_states(lake)
    built = [key for key, state in silver.items() if state.rows]
    keys, label_files = facts.evaluation_keys(built), landing_zone.label_files()
    window = (keys[0], keys[-1]) if keys else None
    table_version = lake.version(SILVER_TRANSACTIONS)
    with lake.connect() as connection:
        everything = lake.select(SILVER_TRANSACTIONS)
        labels = read_labels(connection, landing_zone.source, [file.raw for file in label_files], silver=everything)
        later, earlier = (
            with_late_labels(lake.select(SILVER_TRANSACTIONS, keys=part, version=table_version))
            for part in (keys, facts.training_keys(built))
        )
        return EvaluationInputs(
            keys,
            window,
            table_version,
            rows.read_evaluation_rows(connection, later),
            rows.read_reference_rows(connection, earlier),
            labels,
            str(evaluated_labels_digest(label_files, silver, window, landing_zone.review_files())),
        )


def read_reviewed(version: str, lake: Lake) -> dict[str, Estimate] | None:
    """Return what analysts found of a version's alerts; None where nothing at all was reviewed."""
    with lake.connect() as connection:
        [(reviews, frauds, decided, cards)] = connection.execute(
            f"""
            SELECT
                count(*),
                count(*) FILTER (is_own AND outcome = 'fraud'),
                count(*) FILTER (is_own AND outcome != 'unsure'),
                count(DISTINCT card_id) FILTER (is_own AND outcome != 'unsure')
            FROM (SELECT *, was_alert AND model_version = $version AS is_own FROM {lake.select(ALERT_REVIEWS)})
            """,
            {"version": version},
        ).fetchall()
        sample = read_sample(connection, lake.select(ALERT_REVIEWS), lake.select(ALERT_LISTS), version=version)
    return precision_of_reviewed(frauds, decided, cards, sample) if reviews else None


def scores_of(version: str, model_registry: ModelRegistry, silver_rows: "pd.DataFrame") -> "Scores":
    """Return a version's scores of the rows, and the share of its training rows that its threshold cuts off."""
    from fraud_assets.model.evaluation import Scores

    scorer = model_registry.scorer(version)
    return Scores(
        scorer.score(as_features(silver_rows).to_numpy(dtype="float64")),
        threshold=scorer.threshold,
        training_alert_rate=TrainingFacts.from_tags(model_registry.version_tags(version)).alert_share,
    )
