"""What every asset says of its table: address, columns, meanings, where each column comes from."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import dagster as dg

from fraud_assets.resources.tables import Table

OWNERS: Final = ["team:fraud-platform"]
"""Who answers for the assets; a deployment names its own team in Dagster."""


def table_metadata(table: Table, *, lineage: Mapping[str, Sequence[tuple[str, str]]] | None = None) -> dict[str, Any]:
    """Return Dagster's metadata of a table: name, column schema and, where given, column lineage.

    Args:
        table: the table that the asset writes.
        lineage: per column the (asset, column) pairs that it is made of.
    """
    columns = [
        dg.TableColumn(
            name=field.name,
            type=str(field.type),
            description=table.meanings.get(field.name),
            constraints=dg.TableColumnConstraints(nullable=field.nullable),
        )
        for field in table.schema
    ]
    metadata: dict[str, Any] = {
        "dagster/table_name": table.address,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "grain": table.grain,
    }
    if lineage is not None:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(dg.AssetKey(asset), source) for asset, source in sources]
                for column, sources in lineage.items()
            }
        )
    return metadata


def markdown_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a Markdown table, for the asset's page."""
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
