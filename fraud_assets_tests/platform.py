"""A whole platform on a temporary directory: real lake, landing zone, registry, definitions and Dagster instance."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from fraud_assets.automation.foreground import Ended, run_due
from fraud_assets.console import status_of
from fraud_assets.definitions import ASSETS, build_definitions
from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import Table
from fraud_assets.settings import Settings
from fraud_assets.simulator.writing import write_day
from fraud_assets.staleness import STAGES, Plan, Stage, decide

FIRST_DAY = date(2026, 1, 1)

WITHOUT_HISTORY = tuple(stage for stage in STAGES if stage.name not in ("history", "ranker"))
"""All stages but the history of cards and the ranker that learns from it, of which few tests look at anything."""

WITHOUT_PAGES = tuple(stage for stage in WITHOUT_HISTORY if stage.name != "report")
"""Nor the last, on which nothing else depends: drawing a page takes a second."""


@dataclass(frozen=True)
class TestPlatform:
    """One feed in `data_dir`, used as the command line uses it."""

    __test__ = False

    data_dir: Path
    instance: dg.DagsterInstance
    source: str = "simulated"
    rescore_days: int = 0
    tracking_uri: str | None = None
    stages: tuple[Stage, ...] = WITHOUT_PAGES
    more_assets: tuple[dg.AssetsDefinition, ...] = ()
    watch_seconds: float = 0
    alerts_per_day: int = 100
    review_sample_per_day: int = 0
    label_delay_days: int = 7
    rank_by_labels: bool = True
    quarantine_limit: float = 0.05
    engine: Literal["duckdb", "spark"] = "duckdb"

    @cached_property
    def settings(self) -> Settings:
        return Settings(
            _env_file=None,  # pyright: ignore[reportCallIssue] a parameter of pydantic-settings
            source=self.source,
            data_dir=self.data_dir,
            rescore_days=self.rescore_days,
            alerts_per_day=self.alerts_per_day,
            review_sample_per_day=self.review_sample_per_day,
            label_delay_days=self.label_delay_days,
            rank_by_labels=self.rank_by_labels,
            quarantine_limit=self.quarantine_limit,
            engine=self.engine,
            MLFLOW_TRACKING_URI=self.tracking_uri,
            MLFLOW_REGISTRY_URI=None,
        )

    @cached_property
    def platform(self) -> Platform:
        return Platform(self.settings, self.stages)

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(
            self.settings, stages=self.stages, assets=(*ASSETS, *self.more_assets), watch_seconds=self.watch_seconds
        )

    @property
    def lake(self) -> Lake:
        return self.platform.lake

    @property
    def landing_zone(self) -> LandingZone:
        return self.platform.landing_zone

    @property
    def model_registry(self) -> ModelRegistry:
        return self.platform.model_registry

    def simulate(self, days: int, *, start: date = FIRST_DAY, rows_per_day: int = 700, **options: Any) -> list[Path]:
        """Land so many days."""
        folder = self.landing_zone.folder
        return [
            write_day(start + timedelta(days=day), folder, rows_per_day=rows_per_day, **options) for day in range(days)
        ]

    def run(self) -> list[Ended]:
        """Do what is due, as `fraud-assets run` does."""
        steps = run_due(self.definitions, self.instance, self.platform)
        return [step for step in steps if isinstance(step, Ended)]

    def status(self) -> dict[str, Any]:
        """What `fraud-assets status --json` says."""
        landing, state = self.landing_zone.look(), self.state()
        return status_of(state, decide(state, self.platform.stages), landing, self.platform.labels(landing))

    def state(self) -> PlatformState:
        return self.platform.state(self.landing_zone.look())

    def plan(self) -> Plan:
        """What is due now, of its own stages, and what waits for a person."""
        return decide(self.state(), self.stages)

    def rows(self, query: str, **tables: Table) -> list[tuple[Any, ...]]:
        """Query tables by the names given: rows("SELECT count(*) FROM {gold}", gold=PREDICTIONS)."""
        with self.lake.connect() as connection:
            return connection.execute(
                query.format(**{name: self.lake.select(table) for name, table in tables.items()})
            ).fetchall()
