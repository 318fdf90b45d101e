"""Reads from disk what the decision in `fraud_assets.staleness` depends on. Decides nothing."""

from collections.abc import Mapping
from hashlib import sha256

from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import Landing, LandingZone
from fraud_assets.resources.model_registry import ModelRegistry
from fraud_assets.resources.tables import PARTITION_BUILDS, PREDICTIONS, PROMOTIONS, SILVER_TRANSACTIONS
from fraud_assets.staleness import GoldState, PlatformState, SilverState

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
    feed = landing_zone.feed
    silver = {key: state for key, state in silver_states(lake).items() if feed.in_range(key)}
    gold = {
        key: GoldState(**state)
        for key, state in lake.partition_states(PREDICTIONS, ("silver_version", "model_version")).items()
    }
    prod_version = model_registry.prod_version()
    return PlatformState(
        landed={key: landing_zone.input_version(files) for key, files in landing.partitions.items()},
        silver=silver,
        gold=gold,
        previous_key={key: feed.previous_key(key) for key in {*landing.partitions, *silver}},
        prod_version=prod_version,
        silver_data_version=silver_data_version(silver),
        refused_on=None if prod_version is not None else _refused_on(lake),
        rescore_days=rescore_days,
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


def _refused_on(lake: Lake) -> str | None:
    """Return the Silver data version at the latest refusal, or None where no candidate was refused."""
    with lake.connect() as connection:
        found = connection.execute(
            f"SELECT silver_data_version FROM {lake.select(PROMOTIONS)} WHERE decision = 'refused' "
            "ORDER BY decided_at DESC LIMIT 1"
        ).fetchone()
    return None if found is None else found[0]
