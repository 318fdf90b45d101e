"""What `fraud_report` reads from lake and registry for one page, before `fraud_assets.report` renders it.

Belongs here: which partitions, versions and checks a page is about. Does not belong here: how anything is measured or
said. What cannot be read is no reason to have no page in the morning: the page says what is missing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from duckdb import DuckDBPyConnection

from fraud_assets.alerts.soundness import compare_alerts
from fraud_assets.assets.partition_runs import PartitionRefusedError
from fraud_assets.errors import FraudAssetsError
from fraud_assets.gold.completeness import compare_scored
from fraud_assets.gold.predictions import RowScorer
from fraud_assets.model.records import evaluation_of
from fraud_assets.model.training_facts import TrainingFacts
from fraud_assets.partition_keys import Grain
from fraud_assets.report import drift, queries
from fraud_assets.report.facts import (
    CheckState,
    Drift,
    Model,
    Note,
    Order,
    PartitionFigures,
    Report,
    ScoreDistribution,
    StageState,
)
from fraud_assets.report.words import count, moment
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.state import newest_landed, reviews_read, silver_states
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    ALERT_REVIEWS,
    ALERTS,
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    PROMOTIONS,
    QUARANTINED_TRANSACTIONS,
    RANKER_METRICS,
    RANKER_TRAININGS,
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    WITHDRAWN_ALERTS,
)
from fraud_assets.silver.accounting import account_for_rows, shares_over_limit
from fraud_assets.silver.contract import check_features

HISTORY: Final[Mapping[Grain, int]] = {"daily": 30, "hourly": 48}
"""Partitions that a page compares with, its own included: a month has its weekends, two days their nights."""

NO_VERSION: Final = ""
"""The model version of a partition without scores."""


@dataclass(frozen=True)
class VersionFacts:
    """What is known of a model version, and in `problems` why something is not."""

    training: TrainingFacts | None
    scorer: RowScorer | None
    signature_matches: bool | None
    problems: tuple[str, ...]


@dataclass
class ReportInputs:
    """Reads the reports of one run; what several of them share is read once."""

    lake: Lake
    landing_zone: LandingZone
    model_registry: ModelRegistry
    quarantine_limit: float
    alerts_per_day: int
    _versions: dict[str, VersionFacts] = field(default_factory=dict)
    _profiles: dict[str, dict[str, drift.Profile]] = field(default_factory=dict)
    _edges: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    def read(self, con: DuckDBPyConnection, key: str, *, as_of: datetime) -> Report:
        """Return all that the page of a partition shows, as the tables are now."""
        grain, lake = self.landing_zone.source.partitions.grain, self.lake
        shown = ("bursts_of_small_alike", "alerts_per_day", "silver_version", "ranker_version", "history_version")
        lists = lake.partition_states(ALERT_LISTS, shown)
        keys = [other for other in sorted(lists) if other <= key][-HISTORY[grain] :]
        history = queries.read_history(con, lake.select(ALERT_LISTS, keys=keys))
        if key not in lists:
            history = (*history, PartitionFigures(key, 0, 0, 0, 0, 0.0, NO_VERSION))
        figures, listed = history[-1], lists.get(key, {})
        builds = lake.partition_states(PARTITION_BUILDS, ("landed_rows", "quarantined_rows", "built_at"))
        facts = self._version(figures.model_version)
        checks = tuple(self._checks(con, key, builds, facts))
        built = builds.get(key)
        return Report(
            feed=self.landing_zone.source.name,
            key=key,
            grain=grain,
            as_of=as_of,
            figures=figures,
            alert_limit=listed.get("alerts_per_day", self.alerts_per_day),
            cards=queries.read_cards(
                con,
                lake.select(ALERTS, keys=[key]),
                outcomes=queries.read_outcomes(con, lake.select(ALERT_REVIEWS), key),
            ),
            bursts=listed.get("bursts_of_small_alike", 0),
            withdrawn=queries.read_withdrawn(con, lake.select(WITHDRAWN_ALERTS, keys=[key])),
            history=history,
            scores=self._scores(con, key, facts),
            drift=self._drift(con, history, builds, facts),
            quarantine=None
            if built is None
            else queries.read_quarantine(
                con,
                lake.select(QUARANTINED_TRANSACTIONS, keys=[key]),
                landed_rows=built["landed_rows"],
                quarantined_rows=built["quarantined_rows"],
                limit=self.quarantine_limit,
            ),
            stages=tuple(self._stages(con, key, builds, figures)),
            checks=checks,
            order=self._order(listed),
            reviews=queries.read_reviews(con, lake.select(ALERT_REVIEWS), lake.select(ALERT_LISTS), until=key),
            model=self._model(figures.model_version, facts),
            notes=tuple(self._notes(key, listed, facts, checks)),
            versions=tuple(
                (table.address, f"version {version}")
                for table in (SILVER_TRANSACTIONS, PREDICTIONS, ALERTS, EVALUATION_METRICS)
                if (version := lake.version(table)) is not None
            ),
        )

    def _order(self, listed: Mapping[str, Any]) -> Order | None:
        """Return how a list came by its order; None where nothing ever tried to learn from labels."""
        attempts = self.lake.rows(RANKER_TRAININGS) if self.lake.version(RANKER_TRAININGS) is not None else []
        if not attempts:
            return None
        compared: dict[str, list[dict[str, Any]]] = {}
        for row in self.lake.rows(RANKER_METRICS) if self.lake.version(RANKER_METRICS) is not None else []:
            compared.setdefault(row["model_version"], []).append(row)
        return Order(
            version=listed.get("ranker_version"),
            waits_for_history=listed.get("history_version") is None,
            said=max(attempts, key=lambda row: row["tried_at"])["said"],
            lists=tuple(
                (version, (rows[0]["evaluation_start"], rows[0]["evaluation_end"]), evaluation)
                for version, rows in sorted(compared.items(), key=lambda one: -int(one[0]))
                if (evaluation := evaluation_of(rows)) is not None
            ),
            alerts_per_day=self.alerts_per_day,
        )

    def made_of(self, key: str) -> dict[str, Any]:
        """Return what a page that is read from now on shows at least; the columns that `staleness` compares."""
        unscored = {"model_version": NO_VERSION, "alerts_per_day": self.alerts_per_day}
        unscored |= {"ranker_version": None, "history_version": None}
        lists = self.lake.partition_states(ALERT_LISTS, ("silver_version", *unscored))
        listed = lists.get(key)
        if listed is None:
            built = silver_states(self.lake).get(key)
            if built is None or built.rows:
                raise PartitionRefusedError(f"{key} has no list of alerts yet. `fraud-assets run` does what is due.")
            listed = unscored | {"silver_version": built.of["silver_version"]}
        evaluated = self.lake.partition_states(EVALUATION_METRICS, ("labels_version",)).get(listed["model_version"], {})
        return {name: listed[name] for name in ("silver_version", *unscored)} | {
            "evaluation_version": evaluated.get("labels_version", ""),
            "reviews_version": reviews_read(self.lake, self.landing_zone.source.name),
        }

    def _version(self, version: str) -> VersionFacts:
        if version not in self._versions:
            self._versions[version] = self._read_version(version)
        return self._versions[version]

    def _read_version(self, version: str) -> VersionFacts:
        """Ask the registry; what it does not say is unknown."""
        if version == NO_VERSION:
            return VersionFacts(None, None, None, ())
        found: dict[str, Any] = {"training": None, "scorer": None, "signature_matches": None}
        problems = dict[str, None]()
        for name, ask in {
            "training": lambda: TrainingFacts.from_tags(self.model_registry.version_tags(version)),
            "scorer": lambda: self.model_registry.scorer(version),
            "signature_matches": lambda: self.model_registry.signature_matches(version),
        }.items():
            try:
                found[name] = ask()
            except FraudAssetsError as error:
                problems[str(error)] = None
        return VersionFacts(**found, problems=tuple(problems))

    def _scores(self, con: DuckDBPyConnection, key: str, facts: VersionFacts) -> ScoreDistribution | None:
        known = getattr(facts.scorer, "training_scores", None)  # A version that is not compiled keeps none.
        if facts.scorer is None or known is None:
            return None
        return queries.read_scores(
            con,
            self.lake.select(PREDICTIONS, keys=[key]),
            training_scores=known,
            threshold=facts.scorer.threshold,
            training_rows=facts.training.training_rows if facts.training else len(known),
        )

    def _drift(
        self,
        con: DuckDBPyConnection,
        history: tuple[PartitionFigures, ...],
        builds: Mapping[str, Mapping[str, int]],
        facts: VersionFacts,
    ) -> Drift | None:
        if facts.training is None:
            return None
        version = history[-1].model_version
        silver = {key: made.rows for key, made in silver_states(self.lake).items() if made.rows}
        training = facts.training.training_keys(silver)
        same = [one.key for one in history[:-1] if one.model_version == version]
        wanted = [key for key in {*training, *same, history[-1].key} if key in silver]
        if version not in self._edges:
            relation = self.lake.select(SILVER_TRANSACTIONS, keys=training)
            self._edges[version] = drift.edges_of(con, relation, rows=sum(silver[key] for key in training))
        known = self._profiles.setdefault(version, {})
        if missing := [key for key in wanted if key not in known]:
            relation = self.lake.select(SILVER_TRANSACTIONS, keys=missing)
            known |= drift.profiles(con, relation, self._edges[version])
        healthy = queries.healthy_partitions(builds, same, limit=self.quarantine_limit)
        return drift.measure(known, history[-1].key, training=training, earlier=healthy)

    def _stages(
        self, con: DuckDBPyConnection, key: str, builds: Mapping[str, Mapping[str, Any]], figures: PartitionFigures
    ) -> Iterator[StageState]:
        lake, version = self.lake, figures.model_version
        files = lake.select(RAW_TRANSACTIONS, keys=[key])
        [(n, seen)] = con.execute(f"SELECT count(*), max(observed_at) FROM {files}").fetchall()
        yield StageState("landed", count(n, "file"), seen, "nothing on record")
        yield StageState("Silver", "rows with features", builds.get(key, {}).get("built_at"), "not built")
        for name, what, table, column, of in (
            ("Gold", "scores", PREDICTIONS, "scored_at", key),
            ("alerts", "this list", ALERT_LISTS, "alerted_at", key),
            ("evaluation", f"of version {version}", EVALUATION_METRICS, "evaluated_at", version),
        ):
            made = lake.partition_states(table, (column,)).get(of, {})
            yield StageState(name, what, made.get(column), "not made")

    def _checks(
        self, con: DuckDBPyConnection, key: str, builds: Mapping[str, Mapping[str, int]], facts: VersionFacts
    ) -> Iterator[CheckState]:
        """Evaluate the checks of one partition, by the evaluators that Dagster's checks call."""
        silver, gold, alerts, lists, quarantined, built = (
            self.lake.select(table, keys=[key])
            for table in (
                SILVER_TRANSACTIONS,
                PREDICTIONS,
                ALERTS,
                ALERT_LISTS,
                QUARANTINED_TRANSACTIONS,
                PARTITION_BUILDS,
            )
        )
        features = check_features(con, silver)
        claim = "The stored features have the contract's names, order, types and rules."
        yield CheckState("stored_features_match_contract", claim, features.passed, features.summary())
        accounting = account_for_rows(con, builds=built, silver=silver, quarantined=quarantined)
        claim = "Every landed row is in Silver or in quarantine."
        yield _check("rows_are_accounted_for", claim, accounting.faults)
        over = shares_over_limit({key: builds[key]} if key in builds else {}, limit=self.quarantine_limit)
        claim = f"No more than {self.quarantine_limit:.1%} of the landed rows were refused."
        yield _check("quarantine_share_is_within_limit", claim, {one: f"{part:.1%}" for one, part in over.items()})
        claim = "Every Silver row has exactly one score, and no score is without its row."
        yield _check("every_transaction_is_scored_once", claim, compare_scored(con, silver=silver, gold=gold).faults)
        claim = "Every alert has its score, those of the forest are anomalies, and ranks have no gap."
        yield _check("every_alert_has_its_score", claim, compare_alerts(con, alerts=alerts, lists=lists, scored=gold))
        claim = "The model version takes exactly the contract's features."
        known = facts.signature_matches
        words = "could not be read" if known is None else "it does" if known else "it does not"
        yield CheckState("signature_matches_contract", claim, known, words)

    def _model(self, version: str, facts: VersionFacts) -> Model:
        metrics = self.lake.rows(EVALUATION_METRICS, keys=[version])
        decided = [row for row in self.lake.rows(PROMOTIONS, keys=[version]) if row["decision"] == "promoted"]
        latest = max(decided, key=lambda row: row["decided_at"], default=None)
        first = metrics[0] if metrics else {}
        start, end = first.get("evaluation_start"), first.get("evaluation_end")
        return Model(
            version=version,
            threshold=None if facts.scorer is None else facts.scorer.threshold,
            training="" if facts.training is None else facts.training.summary(version),
            evaluation=evaluation_of(metrics),
            window=None if start is None or end is None else (start, end),
            evaluated_at=first.get("evaluated_at"),
            decision=""
            if latest is None
            else f"Version {version} was promoted by {latest['decided_by']}, {moment(latest['decided_at'])}: "
            f"{latest['reason']}.",
        )

    def _notes(
        self, key: str, listed: Mapping[str, Any], facts: VersionFacts, checks: tuple[CheckState, ...]
    ) -> Iterator[Note]:
        for check in checks:
            if check.passed is False:
                yield Note("failed", f"{check.name}: {check.found}")
        for problem in facts.problems:
            yield Note("failed", f"What is known of the model could not be read: {problem}")
        silver = silver_states(self.lake)
        if listed and key in silver and silver[key].of["silver_version"] != listed["silver_version"]:
            yield Note("stale", "The rows changed since this list was made; a new list is due, and with it a new page.")
        partitions = self.landing_zone.source.partitions
        if partitions.late_after is None or key != max(silver, default=key):
            return
        newest = newest_landed(self.lake, self.landing_zone.look(remember=False))
        if newest is not None and datetime.now(tz=UTC) - newest > partitions.late_after:
            hours = partitions.late_after.total_seconds() / 3600
            yield Note("stale", f"Nothing landed since {moment(newest)}; the feed is late after {hours:g} hours.")


def _check(name: str, claim: str, faults: Mapping[str, Any]) -> CheckState:
    return CheckState(
        name, claim, not faults, "; ".join(f"{key}: {fault}" for key, fault in faults.items()) or "no fault"
    )
