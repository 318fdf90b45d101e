import duckdb
import pytest

from fraud_assets.silver.numbers import number


@pytest.mark.parametrize(
    ("decimal", "thousands", "values"),
    [
        (".", ",", {"25,000": 25_000, "1,234,567.89": 1_234_567.89, "1234.5": 1234.5, "2,5": None, "1,2345": None}),
        (",", ".", {"4.711": 4_711, "4.711,5": 4_711.5, "4,711": 4.711, "4.71": None, "1.234.56": None, "0,5": 0.5}),
        (",", "", {"4,5": 4.5, "4.5": None}),
        (",", " ", {"1 234,5": 1_234.5, "1\u00a0234\u202f567": 1_234_567, "1 23": None}),
        (".", "'", {"1'234.5": 1_234.5, "1\u2019234": 1_234}),
        (
            ".",
            ",",
            {
                "(50.00)": -50, "-50": -50, "50-": -50, "$40.00": 40, "-$40": -40, "$-40": -40, "EUR 40": 40,
                "($1,000.50)": -1_000.5, "+5": 5, " 5 ": 5, "40 €": 40,
                "(50": None, "50)": None, "--5": None, "-(5)": None, "(-5)": None, "5,": None, "": None, "$": None,
                "1e3": None, "abc": None, "40 each": None,
            },
        ),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them_or_not_at_all(
    con: duckdb.DuckDBPyConnection, decimal: str, thousands: str, values: dict[str, float | None]
):
    read = number("cell", "DOUBLE", decimal=decimal, thousands=thousands)
    found = {cell: con.execute(f"SELECT {read} FROM (SELECT ? AS cell)", [cell]).fetchall()[0][0] for cell in values}
    assert found == values


def test_no_cell_is_no_number(con: duckdb.DuckDBPyConnection):
    read = number("cell", "DECIMAL(9, 2)", decimal=",", thousands=".")
    assert con.execute(f"SELECT {read}::VARCHAR FROM (VALUES (NULL::VARCHAR), ('1.234,56')) t(cell)").fetchall() == [
        (None,),
        ("1234.56",),
    ]
