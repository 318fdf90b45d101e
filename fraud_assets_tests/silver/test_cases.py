"""Every case of `cases`, by the same pass that builds Silver."""

import re
from pathlib import Path

import duckdb
import pytest

from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.raw_files import BrokenFileError
from fraud_assets_tests.silver.cases import CASES, Case
from fraud_assets_tests.silver.feed import make_source, write_bytes


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.topic}: {case.what}") for case in CASES])
def test_what_lands_is_good_or_quarantined_or_stops_its_partition_as_documented(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, case: Case
) -> None:
    files = [write_bytes(tmp_path, content, name) for name, content in case.files]
    source = make_source(**case.source)
    if case.stopped:
        with pytest.raises(BrokenFileError, match=re.escape(case.stopped)) as caught:
            clean(con, source, "2026-01-05", files)
        assert str(caught.value).startswith(f"{files[0].name}: ")
        return

    result = clean(con, source, "2026-01-05", files)

    good = con.execute(f"SELECT {case.columns} FROM good_transactions ORDER BY ALL").fetchall()
    refused = con.execute("SELECT file, line, reasons, raw_row FROM quarantined_rows ORDER BY ALL").fetchall()
    assert good == list(case.good)
    assert [(file, line, tuple(reasons)) for file, line, reasons, _ in refused] == list(case.refused)
    assert result.landed == len(good) + len(refused)
    for file, line, reasons, raw_row in refused:
        if reasons == ["unreadable_line"] and file.endswith(".csv"):
            content = dict(case.files)[file]
            texts = re.split("\r\n|\r|\n", content.decode("utf-8", "surrogateescape"))
            assert raw_row == texts[line - 1].encode("utf-8", "backslashreplace").decode(), "kept as it came"


def test_cases_of_the_same_words_have_the_same_outcome() -> None:
    outcomes: dict[tuple[str, str], set[str]] = {}
    for case in CASES:
        outcomes.setdefault((case.topic, case.what), set()).add(case.outcome)
    assert [words for words, found in outcomes.items() if len(found) > 1] == []
