"""The feed: which rows fall on a day, and what their columns say."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fraud_assets.simulator import feed
from fraud_assets.simulator.feed import BASE_TIME, simulate_day
from fraud_assets.simulator.fraud import mix_of
from fraud_assets.simulator.population import COUNTRIES, PRODUCTS, draw_population
from fraud_assets_tests.depth import cases
from fraud_assets_tests.simulator.truth import scenarios_of_day

DAY = date(2026, 1, 5)
DAYS = st.dates(min_value=date(2025, 11, 1), max_value=date(2027, 3, 1))
PROFILES = st.sampled_from(["default", "hard"])


def days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=i) for i in range(count)]


def test_a_known_day_begins_with_the_rows_it_has_always_begun_with():
    draw_population.cache_clear()
    known = ["TransactionID", "TransactionDT", "TransactionAmt", "ProductCD", "card1", "txn_country"]
    assert [tuple(row.values()) for row in simulate_day(DAY).select(known).slice(0, 3).to_pylist()] == [
        (202601050000000, 432010, 33.2, "W", 3702, "US"),
        (202601050000001, 432024, 79.0, "W", 1479, "US"),
        (202601050000002, 432062, 79.17, "W", 6252, "US"),
    ]


@settings(max_examples=cases(20, 60))
@given(seed=st.integers(0, 2**32), first=DAYS, rows_per_day=st.integers(1, 150), profile=PROFILES)
@example(seed=2783, first=date(2026, 1, 4), rows_per_day=500, profile="default")  # has a row at midnight sharp
def test_consecutive_days_hold_every_row_of_the_sessions_that_started_on_them(seed, first, rows_per_day, profile):
    days = days_from(first, 4)
    expected = []
    for start in days:
        rows = feed._started_rows(start, seed, profile, rows_per_day)
        for card, second, amount, product, country, scenario in zip(*(x.tolist() for x in rows), strict=True):
            time = datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(seconds=second)
            # The sessions of the day before the first are not known here, nor is what spills beyond the last.
            if time.date() in days[1:] and second < 2 * 86_400:
                seconds = int((time - BASE_TIME).total_seconds())
                expected.append((seconds, amount, PRODUCTS[product], COUNTRIES[country], int(scenario > 0), card))
    names = ["TransactionDT", "TransactionAmt", "ProductCD", "txn_country", "isFraud", "card1"]
    card_codes = draw_population(seed, rows_per_day).columns["card1"].to_pylist()
    found = [
        tuple(row[name] for name in names)
        for day in days[1:]
        for row in simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day).to_pylist()
    ]
    assert sorted(found) == sorted((*row, card_codes[card]) for *row, card in expected)


@settings(max_examples=cases(20, 60))
@given(seed=st.integers(0, 2**32), day=DAYS, rows_per_day=st.integers(1, 150), profile=PROFILES)
def test_rows_stand_in_order_of_time_within_their_day(seed, day, rows_per_day, profile):
    times = simulate_day(day, seed=seed, profile=profile, rows_per_day=rows_per_day)["TransactionDT"].to_pylist()
    start = (day - date(2025, 12, 31)).days * 86_400
    assert times == sorted(times)
    assert all(start <= time < start + 86_400 for time in times)


def test_the_first_day_of_the_feed_starts_at_86400_as_the_genuine_file_does():
    times = simulate_day(date(2026, 1, 1))["TransactionDT"].to_pylist()
    assert min(times) >= 86_400
    assert min(times) < 86_400 + 600


def test_columns_are_those_of_the_genuine_file_and_two_countries():
    schema = simulate_day(DAY, rows_per_day=100).schema
    whole = dict.fromkeys(["TransactionID", "isFraud", "TransactionDT", "card1"], pa.int64())
    decimal = dict.fromkeys(["TransactionAmt", "card2", "card3", "card5", "addr1", "addr2", "dist1"], pa.float64())
    assert schema.names == [
        "TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "ProductCD", "card1", "card2", "card3", "card4",
        "card5", "card6", "addr1", "addr2", "dist1", "P_emaildomain", "card_country", "txn_country",
    ]  # fmt: skip
    assert {field.name: field.type for field in schema} == {
        name: (whole | decimal).get(name, pa.string()) for name in schema.names
    }


def test_an_id_is_the_day_and_a_number_and_comes_once_in_the_whole_feed():
    days = days_from(DAY, 3)
    ids = [i for day in days for i in simulate_day(day, rows_per_day=500)["TransactionID"].to_pylist()]
    assert ids[:2] == [202601050000000, 202601050000001]
    assert len(set(ids)) == len(ids)


def test_a_day_does_not_depend_on_what_was_built_before():
    alone = simulate_day(DAY, rows_per_day=300)
    draw_population.cache_clear()
    for day in days_from(DAY - timedelta(days=3), 3):
        simulate_day(day, rows_per_day=200, seed=8)
    assert simulate_day(DAY, rows_per_day=300).equals(alone)


@pytest.mark.parametrize("other", [{"seed": 8}, {"profile": "hard"}, {"rows_per_day": 301}])
def test_another_seed_profile_or_size_gives_another_feed(other):
    arguments = {"seed": 7, "profile": "default", "rows_per_day": 300}
    assert not simulate_day(DAY, **arguments).equals(simulate_day(DAY, **(arguments | other)))


def test_legitimate_life_is_the_same_in_both_profiles():
    default, hard = (simulate_day(DAY, profile=profile) for profile in ("default", "hard"))
    legitimate = [table.filter(pc.equal(table["isFraud"], 0)) for table in (default, hard)]
    names = ["TransactionDT", "card1", "TransactionAmt", "ProductCD", "txn_country"]
    first, second = (sorted(map(str, table.select(names).to_pylist())) for table in legitimate)
    assert first == second


def test_the_scenario_names_every_row_agrees_with_the_label_and_is_not_in_the_feed():
    rows, truth = simulate_day(DAY), scenarios_of_day(DAY)
    assert truth["TransactionID"].equals(rows["TransactionID"])
    is_fraud = [scenario != "legitimate" for scenario in truth["scenario"].to_pylist()]
    assert is_fraud == [label == 1 for label in rows["isFraud"].to_pylist()]
    assert set(truth["scenario"].to_pylist()) == {
        "legitimate", "card_testing", "account_takeover", "low_and_slow", "friendly_fraud",
    }  # fmt: skip
    assert "scenario" not in rows.column_names


def test_a_row_lacks_its_address_exactly_when_its_product_is_c():
    for row in simulate_day(DAY).to_pylist():
        assert (row["addr1"] is None) == (row["addr2"] is None) == (row["ProductCD"] == "C")


def test_a_card_keeps_what_the_file_says_of_it_and_its_product_c():
    seen: dict[int, set] = {}
    for day in days_from(DAY, 10):
        for row in simulate_day(day).to_pylist():
            kept = ("card2", "card3", "card4", "card5", "card6", "addr1", "P_emaildomain", "card_country")
            seen.setdefault(row["card1"], set()).add(tuple(row[name] for name in kept))
    assert len(seen) > 1000
    assert {len(faces) for faces in seen.values()} == {1}


def test_testing_gives_way_to_takeover_over_the_months():
    assert mix_of(date(2026, 1, 1), "default") == pytest.approx((0.50, 0.35, 0.10, 0.05))
    assert mix_of(date(2026, 7, 1), "default") == pytest.approx((0.40, 0.45, 0.10, 0.05))
    assert mix_of(date(2030, 1, 1), "hard") == pytest.approx((0.25, 0.35, 0.25, 0.15))


def test_december_is_busier_and_weekdays_differ():
    def rows(day: date) -> int:
        return simulate_day(day, rows_per_day=20_000).num_rows

    monday, friday, december_friday = rows(date(2026, 11, 2)), rows(date(2026, 11, 6)), rows(date(2026, 12, 4))
    assert monday * 1.05 < friday
    assert friday * 1.2 < december_friday
