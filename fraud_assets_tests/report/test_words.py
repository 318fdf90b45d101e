import pytest

from fraud_assets.report import words


@pytest.mark.parametrize(
    ("percentile", "said"),
    [
        (0.9975, "1 in 400"),
        (0.99975, "1 in 4,000"),
        (0.5, "1 in 2"),
        (0.9999, "1 in 10,000"),
        (1.0, "rarer than 1 in 10,000"),
        (None, "rarity not known"),
        (0.0, "1 in 1"),
    ],
)
def test_a_percentile_is_said_as_odds(percentile: float | None, said: str) -> None:
    assert words.odds(percentile) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "0 %"), (1.0, "100 %"), (0.035, "3.50 %"), (0.0004, "0.040 %"), (0.561, "56.1 %")]
)
def test_a_share_has_as_many_digits_as_say_something(value: float, said: str) -> None:
    assert words.share(value) == said


def test_what_is_not_known_is_no_zero() -> None:
    assert words.share(None) == "not known"


def test_hidden_characters_are_seen_and_long_texts_are_cut() -> None:
    assert words.visible("a\u202eb\x00") == "a[U+202E]b[U+0000]"
    assert words.visible("x" * 10_000) == "x" * 80 + "… (10,000 characters)"
    assert words.visible("Zoë 東京 50 €") == "Zoë 東京 50 €"


def test_a_partition_is_said_as_a_person_says_it() -> None:
    assert words.partition_words("2026-01-05", "daily") == "Monday, 5 January 2026"
    assert words.partition_words("2026-01-05-23", "hourly") == "Monday, 5 January 2026, 23:00 to 00:00 UTC"
