"""Moves `@prod` and keeps the record of it: every decision about a version is a row of the model's table of decisions.

The alias and the record lie in two stores, so a decision is written on the version first: whoever comes after a process
that died on the way knows from that tag and the alias how far it came. Whether to promote, and where a rollback leads,
is decided in `fraud_assets.model.promotion`. See docs/adr/0010-promotion-in-steps.md.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final

import pyarrow as pa

from fraud_assets.model.promotion import Move, prod_after, version_before
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import SILVER_DATA_TAG, ModelRegistry, NoModelError
from fraud_assets.resources.tables import PROMOTIONS, Table

DECISION_TAG: Final = "promotion_decision"
"""Tag of a version: the row of the latest decision about it, before that is carried out and ever after."""


def decisions(lake: Lake, table: Table = PROMOTIONS) -> list[dict[str, Any]]:
    """Return every decision about versions of the model whose record the table is, the latest first.

    What was decided before the registry lost its versions is about none that it has since, whatever their numbers.
    """
    return list(takewhile(lambda row: row["decision"] != "lost", _rows(lake, table)))


def apply_decision(
    lake: Lake,
    model_registry: ModelRegistry,
    version: str | None,
    *,
    move: Move,
    decided_by: str,
    reason: str,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """Carry out one decision and return its row of the record; two at once follow one another.

    Promoted and rolled back point `@prod` at the version, withdrawn takes it away, refused leaves it. Without a version
    it is the one that was behind `@prod` before, and again the one before. Where there is none (NoModelError) nothing
    is changed or recorded.
    A process that dies at any point leaves one valid `@prod`; `reconcile` makes the record say where it is.
    """
    with lake.hold(model_registry.record.name):
        _reconcile(lake, model_registry)
        version = version or version_before(decisions(lake, model_registry.record))
        if version is None:
            raise NoModelError(
                "There is no version to go back to: no earlier one is recorded. "
                "`fraud-assets promote VERSION` sets any registered version."
            )
        tags, before = model_registry.version_tags(version), model_registry.prod_version()
        row = _row(version, tags, before, move, decided_by, reason)
        model_registry.set_version_tag(version, DECISION_TAG, json.dumps(row, default=datetime.isoformat))
        if move == "withdrawn":
            model_registry.remove_prod()
        elif move != "refused":
            model_registry.set_prod(version)
        _record(lake, model_registry, row, provenance)
        return row


def reconcile(lake: Lake, model_registry: ModelRegistry) -> None:
    """Make the record say where `@prod` is: finish or drop what a dead process left, record moves made in MLflow.

    Several moves made in MLflow itself since the last time are one row. Where the registry lost its versions, that is
    recorded, too: it gives their numbers anew. Where no model is registered yet, MLflow is not even imported.
    """
    with lake.hold(model_registry.record.name):
        _reconcile(lake, model_registry)


def _reconcile(lake: Lake, model_registry: ModelRegistry) -> None:
    versions, history = model_registry.versions(), decisions(lake, model_registry.record)
    if not versions:
        if history:
            reason = "MLflow holds no version any more, and numbers begin anew"
            row = _row(history[0]["model_version"], {}, prod_after(history), "lost", "unknown", reason)
            _record(lake, model_registry, row, {"command": "reconcile"})
        return
    prod, recorded_rows = model_registry.prod_version(), _rows(lake, model_registry.record)
    for version, row in ((version, _row_of(tags)) for version, tags in versions.items()):
        if row is None or row in recorded_rows:
            continue
        if prod == (None if row["decision"] == "withdrawn" else version):
            _record(lake, model_registry, row, {"command": "reconcile"})
            history.insert(0, row)
        else:  # The process died before it moved the alias: nothing was done, and nothing is recorded.
            model_registry.set_version_tag(version, DECISION_TAG, None)
    recorded = prod_after(history)
    moved = prod or recorded
    if prod != recorded and moved is not None:
        move, how = ("promoted", "moved") if prod else ("withdrawn", "@prod was taken away")
        row = _row(moved, versions.get(moved, {}), recorded, move, "unknown", f"{how} in MLflow itself")
        _record(lake, model_registry, row, {"command": "reconcile"})


def _rows(lake: Lake, table: Table) -> list[dict[str, Any]]:
    """Return all rows of the record, the latest first."""
    return sorted(lake.rows(table), key=lambda row: row["decided_at"], reverse=True)


def _row(
    version: str, tags: Mapping[str, str], before: str | None, move: Move, decided_by: str, reason: str
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


def _row_of(tags: Mapping[str, str]) -> dict[str, Any] | None:
    row = json.loads(tags.get(DECISION_TAG, "null"))
    return row and {**row, "decided_at": datetime.fromisoformat(row["decided_at"])}


def _record(lake: Lake, model_registry: ModelRegistry, row: Mapping[str, Any], provenance: Mapping[str, str]) -> None:
    """Write a decision down: for MLflow's users in the version's description, and in the table, which counts."""
    if row["model_version"] in model_registry.versions():
        words = f"{row['decision'].capitalize()} by {row['decided_by']}, {row['decided_at']:%Y-%m-%d %H:%M:%S} UTC"
        model_registry.append_to_description(row["model_version"], f"{words}: {row['reason']}")
    record = model_registry.record
    earlier = lake.rows(record, keys=[row["model_version"]])
    table = pa.Table.from_pylist([*earlier, dict(row)], schema=record.schema)
    lake.replace_partition(record, row["model_version"], table, provenance=provenance)
