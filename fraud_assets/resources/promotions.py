"""Moves `@prod` and keeps the record of it: every decision about a version is a row of `model.promotions`.

Whether to promote, and where a rollback leads, is decided in `fraud_assets.model.promotion`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from fraud_assets.model.promotion import Move
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.model_registry import SILVER_DATA_TAG, ModelRegistry
from fraud_assets.resources.tables import PROMOTIONS


def decisions(lake: Lake) -> list[dict[str, Any]]:
    """Return every decision, the latest first."""
    with lake.connect() as connection:
        return connection.sql(f"FROM {lake.select(PROMOTIONS)} ORDER BY decided_at DESC").to_arrow_table().to_pylist()


def carry_out(
    lake: Lake,
    model_registry: ModelRegistry,
    version: str,
    *,
    move: Move,
    decided_by: str,
    reason: str,
    provenance: Mapping[str, str],
) -> None:
    """Carry out one decision and record it; two at once follow one another.

    Args:
        lake: where the record goes.
        model_registry: where `@prod` is.
        version: the version decided about.
        move: promoted and rolled back point `@prod` at the version, refused leaves it.
        decided_by: the gate, or a person.
        reason: why, in words.
        provenance: goes into the record's commit.

    Raises:
        NoModelError: there is no such version; nothing is recorded.
    """
    with lake.hold("promotions"):
        before = model_registry.prod_version()
        tags = model_registry.version_tags(version)
        if move != "refused":
            model_registry.set_prod(version)
        row = {
            "decided_at": datetime.now(tz=UTC),
            "decision": move,
            "previous_version": before,
            "decided_by": decided_by,
            "reason": reason,
            "silver_data_version": tags.get(SILVER_DATA_TAG),
            "model_version": version,
        }
        earlier = [old for old in decisions(lake) if old["model_version"] == version]
        table = pa.Table.from_pylist([*earlier, row], schema=PROMOTIONS.schema)
        lake.replace_partition(PROMOTIONS, version, table, provenance=provenance)
