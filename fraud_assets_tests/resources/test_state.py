from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.platform_state import Made, PlatformState
from fraud_assets.resources.lake import Lake, open_lake
from fraud_assets.resources.landing_zone import LandingZone
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.state import (
    evaluated_labels_digest,
    read_state,
    silver_data_digest,
    silver_partitions,
    silver_states,
)
from fraud_assets.resources.tables import (
    ALERT_LISTS,
    EVALUATION_METRICS,
    PARTITION_BUILDS,
    PREDICTIONS,
    PROMOTIONS,
    REPORTS,
    SILVER_TRANSACTIONS,
    Table,
)
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.silver.labels import LabelsDigest
from fraud_assets.staleness import decide
from fraud_assets_tests.platform import WITHOUT_HISTORY

VERSIONS = ("input_version", "lookback_version", "tail_version", "silver_version")


class Registry(ModelRegistry):
    """A registry that knows nothing but its versions and which of them is behind @prod."""

    prod: str | None
    registered: list[str]

    def prod_version(self) -> str | None:
        return self.prod

    def versions(self) -> dict[str, dict[str, str]]:
        return {version: {} for version in self.registered}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "data")


def put(lake: Lake, table: Table, key: str, *rows: dict[str, Any]) -> None:
    fillers = {
        pa.string(): "x",
        pa.int32(): 1,
        pa.int64(): 1,
        pa.float64(): 0.5,
        pa.bool_(): True,
        pa.timestamp("us", tz="UTC"): datetime(2026, 1, 5, 12, tzinfo=UTC),
    }
    filler = {field.name: fillers[field.type] for field in table.schema}
    made = pa.Table.from_pylist([filler | row | {table.partition_by: key} for row in rows], schema=table.schema)
    lake.replace_partition(table, key, made, provenance={})


def versions(name: str) -> dict[str, str]:
    return {column: f"{column} {name}" for column in VERSIONS} | {"input_version": f"{name}-source-contract"}


def put_build(lake: Lake, key: str, name: str, rows: int) -> None:
    put(lake, PARTITION_BUILDS, key, {**versions(name), "silver_rows": rows})


def put_silver(lake: Lake, key: str, name: str, rows: int) -> None:
    put(lake, SILVER_TRANSACTIONS, key, *[versions(name)] * rows)


def silver(name: str, rows: int) -> Made:
    return Made(rows, versions(name))


# Silver


def test_a_built_partition_is_known_by_its_rows(lake: Lake) -> None:
    put_build(lake, "2026-01-05", "first", 2)
    put_silver(lake, "2026-01-05", "first", 2)
    assert silver_states(lake) == {"2026-01-05": silver("first", 2)}


def test_a_built_partition_without_a_good_row_is_known_too(lake: Lake) -> None:
    put_build(lake, "2026-01-05", "first", 0)
    put_silver(lake, "2026-01-05", "first", 0)
    assert silver_states(lake) == {"2026-01-05": silver("first", 0)}


@pytest.mark.parametrize(
    ("rows_before", "rows_now", "expected"),
    [
        pytest.param(2, 3, {"2026-01-05": silver("before", 2)}, id="its rows changed"),
        pytest.param(2, 0, {"2026-01-05": silver("before", 2)}, id="it lost its rows"),
        pytest.param(0, 3, {}, id="it got its first rows"),
    ],
)
def test_a_build_that_was_killed_before_its_rows_were_written_does_not_count(
    lake: Lake, rows_before: int, rows_now: int, expected: dict[str, Made]
) -> None:
    put_build(lake, "2026-01-05", "before", rows_before)
    put_silver(lake, "2026-01-05", "before", rows_before)
    put_build(lake, "2026-01-05", "now", rows_now)  # The run that would write the rows next is gone.
    assert silver_states(lake) == expected


def test_a_partition_may_be_emptied_and_filled_again(lake: Lake) -> None:
    seen = []
    for name, rows in (("full", 2), ("empty", 0), ("again", 1)):
        put_build(lake, "2026-01-05", name, rows)
        put_silver(lake, "2026-01-05", name, rows)
        seen.append(silver_states(lake)["2026-01-05"])
    assert seen == [silver("full", 2), silver("empty", 0), silver("again", 1)]


WITHOUT = dict.fromkeys(VERSIONS)
"""The versions of rows that something else wrote."""


def write(lake: Lake, key: str, *rows: dict[str, Any]) -> str:
    """Write a Silver partition as something else does; return the digest of its files."""
    put(lake, SILVER_TRANSACTIONS, key, *rows)
    return lake.partition_states(SILVER_TRANSACTIONS, ())[key]["files"]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([WITHOUT], id="without versions"),
        pytest.param([WITHOUT, versions("theirs")], id="some with versions"),
        pytest.param([versions("theirs") | {"tail_version": None}], id="without one of them"),
        pytest.param([versions("one"), versions("other")], id="with several"),
        pytest.param([versions("theirs")], id="with versions that nobody recorded"),
    ],
)
def test_what_something_else_wrote_is_known_once_it_is_adopted_and_until_its_files_change(
    lake: Lake, rows: list[dict[str, Any]]
) -> None:
    first = write(lake, "2026-01-05", *rows)
    assert silver_partitions(lake) == ({}, {"2026-01-05": first})

    adopted = {"input_version": first, "lookback_version": "", "tail_version": "t", "silver_version": "s"}
    put(lake, PARTITION_BUILDS, "2026-01-05", {**adopted, "silver_rows": len(rows)})
    assert silver_partitions(lake) == ({"2026-01-05": Made(len(rows), adopted)}, {})

    second = write(lake, "2026-01-05", *rows)
    assert silver_partitions(lake) == ({}, {"2026-01-05": second})
    assert first != second


@pytest.mark.parametrize("built_rows", [2, 0])
def test_what_was_written_over_a_built_partition_is_not_the_build(lake: Lake, built_rows: int) -> None:
    put_build(lake, "2026-01-05", "first", built_rows)
    put_silver(lake, "2026-01-05", "first", built_rows)
    written = write(lake, "2026-01-05", WITHOUT)
    assert silver_partitions(lake) == ({}, {"2026-01-05": written})


def test_the_state_of_an_earlier_version_is_the_one_of_that_version(lake: Lake) -> None:
    put_build(lake, "2026-01-05", "first", 2)
    put_silver(lake, "2026-01-05", "first", 2)
    before = lake.version(SILVER_TRANSACTIONS)
    write(lake, "2026-01-05", WITHOUT)
    assert silver_states(lake, before) == {"2026-01-05": silver("first", 2)}
    assert silver_states(lake) == {}


def test_the_silver_data_digest_is_of_all_that_a_model_would_see() -> None:
    five, six = silver("five", 2), silver("six", 1)
    both = silver_data_digest({"2026-01-05": five, "2026-01-06": six})
    assert both == silver_data_digest({"2026-01-06": six, "2026-01-05": five})
    assert both == silver_data_digest({"2026-01-05": five, "2026-01-06": six, "2026-01-07": silver("none", 0)})
    others = [
        silver_data_digest({"2026-01-05": five}),
        silver_data_digest({"2026-01-05": six, "2026-01-06": five}),
        silver_data_digest({"2026-01-05": five, "2026-01-06": silver("corrected", 1)}),
        silver_data_digest({}),
    ]
    assert len({both, *others}) == 5
    assert len(both) <= 64  # Delta cuts longer texts in its statistics.


# The whole


def make_source(folder: Path) -> str:
    path = folder / "small.toml"
    path.write_text(
        """
        name = "small"
        [partitions]
        grain = "daily"
        start = "2026-01-01"
        [columns]
        TransactionID = "id"
        event_timestamp = "time"
        card_id = "card"
        TransactionAmt = "amount"
        ProductCD = "product"
        is_international_txn = "abroad"
        [features]
        high_value_amount = 500.0
        """
    )
    return str(path)


def state_of(
    lake: Lake, tmp_path: Path, *, prod: str | None, registered: tuple[str, ...] | None = None, rescore_days: int = 0
) -> PlatformState:
    zone = LandingZone(data_dir=lake.data_dir, source_file=make_source(tmp_path))
    registry = Registry(
        source_name="simulated",
        tracking_uri="sqlite:///none.db",
        registry_uri=None,
        model_name="none",
        data_dir=lake.data_dir,
        prod=prod,
        registered=list(registered if registered is not None else filter(None, [prod])),
    )
    return read_state(lake, zone, registry, landing=zone.look(), rescore_days=rescore_days, alerts_per_day=100)


def test_the_state_of_nothing_is_empty_and_leaves_no_trace(lake: Lake, tmp_path: Path) -> None:
    state = state_of(lake, tmp_path, prod=None)
    assert state == PlatformState(
        {}, {"silver": {}, "gold": {}, "history": {}, "alerts": {}, "report": {}}, {}, None, silver_data_digest({})
    )
    assert decide(state).due == ()
    assert not Path(lake.data_dir).exists()


def test_the_state_holds_what_landed_was_built_and_was_scored(lake: Lake, tmp_path: Path) -> None:
    landed = Path(lake.data_dir) / "landing" / "2026-01-06" / "a.csv"
    landed.parent.mkdir(parents=True)
    landed.write_text("id\n")
    put_build(lake, "2026-01-05", "first", 2)
    put_silver(lake, "2026-01-05", "first", 2)
    put(lake, PREDICTIONS, "2026-01-05", *[{"silver_version": "s", "model_version": "3"}] * 2)

    state = state_of(lake, tmp_path, prod="4", rescore_days=2)

    assert list(state.landed) == ["2026-01-06"]
    assert state.silver == {"2026-01-05": silver("first", 2)}
    assert state.gold == {"2026-01-05": Made(2, {"silver_version": "s", "model_version": "3"})}
    assert state.previous_key == {"2026-01-05": "2026-01-04", "2026-01-06": "2026-01-05"}
    assert (state.prod_version, state.rescore_days, state.refused_on) == ("4", 2, None)
    assert state.silver_data_digest == silver_data_digest(state.silver)
    assert [(due.stage, due.key) for due in decide(state).due] == [
        ("silver", "2026-01-06"),
        ("gold", "2026-01-05"),
        ("history", "2026-01-05"),
    ]


def test_no_data_file_is_opened(lake: Lake, tmp_path: Path) -> None:
    put_build(lake, "2026-01-05", "first", 2)
    put_silver(lake, "2026-01-05", "first", 2)
    put(lake, PREDICTIONS, "2026-01-05", {"silver_version": "s", "model_version": "3"})
    before = state_of(lake, tmp_path, prod="3")
    for file in Path(lake.data_dir).rglob("*.parquet"):
        file.unlink()
    assert state_of(lake, tmp_path, prod="3") == before


def test_an_empty_partition_is_not_asked_for_again(lake: Lake, tmp_path: Path) -> None:
    landed = Path(lake.data_dir) / "landing" / "2026-01-05" / "a.csv"
    landed.parent.mkdir(parents=True)
    landed.write_text("id\n")
    built = {
        "input_version": str(state_of(lake, tmp_path, prod="1").landed["2026-01-05"]),
        "lookback_version": EMPTY_TAIL,
        "tail_version": EMPTY_TAIL,
        "silver_version": "s",
    }
    put(lake, PARTITION_BUILDS, "2026-01-05", {**built, "silver_rows": 0})
    assert {item.stage for item in decide(state_of(lake, tmp_path, prod="1")).due} == {"report"}  # it says so


def test_the_latest_refusal_counts_while_no_version_is_behind_prod(lake: Lake, tmp_path: Path) -> None:
    noon = datetime(2026, 2, 1, 12, tzinfo=UTC)
    for version, decision, minutes in (
        ("1", "refused", 0),
        ("2", "refused", 2),
        ("3", "promoted", 3),
        ("4", "refused", 1),
    ):
        decided = {"decision": decision, "decided_at": noon + timedelta(minutes=minutes)}
        put(lake, PROMOTIONS, version, {**decided, "silver_data_version": f"d{version}"})
    assert state_of(lake, tmp_path, prod=None, registered=("1", "2", "3", "4")).refused_on == "d2"
    assert state_of(lake, tmp_path, prod="3").refused_on is None
    assert state_of(lake, tmp_path, prod=None, registered=()).refused_on is None, "a registry without versions"

    lost = {"decision": "lost", "decided_at": noon + timedelta(minutes=4)}
    put(lake, PROMOTIONS, "5", {**lost, "silver_data_version": None})
    assert state_of(lake, tmp_path, prod=None, registered=("1",)).refused_on is None


@pytest.mark.parametrize(
    ("decided", "registered", "expected"),
    [
        pytest.param([], ("1",), False, id="nothing was decided"),
        pytest.param(["refused"], ("1",), False, id="no version was ever there"),
        pytest.param(["promoted"], ("1",), True, id="a version was there"),
        pytest.param(["promoted", "refused"], ("1", "2"), True, id="a later one was refused"),
        pytest.param(["refused", "rolled back"], ("2",), True, id="rolled back to"),
        pytest.param(["withdrawn"], ("1",), True, id="recorded as taken away"),
        pytest.param(["promoted", "withdrawn"], (), False, id="the registry is new"),
        pytest.param(["promoted", "lost"], ("1",), False, id="of another registry"),
    ],
)
def test_prod_was_taken_away_where_it_was_set_before_and_there_are_versions_to_choose_from(
    lake: Lake, tmp_path: Path, decided: list[str], registered: tuple[str, ...], expected: bool
) -> None:
    for version, decision in enumerate(decided, start=1):
        decided_at = datetime(2026, 2, 1, 12, version, tzinfo=UTC)
        put(lake, PROMOTIONS, str(version), {"decision": decision, "decided_at": decided_at})
    assert state_of(lake, tmp_path, prod=None, registered=registered).prod_taken_away is expected
    assert not state_of(lake, tmp_path, prod="1").prod_taken_away


def put_evaluation(lake: Lake, version: str, window: tuple[str, str] | None, labels_digest: LabelsDigest) -> None:
    start, end = window or (None, None)
    row = {"evaluation_start": start, "evaluation_end": end, "labels_version": str(labels_digest)}
    put(lake, EVALUATION_METRICS, version, row, row)


@pytest.mark.parametrize(
    ("window", "changes"),
    [
        pytest.param(("2026-01-06", "2026-01-07"), {"2026-01-06", "2026-01-07"}, id="the evaluated days"),
        pytest.param(None, set(), id="no day was later than the training"),
    ],
)
def test_an_evaluation_is_of_its_window_as_built_whatever_else_is_built(
    lake: Lake, tmp_path: Path, window: tuple[str, str] | None, changes: set[str]
) -> None:
    for key in ("2026-01-05", "2026-01-06", "2026-01-07"):
        put_build(lake, key, "first", 2)
        put_silver(lake, key, "first", 2)
    put_evaluation(lake, "1", window, evaluated_labels_digest([], silver_states(lake), window))
    changed = set()
    for key in ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"):
        put_build(lake, key, "second", 2)
        put_silver(lake, key, "second", 2)
        found = state_of(lake, tmp_path, prod="1").evaluation
        assert found is not None
        if found.evaluated_on != found.now:
            changed.add(key)
        put_evaluation(lake, "1", window, found.now)
    assert changed == changes


def test_a_file_of_labels_makes_the_evaluation_of_the_latest_version_due_and_nothing_else(
    lake: Lake, tmp_path: Path
) -> None:
    day = Path(lake.data_dir) / "landing" / "2026-01-05" / "a.csv"
    day.parent.mkdir(parents=True)
    day.write_text("id\n")
    built = versions("first") | {
        "input_version": str(state_of(lake, tmp_path, prod="2").landed["2026-01-05"]),
        "lookback_version": EMPTY_TAIL,
    }
    put(lake, PARTITION_BUILDS, "2026-01-05", {**built, "silver_rows": 1})
    put(lake, SILVER_TRANSACTIONS, "2026-01-05", built)
    scored = {"silver_version": built["silver_version"], "model_version": "2"}
    put(lake, PREDICTIONS, "2026-01-05", scored)
    put(lake, ALERT_LISTS, "2026-01-05", {**scored, "alerts_per_day": 100})
    evaluated = evaluated_labels_digest([], {}, None)
    shown = {"alerts_per_day": 100, "evaluation_version": str(evaluated), "reviews_version": ""}
    put(lake, REPORTS, "2026-01-05", scored | shown)
    put_evaluation(lake, "2", None, evaluated)
    put_evaluation(lake, "1", None, LabelsDigest("of an", "older version"))
    assert decide(state_of(lake, tmp_path, prod="2"), WITHOUT_HISTORY).due == ()
    labels = Path(lake.data_dir) / "landing" / "labels" / "a.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("TransactionID,isFraud\n1,1\n")
    assert [due.stage for due in decide(state_of(lake, tmp_path, prod="2"), WITHOUT_HISTORY).due] == ["evaluation"]
    assert state_of(lake, tmp_path, prod=None).evaluation is None, "the registry has lost its versions"
    assert state_of(lake, tmp_path, prod="3").evaluation is None, "nobody evaluated it yet"


def test_the_latest_version_that_was_evaluated_and_is_registered_still_is_the_one_that_labels_are_about(
    lake: Lake, tmp_path: Path
) -> None:
    for version in ("2", "9", "10", "12"):
        put_evaluation(lake, version, None, LabelsDigest("labels of", version))
    found = state_of(lake, tmp_path, prod="2", registered=("2", "9", "10", "11")).evaluation
    assert found is not None
    assert (found.model_version, found.evaluated_on) == ("10", LabelsDigest("labels of", "10"))
