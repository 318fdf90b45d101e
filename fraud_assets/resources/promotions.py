"""Moves `@prod` and keeps the record of it: every decision about a version is a row of `model.promotions`.

The alias and the record lie in two stores, so a move is announced on the version first: whoever comes after a process
that died between the two knows from the announcement and the alias how far it came. Whether to promote, and where a
rollback leads, is decided in `fraud_assets.model.promotion`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from fraud_assets.model.promotion import Move, prod_after, version_before
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.model_registry import SILVER_DATA_TAG, ModelRegistry, NoModelError
from fraud_assets.resources.tables import PROMOTIONS

PENDING_TAG: Final = "pending_decision"
"""Tag of a version: the row of a decision that is being carried out."""

OUTSIDE: Final = "unknown"
"""Who decided, where `@prod` was moved in MLflow itself."""

_PROVENANCE: Final = {"command": "settle"}


@dataclass(frozen=True)
class Moved:
    """The version behind `@prod`, and the one before the decision."""

    version: str | None
    previous: str | None


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
) -> Moved:
    """Carry out one decision and record it; two at once follow one another.

    A process that dies at any point leaves one valid `@prod`; `settle` makes the record say where it is.

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
        _settle(lake, model_registry)
        return _carry_out(lake, model_registry, version, move, decided_by, reason, provenance)


def roll_back(
    lake: Lake, model_registry: ModelRegistry, *, decided_by: str, reason: str, provenance: Mapping[str, str]
) -> Moved:
    """Put the version that was behind `@prod` before back there, on the record; again, the one before that.

    Raises:
        NoModelError: no version was behind `@prod` before; nothing is changed.
    """
    with lake.hold("promotions"):
        _settle(lake, model_registry)
        before = version_before(decisions(lake))
        if before is None:
            raise NoModelError(
                "There is no version to go back to: no earlier one is recorded. "
                "`fraud-assets promote VERSION` sets any registered version."
            )
        return _carry_out(lake, model_registry, before, "rolled back", decided_by, reason, provenance)


def settle(lake: Lake, model_registry: ModelRegistry) -> None:
    """Make the record say where `@prod` is: finish or drop what a dead process left, record moves made in MLflow.

    Several moves made in MLflow itself since the last time are one row. Where no model is registered yet, MLflow is
    not even imported.
    """
    with lake.hold("promotions"):
        _settle(lake, model_registry)


def _carry_out(
    lake: Lake,
    model_registry: ModelRegistry,
    version: str,
    move: Move,
    decided_by: str,
    reason: str,
    provenance: Mapping[str, str],
) -> Moved:
    before = model_registry.prod_version()
    tags = model_registry.version_tags(version)
    row = _row(version, tags, before=before, move=move, decided_by=decided_by, reason=reason)
    if move == "refused":
        _record(lake, row, provenance=provenance)
        return Moved(version=before, previous=before)
    announced = {**row, "decided_at": row["decided_at"].isoformat()}
    model_registry.set_version_tag(version, PENDING_TAG, json.dumps(announced))
    model_registry.set_prod(version)
    _record(lake, row, provenance=provenance)
    model_registry.delete_version_tag(version, PENDING_TAG)
    return Moved(version=version, previous=before)


def _settle(lake: Lake, model_registry: ModelRegistry) -> None:
    versions = model_registry.versions()
    if not versions:
        return
    prod = model_registry.prod_version()
    history = decisions(lake)
    for one in versions:
        if PENDING_TAG not in one.tags:
            continue
        row = json.loads(one.tags[PENDING_TAG])
        row["decided_at"] = datetime.fromisoformat(row["decided_at"])
        # Where the alias is not there, the process died before it moved it: nothing was done, and nothing is recorded.
        if one.version == prod and row not in history:
            _record(lake, row, provenance=_PROVENANCE)
            history = decisions(lake)
        model_registry.delete_version_tag(one.version, PENDING_TAG)
    recorded = prod_after(history)
    if prod == recorded:
        return
    moved = prod or recorded
    assert moved is not None  # the two differ
    row = _row(
        moved,
        next((one.tags for one in versions if one.version == moved), {}),
        before=recorded,
        move="withdrawn" if prod is None else "promoted",
        decided_by=OUTSIDE,
        reason="@prod was taken away in MLflow itself" if prod is None else "moved in MLflow itself",
    )
    _record(lake, row, provenance=_PROVENANCE)


def _row(
    version: str, tags: Mapping[str, str], *, before: str | None, move: Move, decided_by: str, reason: str
) -> dict[str, Any]:
    return {
        "decided_at": datetime.now(tz=UTC),
        "decision": move,
        "previous_version": before,
        "decided_by": decided_by,
        "reason": reason,
        "silver_data_version": tags.get(SILVER_DATA_TAG),
        "model_version": version,
    }


def _record(lake: Lake, row: Mapping[str, Any], *, provenance: Mapping[str, str]) -> None:
    earlier = [old for old in decisions(lake) if old["model_version"] == row["model_version"]]
    table = pa.Table.from_pylist([*earlier, dict(row)], schema=PROMOTIONS.schema)
    lake.replace_partition(PROMOTIONS, row["model_version"], table, provenance=provenance)
