"""Dagster's event log in sqlite, with the events of many partitions stored in one transaction.

A run over a range tells Dagster of each of its partitions, several times: planned, materialized, quarantined. Dagster's
own class opens and commits two databases for each of these events, which of a tiny partition is most of its time.
The files are those of Dagster's own class: a home may go back to it, or come from it, at any time. PostgreSQL's class
needs none of this; it takes batches where `DAGSTER_EVENT_BATCH_SIZE` is set.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData

BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
"""So many events Dagster hands over at once, where they come together; without it, each by itself."""


class BatchingEventLog(SqliteEventLogStorage):
    """The event log of a home, in `history/runs/`. Named in `dagster.yaml` as `event_log_storage`, without config."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        os.environ.setdefault(BATCH_SIZE_VARIABLE, "1000")

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return no config: the instance knows where its home is."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchingEventLog":
        """Return the log that `dagster.yaml` names."""
        return cls(inst_data)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Open the files of the instance's home, which is known from here on."""
        super().__init__(str(Path(instance.root_directory, "history", "runs")), self._inst_data)
        super().register_instance(instance)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events of one run: those of assets in one transaction a database, what else there is one by one."""
        if of_assets := [event for event in events if event.dagster_event_type in ASSET_EVENTS]:
            self._store_together(of_assets)
        for event in events:
            if event.dagster_event_type not in ASSET_EVENTS:
                self.store_event(event)

    def _store_together(self, events: Sequence[dg.EventLogEntry]) -> None:
        insert, rows = SqlEventLogStorageTable.insert(), [self._event_to_row(event) for event in events]
        [run_id] = {event.run_id for event in events}
        with self.run_connection(run_id) as connection:
            connection.execute(insert, rows)
        # Once more in the database of all runs, where assets are looked up.
        with self.index_transaction() as connection:
            numbered = insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
            numbers = connection.execute(numbered, rows).scalars().all()
            self._store_asset_event_tags(connection, events, numbers)
            # What an asset's own entry keeps is its last event of a kind.
            last = {
                (event.dagster_event_type, event.get_dagster_event().asset_key): (event, number)
                for event, number in zip(events, numbers, strict=True)
            }
            for event, number in last.values():
                self._store_asset_event(connection, event, number)
