"""Silver by Spark: landed partitions become rows, quarantine and digests, as the local build makes them, bit for bit.

Here belong the order of the jobs, what is decided between two of them, and the commits. What a task does to rows is
`silver_tasks`, and what it calls there is `fraud_assets.silver`. Why so: docs/adr/0020-spark-as-another-producer.md.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from fraud_assets.columns import table_of
from fraud_assets.errors import FraudAssetsError
from fraud_assets.partition_keys import previous_key
from fraud_assets.resources.data_files import DataFile
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.landing_zone import LandedFile, LandingZone
from fraud_assets.resources.spill import spill_folder
from fraud_assets.resources.tables import (
    PARTITION_BUILDS,
    QUARANTINED_TRANSACTIONS,
    RAW_TRANSACTIONS,
    SILVER_TRANSACTIONS,
    Table,
)
from fraud_assets.silver.build import InputDigest, SilverBuild, stored_digests
from fraud_assets.silver.contract import ContractCheck, ContractViolationError
from fraud_assets.silver.features import FeatureSums, RowSums
from fraud_assets.spark import silver_tasks as tasks
from fraud_assets.spark.jobs import Report, SparkJobs
from fraud_assets.spark.silver_tasks import ALONE, PLACED, Feed, Quarantine, Raw
from fraud_assets.spark.spread import BUCKET_ROWS, Spread, packed, spread

_GROUP_BYTES: Final = 16 * 2**20
"""Landed bytes that one task reads; a larger file is a task by itself, since records are told apart from its start."""


@dataclass
class SilverFiles:
    """Partitions that were built and lie in files which no table has yet, and why others were refused."""

    builds: dict[str, SilverBuild] = field(default_factory=dict)
    refused: dict[str, FraudAssetsError] = field(default_factory=dict)
    files: dict[Table, list[DataFile]] = field(default_factory=dict)
    instead_of: dict[Table, dict[str, list[str]]] = field(default_factory=dict)
    observed: list[dict[str, Any]] = field(default_factory=list)
    """What landed, by file: rows of `bronze.raw_transactions`."""

    def store(self, lake: Lake, provenance: Mapping[str, str]) -> None:
        """Commit quarantine, records, and then the Silver rows, since by them a partition counts as built."""
        if not self.builds:
            return
        self._commit(lake, QUARANTINED_TRANSACTIONS, provenance)
        built_at = datetime.now(tz=UTC)
        built = ({**build.record, "built_at": built_at} for build in self.builds.values())
        records = table_of(built, PARTITION_BUILDS.schema)
        lake.replace_partitions(PARTITION_BUILDS, [*self.builds], records, provenance=provenance)
        self._commit(lake, SILVER_TRANSACTIONS, provenance)

    def observe(self, lake: Lake, provenance: Mapping[str, str]) -> None:
        """Write to bronze what landed, as the asset `raw_transactions` does; for who builds without it."""
        keys = sorted({row["partition_key"] for row in self.observed})
        if keys:
            rows = table_of(self.observed, RAW_TRANSACTIONS.schema)
            lake.replace_partitions(RAW_TRANSACTIONS, keys, rows, provenance=provenance)

    def _commit(self, lake: Lake, table: Table, provenance: Mapping[str, str]) -> None:
        files = [file for file in self.files[table] if file.key in self.builds]
        instead_of = {key: self.instead_of[table].get(key, []) for key in self.builds}
        lake.replace_with_files(table, files, instead_of=instead_of, provenance=provenance)


def build_with_spark(
    jobs: SparkJobs,
    lake: Lake,
    landing_zone: LandingZone,
    keys: Sequence[str],
    *,
    memory: str,
    bucket_rows: int = BUCKET_ROWS,
) -> SilverFiles:
    """Make the rows of partitions, in files beside the tables; whoever calls holds the partitions and stores them.

    A partition that cannot be built is refused with its reason, and does not spoil the others.
    """
    keys = sorted(keys)
    made = SilverFiles(
        instead_of={table: lake.paths(table) for table in (QUARANTINED_TRANSACTIONS, SILVER_TRANSACTIONS)}
    )
    landed = landing_zone.files_of(keys)
    for key in keys:
        if not landed[key]:
            made.refused[key] = landing_zone.nothing_landed(key)
    with spill_folder(Path(lake.data_dir)) as scratch:
        feed = Feed(landing_zone.source.model_dump_json(), tuple(keys), scratch, memory)
        inputs = {number: landing_zone.input_digest(landed[key]) for number, key in enumerate(keys)}
        _Build(jobs, lake, feed, landed, inputs, made, bucket_rows).run()
    return made


@dataclass
class _Build:
    """One build on its way: what it knows, and what each job found."""

    jobs: SparkJobs
    lake: Lake
    feed: Feed
    landed: Mapping[str, Sequence[LandedFile]]
    inputs: Mapping[int, InputDigest]
    made: SilverFiles
    bucket_rows: int

    def run(self) -> None:
        """Do one job after the other; leave in `made` what came of it."""
        keys = self.feed.keys
        read = self._read()
        standing = [number for number, key in enumerate(keys) if key not in self.made.refused]
        read = [report for report in read if report["key_no"] in standing]
        rows = [sum(report["rows"] for report in _of(read, number)) for number in range(len(keys))]
        slices = spread(rows, lasts=self.feed.lasts, most=self.bucket_rows)
        cleaned = self._clean(read, spread(rows, most=self.bucket_rows), slices, standing)
        windows = self._windows(cleaned, slices, standing)
        sums = {number: _sums_of(_of(windows, number)) for number in standing}
        constants = {
            number: stored_digests(self.inputs[number], sums[number].digests) | {"partition_key": keys[number]}
            for number in standing
        }
        written = self._write(windows, constants)
        quarantined = self._quarantine(read, cleaned, constants)
        for number in standing:
            found = [_of(reports, number) for reports in (read, cleaned, written, quarantined)]
            check = _check(_of(cleaned, number), _of(written, number))
            if check.passed:
                self.made.builds[keys[number]] = _build(keys[number], self.inputs[number], sums[number], *found)
            else:  # The next one may have looked back on rows that are not stored now: it will be due for that.
                self.made.refused[keys[number]] = ContractViolationError(check)
        self.made.files = {SILVER_TRANSACTIONS: _files(written), QUARANTINED_TRANSACTIONS: _files(quarantined)}

    def _read(self) -> list[Report]:
        """Read all files; refuse the partitions of which one is broken."""
        raw = [
            Raw(number, at, str(file.path), file.name)
            for number, key in enumerate(self.feed.keys)
            for at, file in enumerate(self.landed[key])
        ]
        sizes = [file.size for key in self.feed.keys for file in self.landed[key]]
        groups = [[raw[at] for at in group] for group in packed(sizes, most=_GROUP_BYTES)]
        task = partial(tasks.read_files, feed=self.feed, groups=groups)
        found = sorted(self.jobs.each("read landed files", groups, task), key=lambda r: (r["key_no"], r["file_no"]))
        for report in found:
            self.made.observed.append(self._observed(report))
            if "problem" in report:
                self.made.refused.setdefault(self.feed.keys[report["key_no"]], FraudAssetsError(report["problem"]))
        return found

    def _observed(self, report: Report) -> dict[str, Any]:
        key = self.feed.keys[report["key_no"]]
        file = self.landed[key][report["file_no"]]
        return {
            "file": file.name,
            "bytes": file.size,
            "landed_rows": report["landed"],
            "problem": report["unreadable"],
            "content_digest": file.digest,
            "observed_at": datetime.now(tz=UTC),
            "partition_key": key,
        }

    def _clean(self, read: Sequence[Report], ids: Spread, slices: Spread, standing: Sequence[int]) -> list[Report]:
        """Decide by id which rows are good."""
        task = partial(tasks.clean_ids, feed=self.feed, windows=slices, following=self._following(standing))
        return self.jobs.by_bucket("clean by id", _paths(read, "good"), ALONE, ids, task)

    def _following(self, standing: Sequence[int]) -> list[int | None]:
        """Return for each partition the number of the one after it, where that is built, too."""
        numbers = {self.feed.keys[number]: number for number in standing}
        after = {self._before(key): number for key, number in numbers.items()}
        return [after.get(key) for key in self.feed.keys]

    def _before(self, key: str) -> str:
        return previous_key(key, self.feed.source.partitions.grain)

    def _windows(self, cleaned: Sequence[Report], slices: Spread, standing: Sequence[int]) -> list[Report]:
        """Make windows by card and slice of time, also of what stored partitions hand on."""
        keys = {self.feed.keys[number] for number in standing}
        stored = [
            (number, self.lake.over(SILVER_TRANSACTIONS, [path]))
            for number in standing
            if (before := self._before(self.feed.keys[number])) not in keys
            for path in self.made.instead_of[SILVER_TRANSACTIONS].get(before, [])
        ]
        groups = [[one] for one in stored]
        looked = self.jobs.each("look back", groups, partial(tasks.look_back, feed=self.feed, groups=groups))
        task = partial(tasks.make_windows, feed=self.feed, windows=slices)
        placed = [*_paths(cleaned, "good"), *_paths(looked, "good")]
        return self.jobs.by_bucket("make windows", placed, PLACED, slices, task)

    def _write(self, windows: Sequence[Report], constants: Mapping[int, Mapping[str, str]]) -> list[Report]:
        """Write the Silver rows, the buckets of a partition together up to a bucket's size."""
        parts, sizes = [], []
        for number in constants:
            own = [report for report in _of(windows, number) if report["made"]]
            for group in packed([report["rows"] for report in own], most=self.bucket_rows):
                parts.append((number, [own[at]["made"] for at in group]))
                sizes.append(sum(own[at]["rows"] for at in group))
        groups = [[parts[at] for at in group] for group in packed(sizes, most=self.bucket_rows)]
        folder = self.lake.location(SILVER_TRANSACTIONS)
        task = partial(tasks.write_silver, feed=self.feed, groups=groups, constants=constants, folder=folder)
        return self.jobs.each("write Silver", groups, task)

    def _quarantine(
        self, read: Sequence[Report], cleaned: Sequence[Report], constants: Mapping[int, Mapping[str, str]]
    ) -> list[Report]:
        """Write what was refused: rows that are wrong by themselves, and lines that lost to others of their id."""
        parts, sizes = [], []
        for number in constants:
            of_key = _of(cleaned, number)
            searched = {file_no for report in of_key for (file_no,) in report["files"]}
            for report in _of(read, number):
                file_no = report["file_no"]
                file = self.landed[self.feed.keys[number]][file_no]
                if report["quarantined"] or file_no in searched:
                    files = (Raw(number, file_no, str(file.path), file.name),) * (file_no in searched)
                    rows = tuple(_paths([report], "quarantined"))
                    parts.append(Quarantine(number, rows, files, tuple(_paths(of_key, "refused"))))
                    sizes.append(file.size)
        groups = [[parts[at] for at in group] for group in packed(sizes, most=_GROUP_BYTES)]
        folder = self.lake.location(QUARANTINED_TRANSACTIONS)
        task = partial(tasks.write_quarantine, feed=self.feed, groups=groups, constants=constants, folder=folder)
        return self.jobs.each("write quarantine", groups, task)


def _build(
    key: str,
    input_digest: InputDigest,
    sums: FeatureSums,
    read: Sequence[Report],
    cleaned: Sequence[Report],
    written: Sequence[Report],
    quarantined: Sequence[Report],
) -> SilverBuild:
    """Return what a partition became, and that no row was lost or made on the way."""
    reasons = Counter[str]()
    for report in (*read, *cleaned):
        reasons.update(report["reasons"])
    landed, rows = sum(report["landed"] for report in read), sum(report["rows"] for report in written)
    refused = sum(report["rows"] for report in quarantined)
    if landed != rows + refused:
        raise RuntimeError(f"{landed} rows landed for {key}, but {rows} are good and {refused} quarantined.")
    return SilverBuild(
        partition_key=key,
        landed_rows=landed,
        silver_rows=rows,
        quarantined_rows=refused,
        quarantine_reasons=dict(sorted(reasons.items())),
        input_digest=input_digest,
        **vars(sums.digests),
    )


def _check(cleaned: Sequence[Report], written: Sequence[Report]) -> ContractCheck:
    """Return what `check_features` would say of all rows of a partition together."""
    violations = Counter[str]()
    for report in written:
        violations.update(report["violations"])
    if repeated := sum(report["repeated_ids"] for report in cleaned):
        violations["(partition_key, TransactionID) is unique"] += repeated
    return ContractCheck(rows=sum(report["rows"] for report in written), violations=dict(violations))


def _sums_of(windows: Iterable[Report]) -> FeatureSums:
    """Add up the sums of a partition's buckets; what later slices look back on is no other partition's."""
    total = FeatureSums()
    for report in windows:
        silver, tail, lookback = (RowSums(**report["sums"][part]) for part in ("silver", "tail", "lookback"))
        total += FeatureSums(silver, tail, RowSums() if report["slice"] else lookback)
    return total


def _of(reports: Iterable[Report], number: int) -> list[Report]:
    return [report for report in reports if report["key_no"] == number]


def _paths(reports: Iterable[Report], name: str) -> list[str]:
    return [report[name] for report in reports if report.get(name)]


def _files(reports: Iterable[Report]) -> list[DataFile]:
    return [DataFile(**report["written"]) for report in reports if report["written"] is not None]
