"""What every asset says of its table: address, columns, meanings, where each column comes from."""

from collections.abc import Sequence
from typing import Any, Final

import dagster as dg

from fraud_assets.resources.tables import Table

OWNERS: Final = ["team:fraud-platform"]
"""Who answers for the assets; a deployment names its own team in Dagster."""


def table_metadata(table: Table, *, copied_from: Table | None = None) -> dict[str, Any]:
    """Return Dagster's metadata of a table: name, column schema, and which columns are another table's as they are."""
    metadata: dict[str, Any] = {
        "dagster/table_name": table.address,
        "dagster/storage_kind": "deltalake",
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=field.name,
                    type=str(field.type),
                    description=table.meanings[field.name],
                    constraints=dg.TableColumnConstraints(nullable=field.nullable),
                )
                for field in table.schema
            ]
        ),
        "grain": table.grain,
    }
    if copied_from is not None:
        copied = [name for name in table.schema.names if name in copied_from.schema.names]
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {name: [dg.TableColumnDep(dg.AssetKey(copied_from.name), name)] for name in copied}
        )
    return metadata


def markdown_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a Markdown table, for the asset's page."""
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
