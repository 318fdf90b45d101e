"""Reads from disk what the decision in `fraud_assets.staleness` depends on. Decides nothing."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from fraud_assets.partition_keys import previous_key
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, Landing, LandingZone
from fraud_assets.resources.model_registry import ModelRegistry
from fraud_assets.resources.tables import (
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    PROMOTIONS,
    SILVER_TRANSACTIONS,
)
from fraud_assets.silver.labels import LateLabels, labels_digest, read_labels
from fraud_assets.staleness import EvaluationState, GoldState, PlatformState, SilverState

_SILVER_COLUMNS = ("input_version", "lookback_version", "tail_version", "silver_version")


def read_state(
    lake: Lake,
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    *,
    landing: Landing,
    rescore_days: int,
) -> PlatformState:
    """Return the state of every partition and of the model; opens no data file and changes nothing."""
    source = landing_zone.source
    built = silver_states(lake)
    silver = {key: state for key, state in built.items() if source.in_range(key)}
    gold = {
        key: GoldState(**state)
        for key, state in lake.partition_states(PREDICTIONS, ("silver_version", "model_version")).items()
    }
    prod_version = model_registry.prod_version()
    refused_on, prod_taken_away = (None, False) if prod_version is not None else _without_prod(lake, model_registry)
    return PlatformState(
        landed={key: str(landing_zone.input_digest(files)) for key, files in landing.partitions.items()},
        silver=silver,
        gold=gold,
        previous_key={key: previous_key(key, source.partitions.grain) for key in {*landing.partitions, *silver}},
        prod_version=prod_version,
        silver_data_version=silver_data_version(silver),
        refused_on=refused_on,
        rescore_days=rescore_days,
        evaluation=_evaluation(lake, model_registry, landing.labels, built),
        prod_taken_away=prod_taken_away,
    )


def silver_states(lake: Lake) -> dict[str, SilverState]:
    """Return the state of each built Silver partition.

    A partition without a good row leaves no file in Silver's log; what it was built from then stands in
    `silver.partition_builds`.
    """
    stored = lake.partition_states(SILVER_TRANSACTIONS, _SILVER_COLUMNS)
    built = lake.partition_states(PARTITION_BUILDS, (*_SILVER_COLUMNS, "silver_rows"))
    empty = {
        key: {**{column: state[column] for column in _SILVER_COLUMNS}, "rows": 0}
        for key, state in built.items()
        if state["silver_rows"] == 0
    }
    return {key: SilverState(**state) for key, state in {**empty, **stored}.items()}


def silver_data_version(silver: Mapping[str, SilverState]) -> str:
    """Return a digest of all Silver partitions and their versions: what a model trained now would see."""
    lines = [f"{key} {state.silver_version}" for key, state in sorted(silver.items()) if state.rows]
    return sha256("\n".join(lines).encode()).hexdigest()[:32]


def evaluated_labels_version(
    labels: Sequence[LandedFile], silver: Mapping[str, SilverState], window: tuple[str, str] | None
) -> str:
    """Return the version of the labels that an evaluation of a window of Silver partitions sees.

    Args:
        labels: files of late labels, in the order in which they landed.
        silver: state of the Silver partitions.
        window: first and last evaluated partition, None where none was.
    """
    start, end = window or ("", "")
    return str(
        labels_digest(
            [file.digest for file in labels],
            [
                f"{key} {state.input_version} {state.silver_version}"
                for key, state in sorted(silver.items())
                if state.rows and start <= key <= end
            ],
        )
    )


def _evaluation(
    lake: Lake, model_registry: ModelRegistry, labels: Sequence[LandedFile], silver: Mapping[str, SilverState]
) -> EvaluationState | None:
    columns = ("labels_version", "evaluation_start", "evaluation_end")
    evaluated = lake.partition_states(EVALUATION_METRICS, columns)
    # The registry may hold a later version that nobody evaluated, or have lost those that were.
    registered = [one.version for one in model_registry.versions()] if evaluated else []
    version = max((version for version in registered if version in evaluated), key=int, default=None)
    if version is None:
        return None
    found = evaluated[version]
    window = None if found["evaluation_start"] is None else (found["evaluation_start"], found["evaluation_end"])
    return EvaluationState(
        model_version=version,
        evaluated_on=found["labels_version"],
        labels_version=evaluated_labels_version(labels, silver, window),
    )


def late_labels(lake: Lake, landing_zone: LandingZone, labels: Sequence[LandedFile]) -> LateLabels | None:
    """Return what the files of late labels hold, beside all Silver rows; None where there is no such file."""
    if not labels:
        return None
    with lake.connect() as connection:
        files = [file.raw for file in labels]
        return read_labels(connection, landing_zone.source, files, silver=lake.select(SILVER_TRANSACTIONS))


def _without_prod(lake: Lake, model_registry: ModelRegistry) -> tuple[str | None, bool]:
    """Return what the record says where no version is behind `@prod`.

    The Silver data version at the latest refusal, None where no candidate was refused; and whether `@prod` was taken
    away. It was not where the registry has no version at all: that is a new registry, and it needs a first model.
    """
    with lake.connect() as connection:
        [(refused_on, was_there)] = connection.execute(
            f"""
            SELECT
                arg_max(silver_data_version, decided_at) FILTER (decision = 'refused'),
                count(*) FILTER (decision != 'refused') > 0
            FROM {lake.select(PROMOTIONS)}
            """
        ).fetchall()
    return refused_on, was_there and bool(model_registry.versions())
