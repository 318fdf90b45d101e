"""What a user may set from outside: the FRAUD_ variables, MLflow's own two, and `.env`.

One typed object, read where the code location or the command line starts. Nothing else reads the environment. What a
feed looks like is not a setting: it stands in the source file (`fraud_assets.silver.source`).
"""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud_assets.errors import FraudAssetsError
from fraud_assets.silver.source import Source, load_source

_CENTURY_DAYS: Final = 36_500
"""The longest time that may be set: so far back every date still has a year, and nobody keeps anything for longer."""


class SettingsError(FraudAssetsError):
    """A variable has a value that cannot be used; the message names it."""


class Settings(BaseSettings):
    """The settings of one feed on one machine; each has a default that works on a laptop."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_",
        env_file=".env",
        env_ignore_empty=True,  # `FRAUD_DATA_DIR=` is no directory
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    source: str = "simulated"
    """Name of a packaged source (simulated, ieee_cis), or the path of a source file."""
    data_dir: Path | None = None
    """Where landing, tables and models lie. Default: a folder of data/ named after the source."""
    alerts_per_day: int = Field(default=100, ge=1)
    """How many transactions analysts can review on a day."""
    review_sample_per_day: int = Field(default=0, ge=0)
    """Transactions that are no alert, drawn at random for review beside the list: they say what it misses. 0: none."""
    quarantine_limit: float = Field(default=0.05, ge=0, le=1)
    """Share of a partition's landed rows above which quarantine fails the check of its share."""
    rescore_days: int = Field(default=0, ge=0)
    """How many of the latest days move to a new @prod version. 0: each partition keeps its version."""
    duckdb_memory: str = Field(default="512MiB", pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")
    """Memory that DuckDB may use in a process; what it needs beyond goes to the data directory's disk."""
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What builds Silver and scores it: `duckdb` in the run's own process, or `spark` on a cluster (extra [spark])."""
    spark_master: str = ""
    """Where Spark runs, in its own words (spark://..., local-cluster[2,1,1024]). Default: what Spark's settings say."""
    model_name: str = "fraud_isolation_forest"
    """Name of the registered model. Unity Catalog wants three levels: catalog.schema.name."""
    rank_by_labels: bool = True
    """Whether alerts may be ordered by a second model that learns from labels, once it is shown to be better."""
    ranker_name: str = "fraud_alert_ranker"
    """Name of the registered model that orders alerts, as FRAUD_MODEL_NAME."""
    label_delay_days: int = Field(default=7, ge=0, le=_CENTURY_DAYS)
    """After so many days a label that comes with its transaction counts as known; late labels count when they land."""
    retention_hours: int = Field(default=24, ge=1, le=_CENTURY_DAYS * 24)
    """How long what a reader opened stays readable after it was replaced; then maintenance removes its files."""
    history_days: int = Field(default=7, ge=1, le=_CENTURY_DAYS)
    """How long Dagster's records of an ended run are kept; those of the latest of each partition stay."""
    notify: SecretStr = SecretStr("")
    """Where notifications go: addresses in Apprise's form, separated by spaces. Default: the log alone."""
    dagster_url: str = "http://127.0.0.1:3000"
    """Where people open the Dagster UI: the beginning of the links in notifications and in MLflow."""
    mlflow_url: str = "http://127.0.0.1:5000"
    """Where people open the MLflow UI of a store without a server: the beginning of the links in Dagster."""
    serve_token: SecretStr | None = Field(default=None, min_length=16)
    """`serve`: what senders show as `Authorization: Bearer ...`. Needed to bind anything but loopback."""
    serve_landing_seconds: float = Field(default=60.0, ge=0.1)
    """`serve --land`: how often what was accepted reaches the landing zone."""
    serve_lateness_minutes: float = Field(default=10.0, ge=0, le=_CENTURY_DAYS * 24 * 60)
    """`serve`: how far behind the latest transaction one may be. Memory holds that, and five minutes."""
    serve_rows_per_second: int = Field(default=10_000, ge=0)
    """`serve`: transactions a second; what is beyond gets 429. 0: no limit."""
    serve_max_requests: int = Field(default=256, ge=1)
    """`serve`: requests at once; what is beyond gets 503."""
    serve_max_rows: int = Field(default=1000, ge=1)
    """`serve`: transactions in one request."""
    serve_max_bytes: int = Field(default=2**20, ge=1024)
    """`serve`: bytes of one request's body."""
    serve_card_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$")
    """`serve`: header that must hold the card_id, percent-encoded, where a proxy spreads cards by it."""
    serve_keep_days: float = Field(default=30.0, gt=0, le=_CENTURY_DAYS)
    """`serve --land`: how long answers are kept after they landed."""
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    """MLflow's tracking store. Default: mlflow/mlflow.db (sqlite) under the data directory."""
    mlflow_registry_uri: str | None = Field(default=None, validation_alias="MLFLOW_REGISTRY_URI")
    """MLflow's model registry. Default: the tracking store."""

    def load_source(self) -> Source:
        """Return the feed's source; raises SourceError where it cannot be used."""
        return load_source(self.source)

    def resolved_data_dir(self, source: Source) -> Path:
        """Return the absolute data directory of this feed; creates nothing."""
        return (self.data_dir or Path("data") / source.name).expanduser().absolute()

    def resolved_tracking_uri(self, source: Source) -> str:
        """Return the tracking URI; by default an absolute sqlite one, so that no process starts a second store."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.resolved_data_dir(source) / 'mlflow' / 'mlflow.db'}"


def unknown_variables() -> dict[str, str]:
    """Return what is set and looks like a setting but is none, each with the setting that is most like it, if any.

    `FRAUD_TEST_` is the test suite's.
    """
    known = [str(field.validation_alias or f"FRAUD_{name.upper()}") for name, field in Settings.model_fields.items()]
    seen = sorted({name.upper() for name in (*os.environ, *dotenv_values(".env"))} - {*known})
    ours = [name for name in seen if name.startswith("FRAUD_") and not name.startswith("FRAUD_TEST_")]
    return {name: next(iter(get_close_matches(name, known, 1, 0.8)), "") for name in ours}


def load_settings() -> Settings:
    """Return the settings of this process; raises SettingsError where a variable has a value that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        places = [str(fault["loc"][0]) for fault in error.errors()]
        names = [f"FRAUD_{place.upper()}" if place.islower() else place for place in places]
        faults = (f"{name}: {fault['msg']}" for name, fault in zip(names, error.errors(), strict=True))
        raise SettingsError(
            f"Settings cannot be used. {'; '.join(faults)}. For the default `unset {' '.join(names)}` (or see .env)."
        ) from error
