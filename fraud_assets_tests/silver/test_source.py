import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from fraud_assets.partition_keys import Grain, key_of
from fraud_assets.silver.source import Source, SourceError, load_source
from fraud_assets_tests.silver.feed import make_source

MINIMAL = """
name = "mine"
[partitions]
grain = "daily"
start = "2026-01-01"
[columns]
TransactionID = "id"
event_timestamp = "time"
card_id = "card"
TransactionAmt = "amount"
ProductCD = "product"
is_international_txn = "false"
[features]
high_value_amount = 500
"""


def load_text(folder: Path, text: str) -> Source:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_source(str(path))


def with_expression(column: str, expression: str) -> Source:
    return make_source(columns=make_source().columns | {column: expression})


@pytest.mark.parametrize("name", ["simulated", "ieee_cis"])
def test_packaged_sources_load_and_their_expressions_are_valid(con: duckdb.DuckDBPyConnection, name: str):
    source = load_source(name)
    assert source.name == name
    assert {"TransactionID", "TransactionDT", "card1", "addr1", "isFraud"} <= source.needed(con)


def test_a_feed_without_labels_is_a_feed(tmp_path: Path):
    assert "isFraud" not in load_text(tmp_path, MINIMAL).columns


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('grain = "daily"', 'grain = "weekly"', r"\[partitions\] grain: .*'daily' or 'hourly'"),
        ('start = "2026-01-01"', 'start = "soon"', r"\[partitions\] start: "),
        ('start = "2026-01-01"', 'start = "2026-01-01"\nend = "2026-01-01"', "end must be later than start"),
        ('start = "2026-01-01"', "", r"\[partitions\] start: Field required"),
        ('card_id = "card"', "", r"\[?columns\]?: .*missing: card_id"),
        ('card_id = "card"', 'card_id = "card"\nmerchant = "m"', "unknown: merchant; expected TransactionID, "),
        ("high_value_amount = 500", "", r"\[features\] high_value_amount: Field required"),
        ("high_value_amount = 500", "high_value_amount = -1", r"\[features\] high_value_amount: .*greater than 0"),
        ("[features]", "[feature]", r"\[feature\]: Extra inputs are not permitted"),
        ("[features]", "[csv]\ndelimiter = '||'\n[features]", r"\[csv\] delimiter: .*at most 1 character"),
        ("[features]", "[csv]\nencoding = 'klingon'\n[features]", r"\[csv\] encoding: .*latin-1"),
        ("[features]", "[csv]\nencoding = 'hex'\n[features]", r"\[csv\] encoding: .*latin-1"),
        ("[features]", "[csv]\ndelimiter = '\"'\n[features]", r"\[csv\]: .*two characters"),
        ("[features]", '[csv]\nquote = "\\n"\n[features]', r"\[csv\]: .*neither a line end"),
        ("[features]", "[rules]\non_conflict = 'x'\n[features]", r"\[rules\] on_conflict: .*'last_file'"),
        ("[features]", "[types]\namount = 'DOUBLE); DROP'\n[features]", r"\[types\] amount: "),
        ('name = "mine"', 'name = "../mine"', "name: "),
        ('name = "mine"', "name = mine", "is not a TOML file"),
    ],
)
def test_a_wrong_file_names_itself_the_key_and_what_is_expected(tmp_path: Path, before: str, after: str, message: str):
    assert before in MINIMAL
    with pytest.raises(SourceError, match=rf"mine\.toml.*{message}"):
        load_text(tmp_path, MINIMAL.replace(before, after))


def test_an_unknown_name_lists_the_packaged_ones():
    with pytest.raises(
        SourceError, match=r"'mine' in .*: expected one of ieee_cis, simulated, or the path of a \.toml file"
    ):
        load_source("mine")


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SourceError, match=r"nowhere\.toml"):
        load_source(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("amount", {"amount"}),
        ('"a column"', {"a column"}),
        ("TIMESTAMP '2017-12-01' + to_seconds(amount::BIGINT)", {"amount"}),
        ("coalesce(TRY_CAST(card AS INT) <> 150, true)", {"card"}),
        ("concat_ws('-', card, product)", {"card", "product"}),
        ("CASE WHEN card LIKE 'x%' THEN id END -- a comment", {"card", "id"}),
        ("nullif(card, 'none')", {"card"}),
        ("list_filter([card], lambda x: x <> product)[1]", {"card", "product"}),
        ("amount BETWEEN 1 AND 2 AND card IN ('a', 'b')", {"amount", "card"}),
        ("strptime(time::VARCHAR, '%Y') AT TIME ZONE 'Europe/Paris'", {"time"}),
        ("'constant'", set()),
    ],
)
def test_the_raw_columns_of_an_expression_are_found(con: duckdb.DuckDBPyConnection, expression: str, columns: set[str]):
    assert with_expression("card_id", expression).references(con)["card_id"] == columns


def test_a_column_spelled_in_two_ways_is_one_column(con: duckdb.DuckDBPyConnection):
    assert with_expression("card_id", "Amount || AMOUNT").references(con)["card_id"] == {"amount"}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("card ||", "is not SQL"),
        ("card)", "is not SQL"),
        ("", "is not SQL"),
        ("card, product", "must be one expression"),
        ("card; DROP TABLE x", "is not SQL|must be one expression"),
        ("card; SELECT 1", "must be one expression"),
        ("card FROM read_csv('/etc/passwd')", "must be one expression"),
        ("card WHERE true", "must be one expression"),
        ("card LIMIT 1", "must be one expression"),
        ("DISTINCT card", "must be one expression"),
        ("(SELECT 1)", "subquery is not allowed"),
        ("card IN (SELECT 1)", "subquery is not allowed"),
        ("lag(card) OVER ()", "window is not allowed"),
        ("*", "star is not allowed"),
        ("COLUMNS('card')", "star is not allowed|columns is not allowed"),
        ("$1", "must be one expression"),
        ("max(card)", "must look at one row only: max"),
        ("unnest([card])", "must look at one row only: unnest"),
        ("json_group_array(card)", "json_group_array calls another function. must look at one row only: string_agg"),
        ("card || random()", "must be deterministic: random"),
        ("card || now()", "must be deterministic: now"),
        ("card || NOW()", "must be deterministic: now"),
        ("card || uuid()", "must be deterministic: uuid"),
        ("card || current_date", "must be deterministic: current_date"),
        ("card || CURRENT_TIMESTAMP", "must be deterministic: "),
        ("card || ago(INTERVAL 1 DAY)", "must be deterministic: ago"),
        ("card || nextval('s')", "must be deterministic: nextval"),
        ("raw.card", "raw.card is not a raw column"),
        ("no_such_function(card)", "no_such_function"),
        ("to_seconds(card)", "to_seconds.*Raw columns are text unless"),
    ],
)
def test_an_expression_that_is_not_scalar_and_deterministic_is_refused(
    con: duckdb.DuckDBPyConnection, expression: str, message: str
):
    with pytest.raises(SourceError, match=message) as caught:
        with_expression("card_id", expression).references(con)
    assert f"[columns] card_id = {expression!r}" in str(caught.value)


def test_a_type_that_does_not_exist_is_refused(con: duckdb.DuckDBPyConnection):
    with pytest.raises(SourceError, match="NUMBERISH"):
        make_source(types={"amount": "NUMBERISH"}).references(con)


def test_the_digest_ignores_words_and_range_but_not_meaning(tmp_path: Path):
    digest = load_text(tmp_path, MINIMAL).digest
    same = {
        "comment": "# a comment\n" + MINIMAL,
        "description": 'description = "x"\n' + MINIMAL,
        "name": MINIMAL.replace('"mine"', '"yours"'),
        "range": MINIMAL.replace('start = "2026-01-01"', 'start = "2025-01-01"\nend = "2027-01-01"'),
        "default spelled out": MINIMAL + '[csv]\ndelimiter = ","\n[rules]\non_conflict = "quarantine"\n',
        "number spelled otherwise": MINIMAL.replace("= 500", "= 500.0"),
    }
    other = {
        "limit": MINIMAL.replace("= 500", "= 400"),
        "grain": MINIMAL.replace('"daily"', '"hourly"'),
        "expression": MINIMAL.replace('"card"', '"card || 1"'),
        "label": MINIMAL.replace('card_id = "card"', 'card_id = "card"\nisFraud = "f"'),
        "type": MINIMAL + '[types]\namount = "DOUBLE"\n',
        "rule": MINIMAL + '[rules]\non_conflict = "last_file"\n',
        "delimiter": MINIMAL + '[csv]\ndelimiter = ";"\n',
    }
    assert {case: load_text(tmp_path, text).digest for case, text in same.items()} == dict.fromkeys(same, digest)
    digests = [load_text(tmp_path, text).digest for text in other.values()]
    assert len({digest, *digests}) == 1 + len(other)


def test_the_range_of_days():
    source = make_source(partitions={"grain": "daily", "start": "2026-01-01", "end": "2026-02-01"})
    assert (source.first_key, source.end_key) == ("2026-01-01", "2026-02-01")
    keys = ("2025-12-31", "2026-01-01", "2026-01-31", "2026-02-01")
    assert [source.in_range(key) for key in keys] == [False, True, True, False]
    with pytest.raises(ValueError, match="labels"):
        source.in_range("labels")


def test_the_range_of_hours():
    source = make_source(partitions={"grain": "hourly", "start": "2026-01-01"})
    assert (source.first_key, source.end_key) == ("2026-01-01-00", None)
    assert source.in_range("2026-01-01-00")


@pytest.mark.parametrize(("grain", "key"), [("daily", "2026-01-06"), ("hourly", "2026-01-06-01")])
def test_sql_and_python_say_the_same_key_of_a_time(con: duckdb.DuckDBPyConnection, grain: Grain, key: str):
    source = make_source(partitions={"grain": grain, "start": "2026-01-01"})
    late = datetime(2026, 1, 5, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert key_of(late, grain) == key
    time = "(SELECT TIMESTAMPTZ '2026-01-05 23:30-02' AS event_timestamp)"
    assert con.execute(f"SELECT {source.key_of_time} FROM {time}").fetchall() == [(key,)]


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys; import fraud_assets.silver.build; "
        "print({'pandas', 'sklearn', 'numba', 'mlflow', 'dagster', 'deltalake'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
