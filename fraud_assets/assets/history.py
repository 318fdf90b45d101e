"""The history of cards: Silver rows become what earlier partitions tell of their cards. How is `silver.history`'s."""

from collections.abc import Iterator, Sequence
from typing import Final

import dagster as dg
from duckdb import DuckDBPyConnection

from fraud_assets.assets.descriptions import OWNERS, markdown_table, table_metadata
from fraud_assets.assets.partition_runs import (
    PartitionMade,
    PartitionRefusedError,
    materialize_slices,
    provenance,
    slices,
)
from fraud_assets.assets.silver import silver_transactions_base
from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.row_batches import batches
from fraud_assets.resources.state import silver_states
from fraud_assets.resources.tables import CARD_HISTORY, SILVER_TRANSACTIONS
from fraud_assets.silver.history import (
    HISTORY_FEATURES,
    HistoryDigest,
    add_card_sums,
    create_card_sums,
    earlier_digests,
    keep_card_sums,
    make_history,
    seen_from,
    silver_digest,
)

_SLICE_ROWS: Final = 1_000_000
"""Rows whose history is made and written together: the days before are walked through once for all of them. What
DuckDB needs for that beyond its memory it puts on disk."""


@dg.asset(
    deps=[silver_transactions_base],
    group_name="silver",
    kinds={"duckdb", "deltalake"},
    owners=OWNERS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    metadata=table_metadata(CARD_HISTORY, copied_from=SILVER_TRANSACTIONS),
)
def card_history(
    context: dg.AssetExecutionContext, lake: Lake, landing_zone: LandingZone
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    """What the partitions before tell of the card of each transaction, and nothing of the same partition or later.

    One row per Silver row, of the same key: how often, how much and how long ago the card paid in the thirty days
    before, and whether the product is new to it.
    """
    grain = landing_zone.source.partitions.grain
    silver = silver_states(lake)
    handed_on: dict[str, str] = {}

    def make(keys: Sequence[str]) -> dict[str, PartitionMade | FraudAssetsError]:
        known = [key for key in keys if key in silver]
        made: dict[str, PartitionMade | FraudAssetsError] = {
            key: PartitionRefusedError(f"Silver of {key} is not built yet. `fraud-assets run` does whatever is due.")
            for key in keys
            if key not in silver
        }
        if not known:
            return made
        version = lake.version(SILVER_TRANSACTIONS)
        # Of the slice before only what this one looks back on stays, and nothing of this one where it is tried again.
        keep_card_sums(connection, known[0])
        kept = {key: handed_on[key] for key in seen_from(known[0], handed_on)}
        wanted = {*known, *(other for key in known for other in seen_from(key, silver))}
        added = lake.select(SILVER_TRANSACTIONS, keys=wanted - set(kept), version=version)
        handed_on.clear()
        handed_on.update(kept | add_card_sums(connection, added))
        earlier = earlier_digests(handed_on, known)
        versions = {
            key: HistoryDigest(silver_digest(silver[key].of["input_version"]), str(earlier[key]))
            if key in earlier
            else None
            for key in handed_on
        }
        rows = lake.select(SILVER_TRANSACTIONS, keys=known, version=version)
        make_history(connection, grain, rows, versions, handed_on)
        reader = batches(connection, "card_history", CARD_HISTORY.schema)
        lake.replace_partitions(CARD_HISTORY, known, reader, provenance=provenance(context))
        stored = lake.select_each(CARD_HISTORY, known)
        return made | {key: _described(connection, stored[key]) for key in known}

    with lake.connect() as connection:
        create_card_sums(connection)
        cut = slices(
            sorted(context.partition_keys), lambda key: silver[key].rows if key in silver else 0, most=_SLICE_ROWS
        )
        yield from materialize_slices(context, cut, make)


def _described(connection: DuckDBPyConnection, relation: str) -> PartitionMade:
    """Return what an operator asks of a partition: how many rows, of unknown cards and of products new to a card."""
    [(rows, without, new, version)] = connection.execute(
        f"""
        SELECT
            count(*), count(*) FILTER (card_txn_count_30d = 0), coalesce(sum(is_new_product), 0)::BIGINT,
            any_value(history_version)
        FROM {relation}
        """
    ).fetchall()
    columns = ["TransactionID", *HISTORY_FEATURES]
    preview = connection.execute(f"SELECT {', '.join(columns)} FROM {relation} LIMIT 5").fetchall()
    return PartitionMade(
        rows=rows,
        data_version=version or "",
        metadata={"rows_of_unknown_cards": without, "rows_of_new_products": new},
        preview=markdown_table(columns, preview),
    )
