"""Reads from disk what the decision in `fraud_assets.staleness` depends on. Decides nothing."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fraud_assets.digests import DIGITS, digest_lines
from fraud_assets.model.known_labels import KnownLabels, fed_until
from fraud_assets.model.promotion import prod_after
from fraud_assets.partition_keys import day_of, previous_key
from fraud_assets.platform_state import EvaluationState, Made, PlatformState, RankerState
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, Landing, LandingZone
from fraud_assets.resources.models.promotions import decisions
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.tables import (
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    RANKER_PROMOTIONS,
    RANKER_TRAININGS,
    REVIEW_FILES,
    SILVER_TRANSACTIONS,
    TABLES,
)
from fraud_assets.silver.adoption import is_adopted
from fraud_assets.silver.labels import LabelsDigest, LateLabels, labels_digest, read_labels
from fraud_assets.silver.source import Source
from fraud_assets.staleness import SILVER, STAGES, Stage


def read_state(
    lake: Lake,
    landing_zone: LandingZone,
    model_registry: ModelRegistry,
    *,
    landing: Landing,
    rescore_days: int,
    alerts_per_day: int,
    label_delay_days: int | None = None,
    stages: Iterable[Stage] = STAGES,
) -> PlatformState:
    """Return the state of every partition and of the model; opens no data file and changes nothing.

    Where there is no `label_delay_days`, alerts are ordered by their score alone.
    """
    source = landing_zone.source
    made = {stage.name: made_partitions(lake, stage) for stage in stages if stage.table and stage is not SILVER}
    built, foreign = silver_partitions(lake)
    made["silver"] = silver = {key: state for key, state in built.items() if source.in_range(key)}
    prod_version = model_registry.prod_version()
    refused_on, prod_taken_away = (None, False) if prod_version is not None else _without_prod(lake, model_registry)
    return PlatformState(
        landed={key: landing_zone.input_digest(files) for key, files in landing.partitions.items()},
        made=made,
        previous_key={key: previous_key(key, source.partitions.grain) for key in {*landing.partitions, *silver}},
        prod_version=prod_version,
        silver_data_digest=silver_data_digest(built),  # outside the source's days, too: a training reads all of it
        refused_on=refused_on,
        rescore_days=rescore_days,
        alerts_per_day=alerts_per_day,
        reviews_read=reviews_read(lake, source.name),
        reviews_landed=reviews_digest(landing.reviews),
        evaluation=_evaluation(lake, model_registry, landing, built),
        ranker=None if label_delay_days is None else _ranker(lake, landing, silver, label_delay_days, source.name),
        prod_taken_away=prod_taken_away,
        prod_problem="" if prod_version is None else model_registry.problem_with(prod_version),
        foreign={key: files for key, files in foreign.items() if _is_of(source, key)},
    )


def made_partitions(lake: Lake, stage: Stage) -> dict[str, Made]:
    """Return the partitions that a stage other than Silver made, and what they were made of."""
    [table] = [table for table in TABLES if table.address == stage.table]
    states = lake.partition_states(table, stage.made_of)
    return {key: _made(state["rows"], state, stage.made_of) for key, state in states.items()}


def silver_partitions(lake: Lake, version: int | None = None) -> tuple[dict[str, Made], dict[str, str]]:
    """Return the built and adopted Silver partitions, as of a version of the table, the latest by default.

    Then, by partition, a digest of the files of those that something else wrote and that are not adopted as they are:
    there is no record of them, their rows lack versions or differ in them, or they were adopted as other files.

    A partition without a good row leaves no file in Silver's log; what it was built from then stands in
    `silver.partition_builds`.
    """
    states = lake.partition_states(SILVER_TRANSACTIONS, SILVER.made_of, version=version)
    builds = lake.partition_states(PARTITION_BUILDS, (*SILVER.made_of, "silver_rows"))
    known = {key: _made(0, build) for key, build in builds.items() if not build["silver_rows"]}
    foreign: dict[str, str] = {}
    for key, state in states.items():
        build = builds.get(key, {})
        if build.get("input_version") == state["files"]:
            known[key] = _made(build["silver_rows"], build)
        elif not build or is_adopted(build["input_version"]) or None in state.values():
            known.pop(key, None)
            foreign[key] = state["files"]
        else:
            known[key] = _made(state["rows"], state)
    return known, foreign


def _made(rows: int, state: Mapping[str, Any], of: Iterable[str] = SILVER.made_of) -> Made:
    return Made(rows, {column: state[column] for column in of})


def silver_states(lake: Lake, version: int | None = None) -> dict[str, Made]:
    """Return what each built or adopted Silver partition was made of, as of a version of the table."""
    return silver_partitions(lake, version)[0]


def _is_of(source: Source, key: str) -> bool:
    """Whether a key is one of the feed's partitions; what others write may be none."""
    try:
        return source.in_range(key)
    except ValueError:
        return False


def newest_landed(lake: Lake, landing: Landing) -> datetime | None:
    """Return when the newest partition's newest file was written; a correction of an old one is no sign of life.

    Where the files of the newest partition are gone it is when that was built: landing may be empty for once, and the
    feed is no less late. None where there never was a partition.
    """
    builds = lake.partition_states(PARTITION_BUILDS, ("built_at",))
    newest = max({*landing.partitions, *builds}, default="")
    if files := landing.partitions.get(newest):
        return datetime.fromtimestamp(files[-1].written_ns / 1e9, tz=UTC)
    return builds.get(newest, {}).get("built_at")


def silver_data_digest(silver: Mapping[str, Made]) -> str:
    """Return a digest of all Silver partitions and their rows: what a model trained now would see."""
    return digest_lines(f"{key} {made.of['silver_version']}" for key, made in sorted(silver.items()) if made.rows)


def evaluated_labels_digest(
    labels: Sequence[LandedFile],
    silver: Mapping[str, Made],
    window: tuple[str, str] | None,
    reviews: Sequence[LandedFile] = (),
) -> LabelsDigest:
    """Return the digest of the labels and rows that an evaluation of a window of Silver partitions sees.

    Args:
        labels: files of late labels, in the order in which they landed.
        silver: the Silver partitions.
        window: first and last evaluated partition, None where none was.
        reviews: files of analysts' decisions.
    """
    start, end = window or ("", "")
    return labels_digest(
        [file.digest for file in labels],
        [
            f"{key} {made.of['input_version']} {made.of['silver_version']}"
            for key, made in sorted(silver.items())
            if made.rows and start <= key <= end
        ],
        reviews_digest(reviews),
    )


def reviews_digest(files: Sequence[LandedFile]) -> str:
    """Return the digest of the review files in the order in which they landed; empty where there is none."""
    return digest_lines(f"{file.name} {file.digest}" for file in files) if files else ""


def reviews_read(lake: Lake, feed: str) -> str:
    """Return the digest of the review files that `gold.review_files` holds; empty where there is none."""
    return lake.partition_states(REVIEW_FILES, ("reviews_version",)).get(feed, {}).get("reviews_version", "")


def _evaluation(
    lake: Lake, model_registry: ModelRegistry, landing: Landing, silver: Mapping[str, Made]
) -> EvaluationState | None:
    columns = ("labels_version", "evaluation_start", "evaluation_end")
    evaluated = lake.partition_states(EVALUATION_METRICS, columns)
    # The registry may hold a later version that nobody evaluated, or have lost those that were.
    registered = model_registry.versions() if evaluated else {}
    version = max((version for version in registered if version in evaluated), key=int, default=None)
    if version is None:
        return None
    found = evaluated[version]
    window = None if found["evaluation_start"] is None else (found["evaluation_start"], found["evaluation_end"])
    return EvaluationState(
        model_version=version,
        evaluated_on=LabelsDigest.parse(found["labels_version"]),
        now=evaluated_labels_digest(landing.labels, silver, window, landing.reviews),
    )


def ranker_prod(lake: Lake) -> str | None:
    """Return the version of the ranker behind `@prod` by the record of decisions, without asking MLflow."""
    if lake.version(RANKER_PROMOTIONS) is None:
        return None
    return prod_after(decisions(lake, RANKER_PROMOTIONS))


def known_labels(
    lake: Lake, label_files: Sequence[LandedFile], silver: Mapping[str, Made], *, delay_days: int, feed: str
) -> KnownLabels:
    """Return what is known of labels now; those that came with transactions as far as their delay has passed."""
    last_day = day_of(max((key for key, made in silver.items() if made.rows), default=""))
    until = fed_until(last_day, delay_days=delay_days) if last_day else ""
    of_feed = [
        f"{key} {silver[key].of['input_version']}"
        for key in sorted(lake.keys_with_values(SILVER_TRANSACTIONS, "isFraud") & silver.keys())
        if day_of(key) <= until
    ]
    return KnownLabels(
        files=digest_lines(file.digest for file in label_files) if label_files else "",
        reviews=reviews_read(lake, feed),
        feed=digest_lines(of_feed) if of_feed else "",
    )


def _ranker(lake: Lake, landing: Landing, silver: Mapping[str, Made], delay_days: int, feed: str) -> RankerState:
    tried = lake.partition_states(RANKER_TRAININGS, ("last_day", "tried_at"))
    latest = max(tried, key=lambda key: tried[key]["tried_at"], default=None)
    return RankerState(
        version=ranker_prod(lake),
        labels=known_labels(lake, landing.labels, silver, delay_days=delay_days, feed=feed),
        last_day=day_of(max((key for key, made in silver.items() if made.rows), default="")),
        learned=None if latest is None else (KnownLabels.parse(latest), tried[latest]["last_day"]),
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

    The digest of Silver at the latest refusal, None where no candidate was refused; and whether `@prod` was taken
    away. Neither where the registry has no version at all: that is a new registry, and it needs a first model.
    """
    history = decisions(lake) if model_registry.versions() else []
    refused_on = next((row["silver_data_version"] for row in history if row["decision"] == "refused"), None)
    # The release before kept more digits of the same digest.
    return refused_on and refused_on[:DIGITS], any(row["decision"] != "refused" for row in history)
