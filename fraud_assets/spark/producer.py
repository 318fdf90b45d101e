"""Does with Spark what is due of Silver and Gold: the same state comparison as everywhere, another producer.

Needs no Dagster instance: what was done stands in the tables' commits. Training, alerts and reports stay with
`fraud-assets run` and the sensors, which find them due.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fraud_assets.resources.lake import PartitionConflictError
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import PARTITION_BUILDS
from fraud_assets.silver.contract import CONTRACT_DIGEST
from fraud_assets.spark.gold import score_with_spark
from fraud_assets.spark.jobs import SparkJobs
from fraud_assets.spark.silver import build_with_spark
from fraud_assets.staleness import Due, decide

AT_ONCE: Final = 200
"""Partitions that are built or scored together: they share the jobs and the commits."""

_CONFLICTS_BORNE: Final = 2
"""As in Dagster's runs: three losses in a row mean something else than another writer."""


@dataclass(frozen=True)
class Done:
    """Partitions of one stage that were made together, and why others were refused."""

    stage: str
    keys: tuple[str, ...]
    rows: int
    refused: tuple[str, ...] = ()
    model_version: str = ""


@dataclass(frozen=True)
class Producer:
    """Makes tables of one feed with one Spark session."""

    platform: Platform
    jobs: SparkJobs

    def do_due(self, keys: Collection[str] = (), *, stages: Sequence[str] = ("silver", "gold")) -> Iterator[Done]:
        """Build and score what is due, of these partitions or of all, until nothing is due that was not tried."""
        tried: set[tuple[str, str, str]] = set()
        while due := self._due(keys, stages, tried):
            tried |= {(item.stage, item.key, item.cause) for item in due}
            yield self._do(due)

    def _due(self, keys: Collection[str], stages: Sequence[str], tried: Collection[tuple[str, str, str]]) -> list[Due]:
        """Return what is done next: partitions of one stage and one version."""
        platform = self.platform
        plan = decide(platform.state(platform.look()), platform.stages)
        due = [
            item
            for item in plan.due
            if item.stage in stages
            and (not keys or item.key in keys)
            and (item.stage, item.key, item.cause) not in tried
        ]
        first = next(iter(due), None)
        if first is None:
            return []
        alike = (
            i for i in due if i.stage == first.stage and (i.stage == "silver" or i.model_version == first.model_version)
        )
        return list(islice(alike, AT_ONCE))

    def _do(self, due: Sequence[Due]) -> Done:
        make = self._build if due[0].stage == "silver" else self._score
        lost = 0
        while True:
            try:
                return make(due)
            except PartitionConflictError:
                lost += 1
                if lost > _CONFLICTS_BORNE:
                    raise

    def _build(self, due: Sequence[Due]) -> Done:
        lake, keys = self.platform.lake, sorted(item.key for item in due)
        with ExitStack() as held:
            for key in keys:
                held.enter_context(lake.hold(f"silver-{key}"))
            made = build_with_spark(self.jobs, lake, self.platform.landing_zone, keys, memory=self._memory)
            made.observe(lake, self._provenance)
            made.store(lake, self._provenance)
        refused = tuple(f"{key}: {error}" for key, error in made.refused.items())
        return Done("silver", tuple(made.builds), sum(build.silver_rows for build in made.builds.values()), refused)

    def _score(self, due: Sequence[Due]) -> Done:
        lake, version = self.platform.lake, due[0].model_version
        built = lake.partition_states(PARTITION_BUILDS, ("silver_version",))
        digests = {item.key: built[item.key]["silver_version"] for item in due}
        rows = score_with_spark(
            self.jobs,
            lake,
            self.platform.model_registry,
            digests,
            version,
            memory=self._memory,
            provenance=self._provenance,
        )
        return Done("gold", tuple(digests), rows, model_version=version)

    @property
    def _memory(self) -> str:
        return self.platform.settings.duckdb_memory

    @property
    def _provenance(self) -> dict[str, str]:
        return {"producer": "spark", "code_version": CONTRACT_DIGEST}
