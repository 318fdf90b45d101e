import codecs
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_assets.files import replacing
from fraud_assets.resources.grain import AnotherGrainError, record_grain, require_grain
from fraud_assets.resources.landing_zone import (
    LandedPiece,
    LandingZone,
    NothingLandedError,
)
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.raw_files import BrokenFileError, RawFile
from fraud_assets.silver.splitting import NoUsableTimeError
from fraud_assets_tests.depth import cases
from fraud_assets_tests.silver.feed import iter_records

HEADER = "id,time,card,product,amount,abroad,fraud"
ONE_OF = ".csv, .csv.gz, .parquet, .jsonl, .jsonl.gz, .ndjson, .ndjson.gz"
OPEN = "without end"
REMEDY = "to build it, give its file another start or end in [partitions]"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def make_zone(folder: Path, *, grain: str = "daily", end: str = "", csv: str = "") -> LandingZone:
    """Return the landing zone of a feed of seven raw columns that starts on 2026-01-01."""
    source = folder / f"small_{grain}.toml"
    source.write_text(
        f"""
        name = "small"
        [partitions]
        grain = "{grain}"
        start = "2026-01-01"
        {f'end = "{end}"' if end else ""}
        [types]
        {"time" if "header" not in csv else "c2"} = "TIMESTAMPTZ"
        [columns]
        TransactionID = "{"id" if "header" not in csv else "c1"}"
        event_timestamp = "{"time" if "header" not in csv else "c2"}"
        card_id = "'c'"
        TransactionAmt = "1.5"
        ProductCD = "'W'"
        is_international_txn = "false"
        [features]
        high_value_amount = 500.0
        [csv]
        {csv}
        """
    )
    return LandingZone(data_dir=str(folder / "data"), source_file=str(source))


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    return make_zone(tmp_path)


def drop(zone: LandingZone, name: str, content: bytes = b"x\n") -> Path:
    """Put a file under landing, as any program may."""
    path = zone.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(zone: LandingZone, **how: bool) -> dict[str, list[str]]:
    return {key: [file.path.name for file in files] for key, files in zone.look(**how).partitions.items()}


def landed(zone: LandingZone) -> dict[str, bytes]:
    """Return the content of what counts, by partition; several files of one are joined."""
    return {key: b"".join(file.path.read_bytes() for file in files) for key, files in zone.look().partitions.items()}


def everything(zone: LandingZone) -> dict[str, bytes]:
    return {
        str(path.relative_to(zone.folder)): path.read_bytes()
        for path in sorted(zone.folder.rglob("*"))
        if path.is_file()
    }


def row(identifier: str, time: str, **changes: str) -> str:
    cells = {"id": identifier, "time": time, "card": "c1", "product": "W", "amount": "1.5", "abroad": "0", "fraud": ""}
    return ",".join((cells | changes).values())


def csv_bytes(*rows: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    return "".join(line + end for line in (HEADER, *rows)).encode(encoding)


# Looking


def test_nothing_is_there_before_anything_landed(zone: LandingZone) -> None:
    assert zone.look().partitions == {}
    assert zone.look().notes == ()
    assert not zone.folder.exists()


def test_each_partition_lists_its_files_with_size_and_digest(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv", b"hello\n")
    [file] = zone.look().partitions["2026-01-05"]
    assert (file.name, file.size, file.digest) == ("2026-01-05/a.csv", 6, "5891b5b522d5df08")
    assert file.raw == RawFile(path=zone.folder / "2026-01-05/a.csv", name="2026-01-05/a.csv")


def test_files_stand_in_the_order_in_which_they_landed(zone: LandingZone) -> None:
    for name, seconds in (("b.csv", 1), ("a.csv", 2), ("d.csv", 0), ("c.csv", 2)):
        os.utime(drop(zone, f"2026-01-05/{name}"), (seconds, seconds))
    assert names(zone) == {"2026-01-05": ["d.csv", "b.csv", "a.csv", "c.csv"]}


def test_names_that_writers_use_while_they_write_are_ignored(zone: LandingZone) -> None:
    for name in (".a.csv", "_a.csv", "a.csv.tmp", "a.csv.part", "_superseded-a.csv"):
        drop(zone, f"2026-01-05/{name}")
    for folder in (".2026-01-06", "_2026-01-06", "2026-01-06.tmp", "labels"):
        drop(zone, f"{folder}/a.csv")
    assert zone.look().partitions == {}
    assert zone.look().notes == ()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "A.CSV", "a.Csv.GZ", "A.PARQUET"])
def test_a_suffix_is_known_whatever_its_case(zone: LandingZone, name: str) -> None:
    drop(zone, f"2026-01-05/{name}")
    assert names(zone) == {"2026-01-05": [name]}


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("2026-01-05/a.txt", f"landing/2026-01-05/a.txt is not one of {ONE_OF}"),
        ("2026-01-05/a.gz", f"landing/2026-01-05/a.gz is not one of {ONE_OF}"),
        ("2026-01-05/a.parquet/part-0.parquet", f"landing/2026-01-05/a.parquet is not one of {ONE_OF}"),
        ("2026-01-05-07/a.csv", "landing/2026-01-05-07 is not a daily partition (%Y-%m-%d)"),
        ("5th of May/a.csv", "landing/5th of May is not a daily partition (%Y-%m-%d)"),
        ("2026-1-5/a.csv", "landing/2026-1-5 is not a daily partition (%Y-%m-%d)"),
        # The last day that Python knows has no end that it knows: exports write it for "never".
        ("9999-12-31/a.csv", "landing/9999-12-31 is not a daily partition (%Y-%m-%d)"),
        (
            "2025-12-31/a.csv",
            f"landing: 2025-12-31 lies outside the days of source small (2026-01-01 {OPEN}): {REMEDY}",
        ),
        ("9999-12-30/a.csv", "landing/9999-12-30 is in the future, and waits"),
        (
            "a.csv",
            "landing/a.csv is in no partition's folder; `fraud-assets land FILE` splits a file into partitions",
        ),
    ],
)
def test_what_cannot_be_built_is_said(zone: LandingZone, name: str, note: str) -> None:
    drop(zone, name)
    assert zone.look().notes == (note,)
    assert zone.look().partitions == {}


def test_the_end_of_a_feed_is_exclusive(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, end="2026-01-06")
    for day in ("2026-01-05", "2026-01-06"):
        drop(zone, f"{day}/a.csv")
    assert names(zone) == {"2026-01-05": ["a.csv"]}
    range_ = "2026-01-01 to 2026-01-06, exclusive"
    assert zone.look().notes == (f"landing: 2026-01-06 lies outside the days of source small ({range_}): {REMEDY}",)


def test_an_hourly_feed_has_hours(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, grain="hourly")
    for key in ("2026-01-05-07", "2026-01-05"):
        drop(zone, f"{key}/a.csv")
    assert names(zone) == {"2026-01-05-07": ["a.csv"]}
    assert zone.look().notes == ("landing/2026-01-05 is not a hourly partition (%Y-%m-%d-%H)",)


def test_files_of_a_partition_without_any_names_the_command_that_lands_them(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    assert [file.name for file in zone.files("2026-01-05")] == ["2026-01-05/a.csv"]
    with pytest.raises(NothingLandedError, match=r"Nothing landed for 2026-01-06 in .*`fraud-assets land FILE`"):
        zone.files("2026-01-06")


def test_a_link_to_nothing_is_passed_over(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    (zone.folder / "2026-01-05/gone.csv").symlink_to(zone.folder / "nowhere.csv")
    assert names(zone) == {"2026-01-05": ["a.csv"]}


def test_a_file_that_cannot_be_read_costs_its_own_partition_alone_and_is_said(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    drop(zone, "2026-01-06/a.csv")
    loop = zone.folder / "2026-01-05/b.csv"
    loop.symlink_to(loop)
    assert names(zone) == {"2026-01-05": ["a.csv"], "2026-01-06": ["a.csv"]}
    [note] = zone.look().notes
    assert note.startswith("landing/2026-01-05/b.csv cannot be read (Too many levels of symbolic links)")
    assert note.endswith("let the platform's user read it, or take it away")


def test_a_file_that_can_no_longer_be_read_counts_as_it_was(zone: LandingZone) -> None:
    file = drop(zone, "2026-01-05/a.csv")
    drop(zone, "2026-01-05/b.csv")
    before = zone.look().partitions
    file.unlink()
    file.symlink_to(file)
    for _ in range(2):
        assert zone.look().partitions == before
        assert len(zone.look().notes) == 1


_LOOK_AS_NOBODY = """
import json, os, sys
from fraud_assets.resources.landing_zone import LandingZone
zone = LandingZone(data_dir="data", source_file=sys.argv[1])
zone.look(remember=False)  # Imports what nobody else may read.
if os.getuid() == 0:  # Root may read everything.
    os.setuid(65534)
found = zone.look(remember=False)
print(json.dumps([[*found.partitions], found.notes]))
"""


def test_files_and_folders_of_another_user_are_said_and_hide_no_others(zone: LandingZone, tmp_path: Path) -> None:
    drop(zone, "2026-01-05/a.csv")
    drop(zone, "2026-01-06/a.csv").chmod(0)
    drop(zone, "2026-01-07/a.csv").parent.chmod(0)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", _LOOK_AS_NOBODY, zone.source_file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (zone.folder / "2026-01-07").chmod(0o755)
    assert done.returncode == 0, done.stderr
    partitions, notes = json.loads(done.stdout)
    assert partitions == ["2026-01-05"]
    assert [note.split(" and does")[0] for note in notes] == [
        "landing/2026-01-06/a.csv cannot be read (Permission denied)",
        "landing/2026-01-07 cannot be read (Permission denied)",
    ]


# Settling: a file counts once its size and time have held for one look


def test_a_file_counts_at_the_second_look(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    first = zone.look(only_stable=True)
    assert first.partitions == {}
    assert first.notes == ("landing/2026-01-05/a.csv has just been seen: it counts at the next look",)
    second = zone.look(only_stable=True)
    assert [file.digest for file in second.partitions["2026-01-05"]] == ["73cb3858a687a849"]
    assert second.notes == ()


def test_a_file_that_was_renamed_into_place_counts_at_once(zone: LandingZone) -> None:
    path = drop(zone, "2026-01-05/a.csv.part")
    time.sleep(0.05)  # more than the system's clock for files is coarse
    path.rename(path.with_suffix(""))
    assert names(zone, only_stable=True) == {"2026-01-05": ["a.csv"]}


def test_a_file_that_is_named_by_its_content_counts_once_it_is_whole(zone: LandingZone) -> None:
    path = drop(zone, "2026-01-05/3e23e8160039594a.csv", b"half")
    assert zone.look(only_stable=True).partitions == {}
    path.write_bytes(b"b")
    assert names(zone, only_stable=True) == {"2026-01-05": ["3e23e8160039594a.csv"]}


def test_a_file_that_is_written_and_renamed_within_one_tick_of_the_clock_counts_at_once(zone: LandingZone) -> None:
    (zone.folder / "2026-01-05").mkdir(parents=True)
    written = [zone.folder / f"2026-01-05/{number:02}.csv" for number in range(20)]
    for path in written:
        with replacing(path) as fresh:
            fresh.write_bytes(b"x\n")
    assert zone.look(only_stable=True).notes == ()
    assert names(zone) == {"2026-01-05": [path.name for path in written]}


def test_a_file_that_was_renamed_and_is_written_again_waits(zone: LandingZone) -> None:
    path = drop(zone, "2026-01-05/a.csv.part")
    time.sleep(0.05)
    path = path.rename(path.with_suffix(""))
    with path.open("ab") as opened:
        opened.write(b"more")
    assert zone.look(only_stable=True).partitions == {}


def test_who_watches_learns_of_a_file_that_landed_and_of_none_that_is_being_written(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    with zone.watched() as landed:
        path = drop(zone, "2026-01-05/.b.csv.tmp")
        assert not landed(0.5)
        path.rename(path.with_name("b.csv"))
        assert landed(60)


def test_where_there_is_no_folder_nobody_waits(zone: LandingZone, tmp_path: Path) -> None:
    zone = zone.model_copy(update={"data_dir": str(tmp_path / "nowhere")})
    with zone.watched() as landed:
        assert not landed(3600)


def test_a_file_that_grows_starts_again(zone: LandingZone) -> None:
    path = drop(zone, "2026-01-05/a.csv")
    for size in (3, 4, 5):
        assert zone.look(only_stable=True).partitions == {}
        path.write_bytes(b"x" * size)
    assert zone.look(only_stable=True).partitions == {}
    assert names(zone, only_stable=True) == {"2026-01-05": ["a.csv"]}


def test_a_look_that_is_not_remembered_leaves_no_trace(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    before = sorted(Path(zone.data_dir).rglob("*"))
    for _ in range(3):
        assert zone.look(only_stable=True, remember=False).partitions == {}
    assert sorted(Path(zone.data_dir).rglob("*")) == before
    assert zone.look(only_stable=True).partitions == {}


def test_a_new_file_does_not_hide_the_files_beside_it(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    zone.look()
    drop(zone, "2026-01-05/b.csv")
    assert names(zone, only_stable=True) == {"2026-01-05": ["a.csv"]}
    assert names(zone, only_stable=True) == {"2026-01-05": ["a.csv", "b.csv"]}


def test_a_partition_counts_as_it_was_while_one_of_its_files_changes(zone: LandingZone) -> None:
    for name in ("a.csv", "b.csv"):
        drop(zone, f"2026-01-05/{name}", name.encode())
    before = zone.input_digest(zone.look().partitions["2026-01-05"])
    for content in (b"half", b"halfway", b"whole file"):
        drop(zone, "2026-01-05/b.csv", content)
        # A run for a half-written file, or for the file beside it alone, would be asked for here.
        for remember in (False, True):
            assert zone.input_digest(zone.look(only_stable=True, remember=remember).partitions["2026-01-05"]) == before
    after = zone.input_digest(zone.look(only_stable=True).partitions["2026-01-05"])
    assert after == zone.input_digest(zone.files("2026-01-05"))
    assert after != before


def test_a_person_who_looks_does_not_wait(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    assert names(zone) == {"2026-01-05": ["a.csv"]}


# Digests


def test_a_digest_is_kept_by_size_time_and_inode(zone: LandingZone) -> None:
    path = drop(zone, "2026-01-05/a.csv", b"one\n")
    os.utime(path, (1, 1))
    [before] = zone.look().partitions["2026-01-05"]

    path.write_bytes(b"two\n")  # The same size in the same file, and below the same time: not read again.
    os.utime(path, (1, 1))
    assert zone.look().partitions["2026-01-05"] == (before,)

    os.utime(path, (2, 2))
    [by_time] = zone.look().partitions["2026-01-05"]
    path.write_bytes(b"three\n")
    os.utime(path, (2, 2))
    [by_size] = zone.look().partitions["2026-01-05"]
    beside = drop(zone, "2026-01-05/.a.csv", b"four!\n")
    os.utime(beside, (2, 2))
    beside.replace(path)
    [by_inode] = zone.look().partitions["2026-01-05"]
    assert len({before.digest, by_time.digest, by_size.digest, by_inode.digest}) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[1"])
def test_a_damaged_digest_cache_costs_a_look(zone: LandingZone, damage: bytes) -> None:
    drop(zone, "2026-01-05/a.csv")
    before = zone.look()
    cache = Path(zone.data_dir) / ".landing_digests.json"
    assert json.loads(cache.read_bytes())
    cache.write_bytes(damage)
    assert zone.look() == before


def test_looking_at_one_partition_keeps_what_is_known_of_the_others(zone: LandingZone) -> None:
    for day in ("2026-01-05", "2026-01-06"):
        drop(zone, f"{day}/a.csv")
    zone.look()
    drop(zone, "2026-01-05/b.csv")
    zone.files("2026-01-05")
    assert names(zone, only_stable=True) == {"2026-01-05": ["a.csv", "b.csv"], "2026-01-06": ["a.csv"]}


# Claiming


def test_a_data_directory_is_of_one_grain(tmp_path: Path) -> None:
    daily, hourly = make_zone(tmp_path), make_zone(tmp_path, grain="hourly")
    require_grain(Path(daily.data_dir), daily.source)
    hourly.look()
    assert everything(daily) == everything(hourly)  # Looking claims nothing, whoever comes first.
    record_grain(Path(daily.data_dir), daily.source)
    record_grain(Path(daily.data_dir), daily.source)
    daily.look()
    with pytest.raises(AnotherGrainError):
        hourly.look()
    with pytest.raises(AnotherGrainError, match=r"holds daily partitions and source small is hourly.*FRAUD_DATA_DIR"):
        record_grain(Path(hourly.data_dir), hourly.source)
    with pytest.raises(AnotherGrainError):
        hourly.files("2026-01-05-07")


def test_landing_claims_the_directory_that_it_makes(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    daily, hourly = make_zone(tmp_path), make_zone(tmp_path, grain="hourly")
    file = tmp_path / "feed.csv"
    file.write_bytes(csv_bytes(row("A", "2026-01-05 07:00:00")))
    hourly.land(con, file)
    before = everything(hourly)
    with pytest.raises(AnotherGrainError, match="holds hourly partitions"):
        record_grain(Path(daily.data_dir), daily.source)
    with pytest.raises(AnotherGrainError, match="holds hourly partitions"):
        daily.land(con, file)
    assert everything(daily) == before


# Landing


# Late labels


def labels(zone: LandingZone, **how: bool) -> list[str]:
    return [file.name for file in zone.look(**how).labels]


def test_files_of_labels_are_no_partition_and_stand_in_the_order_in_which_they_landed(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv")
    for name, seconds in (("b.csv", 1), ("a.csv.gz", 2), ("c.parquet", 0), ("_d.csv", 3), (".e.csv", 3), ("f.part", 3)):
        os.utime(drop(zone, f"labels/{name}"), (seconds, seconds))
    drop(zone, "labels/notes.txt")

    assert labels(zone) == ["labels/c.parquet", "labels/b.csv", "labels/a.csv.gz"]
    assert [file.name for file in zone.label_files()] == labels(zone)
    assert names(zone) == {"2026-01-05": ["a.csv"]}
    assert zone.look().notes == (
        "landing/labels/notes.txt is not one of .csv, .csv.gz, .parquet, .jsonl, .jsonl.gz, .ndjson, .ndjson.gz",
    )


def test_a_file_of_labels_counts_at_the_second_remembered_look_of_a_sensor(zone: LandingZone) -> None:
    drop(zone, "labels/a.csv")
    assert labels(zone, only_stable=True) == []
    assert labels(zone, only_stable=True, remember=False) == [], "the other sensor may look at once"
    assert labels(zone, only_stable=True) == ["labels/a.csv"]


def test_decisions_that_land_again_count_as_the_latest_unless_they_are_it_already(zone: LandingZone) -> None:
    fraud, genuine = ("TransactionID,outcome\nt1,fraud\n", "TransactionID,outcome\nt1,genuine\n")
    first, is_new = zone.land_review(fraud)
    assert (is_new, zone.land_review(fraud)) == (True, (first, False))
    second, _ = zone.land_review(genuine)
    for at, name in enumerate((first, second)):  # clocks are too coarse to tell them apart
        os.utime(zone.folder / name, (at, at))
    assert [file.name for file in zone.review_files()] == [first, second]
    assert zone.land_review(fraud) == (first, True)
    assert [file.name for file in zone.review_files()] == [second, first]
    assert zone.land_review(fraud) == (first, False)


def test_no_label_has_to_land(zone: LandingZone) -> None:
    assert zone.look().labels == ()
    assert zone.label_files() == ()
    (zone.folder / "labels").mkdir(parents=True)
    assert zone.look().labels == ()
    assert zone.look().notes == ()


def write(zone: LandingZone, content: bytes, name: str = "feed.csv") -> Path:
    file = Path(zone.data_dir).parent / name
    file.write_bytes(content)
    return file


def land(zone: LandingZone, con: duckdb.DuckDBPyConnection, content: bytes, **how: Any) -> list[LandedPiece]:
    file = write(zone, content, how.pop("name", "feed.csv"))
    return list(zone.land(con, file, **how).pieces)


def test_a_file_is_split_by_event_time(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    rows = [row("A", "2026-01-06 10:00:00"), row("B", "2026-01-05 23:59:59"), row("C", "2026-01-06 00:00:00")]
    pieces = land(zone, con, csv_bytes(*rows))
    assert landed(zone) == {"2026-01-05": csv_bytes(rows[1]), "2026-01-06": csv_bytes(rows[0], rows[2])}
    assert [(piece.partition_key, piece.records, piece.is_new) for piece in pieces] == [
        ("2026-01-05", 1, True),
        ("2026-01-06", 2, True),
    ]
    assert [file.path.name for files in zone.look().partitions.values() for file in files] == [
        f"{file.digest}.csv" for files in zone.look().partitions.values() for file in files
    ]


def test_an_hourly_feed_is_split_by_hour_in_utc(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    zone = make_zone(tmp_path, grain="hourly")
    rows = [row("A", "2026-01-05 23:59:59"), row("B", "2026-01-06 01:30:00+02"), row("C", "2026-01-06 00:00:00")]
    land(zone, con, csv_bytes(*rows))
    assert landed(zone) == {"2026-01-05-23": csv_bytes(*rows[:2]), "2026-01-06-00": csv_bytes(rows[2])}


FIFTH, SIXTH = "2026-01-05 10:00:00", "2026-01-06 10:00:00"


@pytest.mark.parametrize(
    ("rows", "end", "csv", "encoding"),
    [
        pytest.param([row("A", FIFTH), row("B", SIXTH)], "\n", "", "utf-8", id="plain"),
        pytest.param([row("A", FIFTH), row("B", SIXTH)], "\r\n", "", "utf-8", id="CRLF"),
        pytest.param([row("A", FIFTH), row("B", SIXTH)], "\r", "", "utf-8", id="CR"),
        pytest.param([row("A", FIFTH, product='"5"" , screen"'), row("B", SIXTH)], "\n", "", "utf-8", id="quotes"),
        pytest.param(
            [row("A", FIFTH, product='"a\r\n\nb"'), row("B", SIXTH)], "\n", "", "utf-8", id="line ends inside"
        ),
        pytest.param([row("A", FIFTH, product="  caffè ☕ "), row("B", SIXTH)], "\n", "", "utf-8", id="beyond ASCII"),
        pytest.param(
            [row("A", FIFTH, product="caffè"), row("B", SIXTH)], "\n", 'encoding = "latin-1"', "latin-1", id="1"
        ),
        pytest.param(
            [row("A", FIFTH, product="ü"), row("B", SIXTH)], "\n", 'encoding = "utf-16"', "utf-16", id="utf-16"
        ),
        pytest.param(
            [row("A", FIFTH), row("B", SIXTH)], "\n", 'encoding = "utf-8-sig"', "utf-8-sig", id="BOM, declared"
        ),
        pytest.param(
            [row("A", FIFTH, product="'a,b'"), row("B", SIXTH)], "\n", 'quote = "\'"', "utf-8", id="own quote"
        ),
        pytest.param(
            [row("A", FIFTH, product='5" disc'), row("B", SIXTH)], "\n", 'quote = ""', "utf-8", id="no quotes"
        ),
    ],
)
def test_each_record_keeps_its_bytes(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, rows: list[str], end: str, csv: str, encoding: str
) -> None:
    zone = make_zone(tmp_path, csv=csv)
    land(zone, con, csv_bytes(*rows, end=end, encoding=encoding))
    assert landed(zone) == {
        "2026-01-05": csv_bytes(rows[0], end=end, encoding=encoding),
        "2026-01-06": csv_bytes(rows[1], end=end, encoding=encoding),
    }


def test_a_byte_order_mark_is_not_taken_for_a_name(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    content = csv_bytes(row("A", FIFTH), row("B", SIXTH))
    land(zone, con, codecs.BOM_UTF8 + content)
    assert landed(zone) == {"2026-01-05": csv_bytes(row("A", FIFTH)), "2026-01-06": csv_bytes(row("B", SIXTH))}
    # With or without the mark the same rows have landed.
    assert [piece.is_new for piece in land(zone, con, content)] == [False, False]


def test_a_gzipped_file_lands_as_what_is_in_it(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    content = csv_bytes(row("A", FIFTH))
    land(zone, con, gzip.compress(content), name="FEED.CSV.GZ")
    assert landed(zone) == {"2026-01-05": content}


def test_bytes_that_are_no_text_land_as_they_are(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    bad = b"X,2026-01-06 10:00:00,c1,\xff\xfe,1.5,0,\n"
    content = csv_bytes(row("A", FIFTH)) + bad + (row("B", SIXTH) + "\n").encode()
    land(zone, con, content)
    # Not to be read, it has no time, and goes where the file begins.
    assert landed(zone) == {"2026-01-05": csv_bytes(row("A", FIFTH)) + bad, "2026-01-06": csv_bytes(row("B", SIXTH))}


def test_the_last_record_may_lack_its_line_end(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    rows = [row("A", FIFTH), row("B", SIXTH), row("C", FIFTH)]
    pieces = land(zone, con, csv_bytes(*rows)[:-1])
    assert landed(zone) == {"2026-01-05": csv_bytes(rows[0], rows[2]), "2026-01-06": csv_bytes(rows[1])}
    assert [piece.records for piece in pieces] == [2, 1]


def test_a_file_without_a_header_lands_without_one(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    zone = make_zone(tmp_path, csv="header = false")
    first, second = row("A", FIFTH), row("B", SIXTH)
    land(zone, con, codecs.BOM_UTF8 + f"{first}\n{second}\n{first}\n".encode())
    assert landed(zone) == {"2026-01-05": f"{first}\n{first}\n".encode(), "2026-01-06": f"{second}\n".encode()}


def test_blank_lines_are_no_records(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    content = f"\n\n{HEADER}\n\n{row('A', FIFTH)}\n\n\n".encode()
    assert [piece.records for piece in land(zone, con, content)] == [1]
    assert landed(zone) == {"2026-01-05": csv_bytes(row("A", FIFTH))}


def test_a_header_alone_lands_nothing(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    assert land(zone, con, csv_bytes()) == []
    assert everything(zone) == {}


def test_a_row_without_a_readable_time_goes_to_the_first_partition(
    zone: LandingZone, con: duckdb.DuckDBPyConnection
) -> None:
    rows = [row("X", "yesterday"), row("B", SIXTH), row("A", FIFTH), "too,few", row("Y", "infinity")]
    land(zone, con, csv_bytes(*rows))
    assert landed(zone) == {
        "2026-01-05": csv_bytes(rows[0], *rows[2:]),
        "2026-01-06": csv_bytes(rows[1]),
    }


def test_a_file_without_any_usable_time_is_refused_with_what_would_read_it(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    zone = make_zone(tmp_path)
    with pytest.raises(NoUsableTimeError, match=r"none of 2 records has a usable time\. time = '03/04/2026'") as caught:
        land(zone, con, csv_bytes(row("X", "03/04/2026"), row("Y", "13/04/2026")))
    assert "event_timestamp = \"strptime(time, '%d/%m/%Y')\"" in str(caught.value)
    assert everything(zone) == {}


def test_many_records_without_a_usable_time_land_with_a_warning_and_few_without(
    zone: LandingZone, con: duckdb.DuckDBPyConnection
) -> None:
    good = [row(f"T{n}", FIFTH) for n in range(99)]
    few = zone.land(con, write(zone, csv_bytes(*good, row("X", "never"))))
    many = zone.land(con, write(zone, csv_bytes(*good, row("X", "never"), row("Y", "never"))))
    assert few.notes == ()
    note, of_others = many.notes
    assert note.startswith("2 of 101 records of feed.csv have no usable time. time = 'never', by event_timestamp")
    assert of_others.startswith("other files landed before in 1 of these partitions, and stay")


def test_landing_by_a_mended_source_puts_aside_what_the_file_became_before(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    content = csv_bytes(row("A", "06/01/2026"), row("B", "07/01/2026"), row("C", "2026-01-05"))
    wrong = make_zone(tmp_path)
    land(wrong, con, csv_bytes(row("B", "07/01/2026"), row("C", "2026-01-05")), name="other.csv")
    before = wrong.land(con, write(wrong, content))
    assert len(landed(wrong)) == 1, "all in the first partition, to be quarantined there"
    mended = """coalesce(TRY(strptime(time, '%d/%m/%Y')), TRY(strptime(time, '%Y-%m-%d')))"""
    source = Path(wrong.source_file)
    text = source.read_text().replace('event_timestamp = "time"', f'event_timestamp = "{mended}"')
    source.write_text(text.replace('time = "TIMESTAMPTZ"', ""))
    right = LandingZone(data_dir=wrong.data_dir, source_file=wrong.source_file)
    after = right.land(con, write(right, content))
    assert after.put_aside == tuple(f"{piece.partition_key}/{piece.name}" for piece in before.pieces)
    assert sorted(piece.partition_key for piece in after.pieces) == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert len(right.look().partitions["2026-01-05"]) == 2, "what another file became stays"
    assert right.land(con, write(right, content)).put_aside == ()


@pytest.mark.parametrize("time", ["1970-01-01 00:00:00", "0005-01-01 00:00:00", "9999-12-31 00:00:00"])
def test_a_row_of_no_partition_takes_no_other_row_with_it(
    zone: LandingZone, con: duckdb.DuckDBPyConnection, time: str
) -> None:
    odd = row("X", time)
    land(zone, con, csv_bytes(odd, row("A", FIFTH), row("Y", "yesterday")))
    assert landed(zone) == {"2026-01-05": csv_bytes(row("A", FIFTH), row("Y", "yesterday"))}
    assert (zone.folder / time[:10]).is_dir()
    [note] = zone.look().notes
    assert note.startswith((f"landing: {time[:10]} lies outside", f"landing/{time[:10]} is "))


def test_a_piece_that_another_file_became_as_well_is_not_put_aside(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    zone, content = make_zone(tmp_path), csv_bytes(row("A", FIFTH), row("B", "06/01/2026"))
    zone.land(con, write(zone, content))
    zone.land(con, write(zone, content + b"\n"))  # other bytes, the same records
    source = Path(zone.source_file)
    mended = """TRY(strptime(time, '%d/%m/%Y'))"""
    text = source.read_text().replace(
        'event_timestamp = "time"', f'event_timestamp = "coalesce({mended}, time::TIMESTAMP)"'
    )
    source.write_text(text.replace('time = "TIMESTAMPTZ"', ""))
    right = LandingZone(data_dir=zone.data_dir, source_file=zone.source_file)
    assert right.land(con, write(right, content)).put_aside == ()
    [aside] = right.land(con, write(right, content + b"\n")).put_aside
    assert aside.startswith("2026-01-05/")


def test_landing_twice_changes_nothing(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    content = csv_bytes(row("A", FIFTH), row("B", SIXTH))
    first = land(zone, con, content)
    before, look = everything(zone), zone.look()
    again = land(zone, con, content, name="renamed.csv")
    assert [piece.is_new for piece in (*first, *again)] == [True, True, False, False]
    assert everything(zone) == before
    assert zone.look() == look


def test_without_replace_files_add_up(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    land(zone, con, csv_bytes(row("A", FIFTH)))
    land(zone, con, csv_bytes(row("B", FIFTH)))
    assert len(zone.look().partitions["2026-01-05"]) == 2


def test_replace_puts_the_other_files_of_touched_partitions_aside(
    zone: LandingZone, con: duckdb.DuckDBPyConnection
) -> None:
    land(zone, con, csv_bytes(row("A", FIFTH), row("B", SIXTH)))
    by_hand = drop(zone, "2026-01-05/by_hand.csv", csv_bytes(row("C", FIFTH))).read_bytes()
    corrected = csv_bytes(row("A", FIFTH, amount="2"))
    done = zone.land(con, write(zone, corrected), replace=True)
    assert landed(zone) == {"2026-01-05": corrected, "2026-01-06": csv_bytes(row("B", SIXTH))}
    assert len(done.put_aside) == 2
    # Nothing that landed is lost.
    assert {csv_bytes(row("A", FIFTH)), by_hand} <= set(everything(zone).values())
    # Again, nothing changes: what lies there is this file.
    before = everything(zone)
    again = zone.land(con, write(zone, corrected), replace=True)
    assert ([piece.is_new for piece in again.pieces], again.put_aside) == ([False], ())
    assert everything(zone) == before


def test_what_was_put_aside_is_never_written_over(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    contents = [csv_bytes(row(name, FIFTH)) for name in "ABC"]
    for content in contents[:2]:
        drop(zone, "2026-01-05/day.csv", content)
        land(zone, con, contents[2], replace=True)
    assert sorted(everything(zone).values()) == contents
    assert landed(zone) == {"2026-01-05": contents[2]}


def test_what_was_put_aside_can_land_again(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    first, second = csv_bytes(row("A", FIFTH)), csv_bytes(row("B", FIFTH))
    land(zone, con, first)
    land(zone, con, second, replace=True)
    [back] = land(zone, con, first, replace=True)
    assert back.is_new
    assert landed(zone) == {"2026-01-05": first}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("feed.csv", b""),
        ("feed.csv", b"id,amount\nA,1\n"),
        ("feed.csv.gz", gzip.compress(csv_bytes(row("A", FIFTH)), mtime=0)[:-9]),
        ("feed.parquet", b"PAR1 and no more"),
    ],
)
def test_a_broken_file_lands_nothing(
    zone: LandingZone, con: duckdb.DuckDBPyConnection, name: str, content: bytes
) -> None:
    with pytest.raises(BrokenFileError, match=name):
        land(zone, con, content, name=name)
    assert not zone.folder.exists()


def test_two_processes_that_land_at_once_lose_nothing_of_what_became_of_a_file(zone: LandingZone) -> None:
    zone.folder.mkdir(parents=True)
    code = (
        "import sys\n"
        "from fraud_assets.resources.landing_zone import LandingZone\n"
        f"zone = LandingZone(data_dir={zone.data_dir!r}, source_file={zone.source_file!r})\n"
        "sys.stdin.read(1)\n"
        "for number in range(200):\n"
        "    zone._landed_before(f'{sys.argv[1]}{number}', {f'2026-01-05/{sys.argv[1]}{number}.csv'})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE) for name in "ab"]
    for one in both:
        assert one.stdin is not None
        one.stdin.write(b"go")
        one.stdin.close()
    assert [one.wait() for one in both] == [0, 0]
    known = json.loads((Path(zone.data_dir) / ".landed_files.json").read_text())
    assert known == {f"{name}{number}": [f"2026-01-05/{name}{number}.csv"] for name in "ab" for number in range(200)}


def test_a_file_may_hold_more_partitions_than_a_process_may_open_files(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    resource = pytest.importorskip("resource")
    zone = make_zone(tmp_path, grain="hourly")
    rows = [row(f"T{n}", f"2026-01-{1 + n // 24:02} {n % 24:02}:00:00") for n in range(24 * 14)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What tests before this one hold open counts, too.
    held = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(held + 150, limits[1]), limits[1]))
    try:
        pieces = land(zone, con, csv_bytes(*rows))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [piece.records for piece in pieces] == [1] * len(rows)


def test_an_open_quote_takes_no_row_of_its_new_neighbours(zone: LandingZone, con: duckdb.DuckDBPyConnection) -> None:
    rows = [
        row("X", "never", product='"W'),
        row("A", FIFTH),
        row("B", SIXTH, product='"5"" disc"'),  # Its quotes keep X's from closing, as long as it stands here.
        row("C", FIFTH, product='W"'),
    ]
    [piece, _] = land(zone, con, csv_bytes(*rows))
    [file] = zone.files("2026-01-05")
    assert [record.text.rstrip() for record in iter_records(file.raw, zone.source.csv)] == [rows[0], rows[1], rows[3]]
    assert (zone.count_records(file), piece.records) == ((3, None), 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_of_many_batches_lands_whole(tmp_path: Path, con: duckdb.DuckDBPyConnection, encoding: str) -> None:
    zone = make_zone(tmp_path, csv=f'encoding = "{encoding}"')
    rows = [row(f"T{n}", (FIFTH, SIXTH)[n % 3 == 0]) for n in range(40_000)]
    land(zone, con, csv_bytes(*rows, encoding=encoding))
    assert landed(zone) == {
        "2026-01-05": csv_bytes(*(text for n, text in enumerate(rows) if n % 3), encoding=encoding),
        "2026-01-06": csv_bytes(*rows[::3], encoding=encoding),
    }


@pytest.mark.parametrize("seed", range(cases(20, 60)))
def test_the_records_of_the_parts_are_the_records_of_the_file(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, seed: int
) -> None:
    chance = random.Random(seed)
    times = ["2026-01-05 10:00:00", "2026-01-06 11:00:00", "2026-01-07 12:00:00", "never", ""]
    products = ["W", '"W"', '"a, b"', '"a\nb"', '"5"" disc"', "", '"W', 'W"', "\0", '""', '",'] + ["W"] * 20
    rows = [
        row(f"T{n}", chance.choice(times), product=chance.choice(products)) + chance.choice(["", "", "", "", ",more"])
        for n in range(chance.choice((3, 30, 300)))
    ]
    content = csv_bytes(row("first", FIFTH), *rows, end=chance.choice(("\n", "\r\n")))
    zone = make_zone(tmp_path)
    pieces = land(zone, con, content)

    whole = RawFile(path=tmp_path / "feed.csv", name="feed.csv")
    records = [(record.text, record.fields) for record in iter_records(whole, zone.source.csv)]
    parts = [file.raw for files in zone.look().partitions.values() for file in files]
    of_parts = [(record.text, record.fields) for part in parts for record in iter_records(part, zone.source.csv)]
    assert sorted(of_parts, key=str) == sorted(records, key=str)
    assert sum(piece.records for piece in pieces) == len(records)
    for file in parts:
        key = file.name.split("/")[0]
        outside = clean(con, zone.source, key, [file]).reasons.get("time_outside_partition", 0)
        assert outside == 0


# Parquet


def test_parquet_keeps_its_columns_and_types(zone: LandingZone, con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": pa.array(["2026-01-06 10:00:00", "2026-01-05 10:00:00", None]),
            "id": pa.array([1, 2, 3], pa.int8()),
            "amount": pa.array(["1.10", "2.20", "3.30"], pa.string()).cast(pa.decimal128(9, 2)),
            "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
            "tags": pa.array([[1], [], None], pa.list_(pa.int16())),
        }
    ).replace_schema_metadata({"origin": "export"})
    (tmp_path / "year=2026").mkdir()
    file = tmp_path / "year=2026" / "feed.parquet"
    pq.write_table(table, file)
    table = pq.ParquetFile(file).read()
    pieces = zone.land(con, file).pieces
    assert [(piece.partition_key, piece.records) for piece in pieces] == [("2026-01-05", 2), ("2026-01-06", 1)]
    parts = {key: pq.ParquetFile(files[0].path).read() for key, files in zone.look().partitions.items()}
    assert parts["2026-01-05"].equals(table.take([1, 2]), check_metadata=True)
    assert parts["2026-01-06"].equals(table.take([0]), check_metadata=True)
    assert [piece.is_new for piece in zone.land(con, file).pieces] == [False, False]


# Counting


@pytest.mark.parametrize(
    ("name", "content", "records"),
    [
        ("a.csv", csv_bytes(row("A", FIFTH), "too,few", row("B", SIXTH, product='"a\nb"'), ""), 3),
        ("a.csv.gz", gzip.compress(csv_bytes(row("A", FIFTH)), mtime=0), 1),
        ("a.csv", csv_bytes(), 0),
    ],
)
def test_records_are_counted_good_or_bad(zone: LandingZone, name: str, content: bytes, records: int) -> None:
    drop(zone, f"2026-01-05/{name}", content)
    [file] = zone.files("2026-01-05")
    assert zone.count_records(file) == (records, None)


def test_rows_of_parquet_are_counted(zone: LandingZone) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3]}), drop(zone, "2026-01-05/a.PARQUET"))
    [file] = zone.files("2026-01-05")
    assert zone.count_records(file) == (3, None)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_broken_file_is_not_counted_and_says_why(zone: LandingZone, name: str) -> None:
    drop(zone, f"2026-01-05/{name}", b"")
    [file] = zone.files("2026-01-05")
    records, problem = zone.count_records(file)
    assert records is None
    assert problem is not None
    assert f"2026-01-05/{name}" in problem


# Versions


def test_the_input_digest_names_files_source_and_contract(zone: LandingZone) -> None:
    drop(zone, "2026-01-05/a.csv", b"one\n")
    before = zone.input_digest(zone.files("2026-01-05"))
    drop(zone, "2026-01-05/b.csv", b"two\n")
    after = zone.input_digest(zone.files("2026-01-05"))
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True]
