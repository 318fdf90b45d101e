from fraud_assets.console import table


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    rows = [["a", 5, 0.25, None], ["long", 12345, None, None]]
    assert table(["name", "rows", "share", "none"], rows).splitlines() == [
        "  name    rows   share  none",
        "  a          5  0.2500     -",
        "  long  12,345       -     -",
    ]


def test_a_table_without_rows_is_its_names() -> None:
    assert table(["name", "rows"], [], indent="") == "name  rows"


def test_a_row_is_one_line_and_truth_is_a_word() -> None:
    assert table(["raw", "is_anomaly"], [["a\r\nb", True]], indent="").splitlines() == [
        "raw     is_anomaly",
        "a\\r\\nb  true",
    ]
