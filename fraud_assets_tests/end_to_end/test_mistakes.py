"""A newcomer's mistakes: each message names a command or an edit, and it works when one does just that.

No advice is written down here that the message does not give: commands are taken from its backticks, edits of the
source file from its `[section] key = "value"`, names from its "Did you mean".
"""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fraud_assets.cli import main
from fraud_assets.resources.models.registry import FEED_TAG
from fraud_assets.resources.platform import Platform
from fraud_assets.settings import Settings
from fraud_assets_tests.depth import full_only
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.test_cli import SHOP

SOURCE = SHOP + "[csv]\nquote = '\"'\n"

HEADER = "order_no,paid_at,card,amount,category,country\n"
# Two days, of which one is enough to train on.
ORDERS = [
    f"{i},2026-03-0{1 + i // 300} {i % 24:02}:{i % 60:02},c{i % 7},{10 + i % 90}.50,books,{'FR' if i % 9 else 'DE'}\n"
    for i in range(600)
]
PLAIN = HEADER + "".join(ORDERS)


@dataclass
class Newcomer:
    """Who types commands in a directory, reads the message, and does what it says."""

    folder: Path
    environment: pytest.MonkeyPatch
    said: str = ""

    def types(self, command: str, *, fails: bool = False) -> str:
        """Run a command line as it is typed, and remember what it says."""
        match shlex.split(command):
            case ["fraud-assets", *arguments]:
                result = CliRunner().invoke(main, arguments)
                assert isinstance(result.exception, SystemExit | None), result.exception
                self.said = " ".join(result.output.split())
                assert bool(result.exit_code) == fails, result.output
            case ["export", assignment]:
                self.environment.setenv(*assignment.split("=", 1))
            case ["unset", *names]:
                for name in names:
                    self.environment.delenv(name)
            case ["cd", place]:
                self.environment.chdir(place)
            case ["rm", *files]:
                for file in files:
                    Path(file).unlink()
            case _:
                raise AssertionError(f"Nobody can type {command!r}")
        return self.said

    def follows(self, beginning: str, **names: str) -> None:
        """Type the command of the message that begins so; capitals stand for what only the newcomer knows."""
        [advised, *_] = [one for one in re.findall(r"`([^`]+)`", self.said) if one.startswith(beginning)]
        for name, meant in names.items():
            assert name in advised.split() or f"={name}" in advised
            advised = advised.replace(name, meant)
        self.types(advised)

    def writes(self, content: str | bytes, name: str = "orders.csv") -> None:
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def edits(self, old: str, new: str) -> None:
        """Edit the source file."""
        file = self.folder / "shop.toml"
        text = file.read_text()
        assert text.count(old) == 1, (old, text)
        file.write_text(text.replace(old, new))

    def adds(self, section: str) -> None:
        """Add to a section of the source file what the message says of it, line by line."""
        assert f"[{section}] " in self.said, self.said
        said = self.said.split(f"[{section}] ", 1)[1]
        pairs = re.match(r"""((, )?\w+ = (["']).*?\3)+""", said)
        assert pairs, said
        lines = [found[0] for found in re.findall(r"""(\w+ = (["']).*?\2)""", pairs[0])]
        self.edits(f"[{section}]\n", f"[{section}]\n{chr(10).join(lines)}\n")

    def has_good_rows(self, rows: int = len(ORDERS)) -> bool:
        return f"{rows} good + 0 to quarantine" in self.types("fraud-assets try shop.toml orders.csv")


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUD_SOURCE", "shop.toml")
    someone = Newcomer(tmp_path, monkeypatch)
    someone.writes(SOURCE, "shop.toml")
    someone.writes(PLAIN)
    return someone


TRIES = "fraud-assets try shop.toml orders.csv"
LANDS = "fraud-assets land orders.csv"


@pytest.mark.parametrize("command", [TRIES, LANDS])
def test_a_wrong_name_of_a_raw_column(newcomer: Newcomer, command: str) -> None:
    newcomer.edits('"category"', '"shelf"')
    said = newcomer.types(command, fails=True)
    assert "column shelf is missing; it has order_no, paid_at, card, amount, category, country" in said
    assert "by source shop: mend its [columns]" in said
    newcomer.edits('"shelf"', '"category"')
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
def test_a_misspelt_name_of_a_raw_column(newcomer: Newcomer, command: str) -> None:
    newcomer.edits("country <>", "contry <>")
    [meant] = re.findall(r"Did you mean (\w+)\?", newcomer.types(command, fails=True))
    newcomer.edits("contry <>", f"{meant} <>")
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
def test_a_column_that_the_source_file_does_not_name(newcomer: Newcomer, command: str) -> None:
    newcomer.edits('card_id = "card"\n', "")
    [line] = re.findall(r'\[columns\]: missing: card_id; add (card_id = "[^"]+")', newcomer.types(command, fails=True))
    newcomer.edits("[columns]\n", "[columns]\n" + line.replace("the raw column, or SQL over some", "card") + "\n")
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
def test_a_misspelt_name_of_a_canonical_column(newcomer: Newcomer, command: str) -> None:
    newcomer.edits("card_id", "card_ID")
    said = newcomer.types(command, fails=True)
    [wrong, expected] = re.findall(r"\[columns\]: unknown: (\w+); expected ([\w, ]+)", said)[0]
    [meant] = [name for name in expected.split(", ") if name.lower() == wrong.lower()]
    newcomer.edits(wrong, meant)
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
def test_a_wrong_format_of_times(newcomer: Newcomer, command: str) -> None:
    newcomer.edits('"paid_at"', "\"strptime(paid_at, '%d.%m.%Y')\"")
    [line] = re.findall(r'reads such cells: (event_timestamp = "[^"]+")', newcomer.types(command, fails=True))
    newcomer.edits("event_timestamp = \"strptime(paid_at, '%d.%m.%Y')\"", line)
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
@pytest.mark.parametrize("delimiter", [";", "|"])
def test_another_delimiter(newcomer: Newcomer, command: str, delimiter: str) -> None:
    newcomer.writes(PLAIN.replace(",", delimiter))
    newcomer.types(command, fails=True)
    newcomer.adds("csv")
    assert newcomer.has_good_rows()


def test_another_decimal_mark(newcomer: Newcomer) -> None:
    newcomer.writes(PLAIN.replace(",", ";").replace(".50", ",50"))
    newcomer.edits("[csv]\n", "[csv]\ndelimiter = ';'\n")
    newcomer.types(TRIES, fails=True)
    newcomer.adds("csv")
    assert newcomer.has_good_rows()


@pytest.mark.parametrize("command", [TRIES, LANDS])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding(newcomer: Newcomer, command: str, encoding: str) -> None:
    newcomer.writes(PLAIN.replace("books", "Bücher").encode(encoding))
    newcomer.types(command, fails=True)
    newcomer.adds("csv")
    assert newcomer.has_good_rows()
    assert "Bücher" in newcomer.said


@pytest.mark.parametrize("command", ["fraud-assets try shop.toml {}", "fraud-assets land {}"])
def test_a_file_that_is_not_there(newcomer: Newcomer, command: str) -> None:
    [meant] = re.findall(r"Did you mean (\S+)\?", newcomer.types(command.format("order.csv"), fails=True))
    newcomer.types(command.format(meant))


@pytest.mark.parametrize("named", ["shopp.toml", "shop"])
def test_a_source_file_that_is_not_there(newcomer: Newcomer, named: str) -> None:
    for command in (f"fraud-assets try {named} orders.csv", "fraud-assets status"):
        newcomer.types(f"export FRAUD_SOURCE={named}")
        [meant] = re.findall(r"Did you mean (\S+)\?", newcomer.types(command, fails=True))
        newcomer.types(f"export FRAUD_SOURCE={meant}")
        newcomer.types(command.replace(named, meant))


def test_arguments_the_other_way_round(newcomer: Newcomer) -> None:
    newcomer.types("fraud-assets try orders.csv shop.toml", fails=True)
    newcomer.follows("fraud-assets try ")
    newcomer.types("fraud-assets land shop.toml", fails=True)
    newcomer.follows("export ")
    newcomer.types(LANDS)


@full_only("trains by itself")
def test_run_before_landing_and_the_same_rows_landed_in_three_ways(newcomer: Newcomer) -> None:
    newcomer.types("fraud-assets run", fails=True)
    newcomer.follows("fraud-assets land", FILE="orders.csv")
    landed = sorted(newcomer.folder.glob("data/shop/landing/2*/*"))

    shutil.copy("orders.csv", "again.csv")
    for name in ("orders.csv", "again.csv"):
        assert "(2 landed before: nothing changed)" in newcomer.types(f"fraud-assets land {name}")
    newcomer.writes(HEADER + "".join(ORDERS[:50]), "part.csv")
    said = newcomer.types("fraud-assets land part.csv")
    assert "other files landed before in 1 of these partitions, and stay: of equal rows one counts" in said
    newcomer.types("fraud-assets run")
    assert "Silver 600 rows quarantined 50 rows" in newcomer.said, "of equal rows one counts"
    assert newcomer.types("fraud-assets land part.csv").endswith("(1 landed before: nothing changed)")

    newcomer.said = said
    newcomer.follows("rm ")
    assert sorted(newcomer.folder.glob("data/shop/landing/2*/*")) == landed
    assert "Silver: landed files changed" in newcomer.types("fraud-assets status")


def test_a_day_outside_the_range(newcomer: Newcomer) -> None:
    newcomer.edits('"2026-03-01"', '"2026-03-02"')
    for command in (TRIES, LANDS, "fraud-assets status"):
        said = newcomer.types(command)
        [(day, key)] = re.findall(r"(\S+) lies outside .* give its file another (start) or end in \[partitions\]", said)
    newcomer.edits('start = "2026-03-02"', f'{key} = "{day}"')
    assert "outside" not in newcomer.types("fraud-assets status")
    assert "2026-03-01 to 2026-03-02" in newcomer.said


def test_a_misspelt_variable(newcomer: Newcomer) -> None:
    newcomer.types("unset FRAUD_SOURCE")
    newcomer.types("export FRAUD_SOURCES=shop.toml")
    [meant] = re.findall(r"FRAUD_SOURCES is no setting; did you mean (\w+)\?", newcomer.types("fraud-assets status"))
    newcomer.types("unset FRAUD_SOURCES")
    newcomer.types(f"export {meant}=shop.toml")
    assert newcomer.types("fraud-assets status").startswith("Feed shop (shop.toml)")


@pytest.mark.parametrize("assignment", ["FRAUD_RESCORE_DAYS=seven", "FRAUD_DUCKDB_MEMORY=much", "FRAUD_DATA_DIR="])
def test_a_wrong_value_of_a_variable(newcomer: Newcomer, assignment: str) -> None:
    newcomer.types(f"export {assignment}")
    if assignment.endswith("="):  # as unset: nothing lands in the directory where one happens to be
        newcomer.types("fraud-assets status")
        assert "data in data/shop" in newcomer.said
        return
    assert assignment.split("=")[0] in newcomer.types("fraud-assets status", fails=True)
    newcomer.follows("unset ")
    newcomer.types("fraud-assets status")


def test_the_wrong_source(newcomer: Newcomer) -> None:
    newcomer.types("unset FRAUD_SOURCE")
    said = newcomer.types(LANDS, fails=True)
    assert "by source simulated: mend its [columns], or name another one by FRAUD_SOURCE" in said
    newcomer.types("export FRAUD_SOURCE=shop.toml")
    newcomer.types(LANDS)


def test_another_feeds_mlflow_store(newcomer: Newcomer) -> None:
    newcomer.types(LANDS)
    others = Platform(Settings(data_dir=newcomer.folder / "data" / "simulated", source="simulated")).model_registry
    others.prepare()
    client, name = others._client(), others.model_name
    client.create_registered_model(name)
    client.create_model_version(name, source=str(newcomer.folder), tags={FEED_TAG: "simulated"})
    client.set_registered_model_alias(name, "prod", "1")
    newcomer.types(f"export MLFLOW_TRACKING_URI={others.tracking_uri}")
    for command in ("fraud-assets status", "fraud-assets run"):
        assert "trained on the feed simulated, and this feed is shop" in newcomer.types(command, fails=True)
    newcomer.follows("unset ")
    newcomer.types("fraud-assets status")


def test_another_directory(newcomer: Newcomer, tmp_path_factory: pytest.TempPathFactory) -> None:
    newcomer.types(LANDS)
    (newcomer.folder / "below").mkdir()
    newcomer.types("cd below")
    [meant] = re.findall(r"Did you mean (\S+)\?", newcomer.types("fraud-assets status", fails=True))
    newcomer.types(f"export FRAUD_SOURCE={meant}")
    assert "Nothing landed yet" in newcomer.types("fraud-assets status")
    newcomer.follows("cd ")
    assert "2026-03-01 to 2026-03-02" in newcomer.types("fraud-assets status")

    newcomer.types(f"cd {tmp_path_factory.mktemp('elsewhere')}")
    newcomer.types("fraud-assets run", fails=True)
    newcomer.follows("export ", PLACE=str(newcomer.folder / "data" / "shop"))
    assert "2026-03-01 to 2026-03-02" in newcomer.types("fraud-assets status")


def test_python_3_10(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo Python 3.10.12 && exit\nexec {sys.executable} -c \'import sys; '
        'sys.version_info = (3, 10, 12); exec(sys.argv[2])\' "$@"\n'
    )
    old.chmod(0o755)

    def make(python: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", "python", f"PYTHON={python}"], cwd=ROOT, capture_output=True, text=True)

    refused = make(old)
    assert refused.returncode
    assert f"Python 3.11, 3.12 or 3.13 is needed, and {old} is Python 3.10.12" in refused.stdout
    assert re.search(r"name it where it is not found: make PYTHON=\S+", refused.stdout)
    assert make(sys.executable).returncode == 0
