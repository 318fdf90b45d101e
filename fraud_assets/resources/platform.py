"""One feed's resources, made from the settings: what the code location and the command line both stand on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fraud_assets.platform_state import PlatformState
from fraud_assets.resources.lake import Lake, open_lake
from fraud_assets.resources.landing_zone import Landing, LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.state import late_labels, read_state
from fraud_assets.settings import Settings
from fraud_assets.silver.labels import LateLabels
from fraud_assets.silver.source import Source
from fraud_assets.staleness import STAGES, Stage


@dataclass(frozen=True)
class Platform:
    """The tables, landed files and models of one feed. Making one opens and creates nothing."""

    settings: Settings
    stages: tuple[Stage, ...] = STAGES

    @cached_property
    def source(self) -> Source:
        """The feed; raises SourceError where its file cannot be used."""
        return self.settings.load_source()

    @property
    def data_dir(self) -> Path:
        """Where everything of the feed lies."""
        return self.settings.resolved_data_dir(self.source)

    @cached_property
    def lake(self) -> Lake:
        """The tables."""
        return open_lake(self.data_dir, memory=self.settings.duckdb_memory)

    @cached_property
    def landing_zone(self) -> LandingZone:
        """The landed files."""
        return LandingZone(data_dir=str(self.data_dir), source_file=self.settings.source)

    @cached_property
    def model_registry(self) -> ModelRegistry:
        """The models."""
        return ModelRegistry(
            tracking_uri=self.settings.resolved_tracking_uri(self.source),
            registry_uri=self.settings.mlflow_registry_uri,
            model_name=self.settings.model_name,
            data_dir=str(self.data_dir),
            source_name=self.source.name,
            dagster_url=self.settings.dagster_url,
            mlflow_url=self.settings.mlflow_url,
        )

    @cached_property
    def ranker_registry(self) -> ModelRegistry:
        """The rankers of alerts, in the same store."""
        said = {name: getattr(self.model_registry, name) for name in type(self.model_registry).model_fields}
        return ModelRegistry(**{**said, "model_name": self.settings.ranker_name, "is_ranker": True})

    def look(self) -> Landing:
        """Return what landed, leaving no trace of having looked."""
        return self.landing_zone.look(remember=False)

    def state(self, landing: Landing) -> PlatformState:
        """Return what the decision in `fraud_assets.staleness` depends on, given what landed."""
        return read_state(
            self.lake,
            self.landing_zone,
            self.model_registry,
            landing=landing,
            rescore_days=self.settings.rescore_days,
            alerts_per_day=self.settings.alerts_per_day,
            label_delay_days=self.settings.label_delay_days if self.settings.rank_by_labels else None,
            stages=self.stages,
        )

    def labels(self, landing: Landing) -> LateLabels | None:
        """Return what the files of late labels hold; None where there is none."""
        return late_labels(self.lake, self.landing_zone, landing.labels)
