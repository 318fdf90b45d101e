"""A table that is open already is what it would be if it were opened anew."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from fraud_assets.resources import open_tables
from fraud_assets.resources.open_tables import open_latest


def write(table: Path, value: int, mode: str = "append") -> None:
    write_deltalake(table, pa.table({"x": [value]}), mode=mode)  # pyright: ignore[reportArgumentType]


def values(table: Path) -> list[int]:
    return sorted(open_latest(str(table)).to_pyarrow_table()["x"].to_pylist())


def test_a_table_that_nobody_wrote_to_is_not_opened_again(tmp_path: Path) -> None:
    write(tmp_path / "t", 1)
    assert open_latest(str(tmp_path / "t")) is open_latest(str(tmp_path / "t"))


def test_what_this_process_or_another_commits_is_seen_at_once(tmp_path: Path) -> None:
    table = tmp_path / "t"
    for value in range(5):
        write(table, value)
        assert values(table) == [*range(value + 1)]
    program = "import sys; from pathlib import Path; from fraud_assets_tests.resources.test_open_tables import write"
    subprocess.run([sys.executable, "-c", f"{program}; write(Path(sys.argv[1]), 9)", table], check=True)
    assert values(table) == [0, 1, 2, 3, 4, 9]


def test_a_table_that_is_gone_is_not_there_and_another_in_its_place_is_another(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write(table, 1)
    assert values(table) == [1]
    shutil.rmtree(table)
    with pytest.raises(TableNotFoundError):
        open_latest(str(table))
    write(table, 2)
    assert values(table) == [2]
    write(tmp_path / "other", 3)
    shutil.rmtree(table)
    (tmp_path / "other").rename(table)
    assert values(table) == [3]


def test_a_log_whose_last_entry_is_gone_is_read_each_time(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write(table, 1)
    write(table, 2)
    DeltaTable(table).create_checkpoint()
    for entry in (table / "_delta_log").glob("*.json"):
        entry.unlink()
    assert open_latest(str(table)) is not open_latest(str(table))
    assert values(table) == [1, 2]


def test_only_so_many_tables_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_tables, "_MOST", 2)
    tables = [tmp_path / name for name in "abc"]
    for number, table in enumerate(tables):
        write(table, number)
        assert values(table) == [number]
    assert [*open_tables._known] == [str(table) for table in tables[1:]]
