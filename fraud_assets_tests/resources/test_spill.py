"""What DuckDB puts aside: in a folder of each connection, on the data directory's disk, and nothing stays behind."""

import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from fraud_assets.resources.lake import open_lake

SPILL = """
import sys
from pathlib import Path
from fraud_assets.resources.lake import open_lake

with open_lake(Path(sys.argv[1]), memory="64MiB").connect() as connection:
    connection.execute("SET enable_progress_bar = false")
    connection.execute("CREATE TABLE much AS SELECT md5(i::VARCHAR) AS x FROM range(2_000_000) AS t(i)")
    print("spilled", flush=True)
    sys.stdin.readline()
    print(connection.execute("SELECT min(x), max(x) FROM much").fetchall() and "read", flush=True)
"""


def test_what_killed_processes_left_goes_with_the_next_connection_and_nothing_of_the_living(tmp_path: Path) -> None:
    program = [sys.executable, "-c", SPILL, tmp_path]
    folders = {}
    with Popen(program, stdin=PIPE, stdout=PIPE) as killed, Popen(program, stdin=PIPE, stdout=PIPE) as living:
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline() == b"spilled\n"
        for file in (tmp_path / ".spill").glob(f"*/duckdb_temp_{living.pid}_*"):
            folders["living"] = file.parent
        for file in (tmp_path / ".spill").glob(f"*/duckdb_temp_{killed.pid}_*"):
            folders["killed"] = file.parent
        assert len(set(folders.values())) == 2
        killed.kill()
        killed.wait()
        with open_lake(tmp_path).connect():
            assert folders["killed"].exists(), "it may have been made just now, and not be locked yet"
        for folder in folders.values():
            os.utime(folder, (0, 0))
        with open_lake(tmp_path).connect():
            assert not folders["killed"].exists()
            assert list(folders["living"].iterdir())
        said, _ = living.communicate(b"\n")
    assert said == b"read\n"
    assert list(tmp_path.iterdir()) == []


def test_connections_of_one_process_keep_their_folders_apart(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    with lake.connect(), lake.connect():
        first, second = (tmp_path / ".spill").iterdir()
        for folder in (first, second):
            os.utime(folder, (0, 0))
        with lake.connect():
            assert first.exists()
            assert second.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["data", "data/of/a/feed"])
def test_without_a_data_directory_there_is_a_folder_elsewhere(tmp_path: Path, missing: str) -> None:
    with open_lake(tmp_path / missing).connect() as connection:
        [(folder,)] = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        assert Path(folder).is_dir()
        assert not Path(folder).is_relative_to(tmp_path)
    assert not Path(folder).exists()
    assert list(tmp_path.iterdir()) == []
