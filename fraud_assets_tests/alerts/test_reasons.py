"""The sentences, spelled out as an analyst reads them, and which contributions become sentences."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.alerts.reasons import Usual, in_one_sentence, reasons
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.depth import cases


def row(amount: float = 60.0, *, abroad: int = 0, count: int = 1, average: float | None = None, **window: float):
    return [
        amount,
        math.log(1 + amount),
        int(amount >= 500),
        abroad,
        count,
        amount if average is None else average,
        window.get("spread", 0.0),
        window.get("products", 1),
    ]


def contributions(**of: float) -> list[float]:
    return [of.get(name, 0.0) for name in FEATURE_NAMES]


EVERYBODY = {"TransactionAmt": 60.0, "txn_count_5min": 1.0}
USUAL = Usual({"TransactionAmt": 98.0, "txn_count_5min": 1.0, "is_international_txn": 0.0}, EVERYBODY)


def text_of(feature: str, values: list[float], usual: Usual = USUAL) -> str:
    [reason] = reasons(values, contributions(**{feature: -1.0}), usual)
    return reason.text


@pytest.mark.parametrize(
    ("amount", "own", "everybody", "text"),
    [
        (1240.0, 98.0, 60.0, "1,240.00, 13 times this card's usual 98.00"),
        (250.0, 98.0, 60.0, "250.00, 2.6 times this card's usual 98.00"),
        (294.0, 98.0, 60.0, "294.00, 3 times this card's usual 98.00"),
        (0.99, 98.0, 60.0, "0.99, far below this card's usual 98.00"),
        (40.0, 98.0, 60.0, "40.00, below this card's usual 98.00"),
        (1240.0, 1180.0, 60.0, "1,240.00, 21 times the usual 60.00 of all cards, but like this card's usual 1,180.00"),
        (1240.0, 5000.0, 60.0, "1,240.00, 21 times the usual 60.00 of all cards, but below this card's usual 5,000.00"),
        (1240.0, None, 60.0, "1,240.00, 21 times the usual 60.00 of all cards"),
        (1240.0, 98.0, None, "1,240.00, 13 times this card's usual 98.00"),
        (1240.0, None, None, "1,240.00"),
        (60.0, 58.0, 60.0, "60.00, an ordinary amount, which is rare for a purchase like this"),
        (60.0, None, 60.0, "60.00, an ordinary amount, which is rare for a purchase like this"),
        (5.0, 0.0, 60.0, "5.00, far below the usual 60.00 of all cards, but above this card's usual 0.00"),
        (5.0, 0.0, None, "5.00, above this card's usual 0.00"),
    ],
)
def test_an_amount_is_compared_with_the_cards_usual(
    amount: float, own: float | None, everybody: float | None, text: str
) -> None:
    known: list[Any] = [{} if one is None else {"TransactionAmt": one} for one in (own, everybody)]
    assert text_of("TransactionAmt", row(amount), Usual(*known)) == text


@pytest.mark.parametrize(
    ("feature", "values", "text"),
    [
        ("is_international_txn", row(abroad=1), "abroad, for the first time in 30 days"),
        ("is_international_txn", row(), "at home, which is rare for a purchase like this"),
        ("txn_count_5min", row(count=7), "7 purchases in 5 minutes, where this card's usual is 1"),
        ("txn_count_5min", row(), "nothing else on this card within 5 minutes, which is rare for a purchase like this"),
        (
            "avg_amount_5min",
            row(count=3, average=490.0),
            "the 3 purchases in 5 minutes average 490.00, 5 times this card's usual 98.00",
        ),
        ("stddev_amount_5min", row(count=3, average=60.0), "the 3 purchases in 5 minutes cost exactly the same"),
        (
            "stddev_amount_5min",
            row(count=3, average=60.0, spread=2.0),
            "the 3 purchases in 5 minutes cost nearly the same",
        ),
        (
            "stddev_amount_5min",
            row(count=3, average=60.0, spread=20.0),
            "the 3 purchases in 5 minutes differ in amount",
        ),
        (
            "stddev_amount_5min",
            row(count=3, average=60.0, spread=45.5),
            "the 3 purchases in 5 minutes differ widely in amount",
        ),
        ("product_diversity_5min", row(count=3), "the 3 purchases in 5 minutes are all of one product"),
        (
            "product_diversity_5min",
            row(count=3, products=3),
            "the 3 purchases in 5 minutes are of 3 different products",
        ),
    ],
)
def test_every_feature_has_its_sentences(feature: str, values: list[float], text: str) -> None:
    assert text_of(feature, values) == text


@pytest.mark.parametrize(
    ("share", "abroad", "text"),
    [
        (None, 1, "abroad"),
        (0.0, 1, "abroad, for the first time in 30 days"),
        (0.05, 1, "abroad, as this card seldom is"),
        (0.6, 1, "abroad, as this card often is"),
        (0.6, 0, "at home, though this card is mostly used abroad"),
    ],
)
def test_a_place_is_compared_with_where_the_card_is_used(share: float | None, abroad: int, text: str) -> None:
    usual = Usual({} if share is None else {"is_international_txn": share})
    assert text_of("is_international_txn", row(abroad=abroad), usual) == text


@pytest.mark.parametrize(
    ("most", "own", "text"),
    [
        (None, 1.0, "4 purchases in 5 minutes, where this card's usual is 1"),
        (2, 1.0, "4 purchases in 5 minutes, where this card's usual is 1"),
        (4, 1.0, "4 purchases in 5 minutes, though this card has had 4 before"),
        (9, 4.0, "4 purchases in 5 minutes, though this card has had 9 before"),
        (None, 4.0, "4 purchases in 5 minutes"),
        (None, None, "4 purchases in 5 minutes"),
    ],
)
def test_a_pace_that_the_card_has_had_before_is_said_to_be_so(most: float | None, own: float | None, text: str) -> None:
    usual = Usual({} if own is None else {"txn_count_5min": own}, card_most_in_5min=most)
    assert text_of("txn_count_5min", row(count=4), usual) == text


# Golden cases


def test_a_card_testing_burst_reads_as_one() -> None:
    values = row(1.02, count=7, average=1.35, spread=0.4, products=1)
    found = reasons(
        values,
        contributions(
            TransactionAmt=-0.3, log_transaction_amount=-0.35, txn_count_5min=-1.9, avg_amount_5min=-0.7,
            is_international_txn=0.2, stddev_amount_5min=-0.1,
        ),
        USUAL,
    )  # fmt: skip
    assert in_one_sentence(found) == (
        "7 purchases in 5 minutes, where this card's usual is 1; they average 1.35, far below this card's usual 98.00; "
        "1.02, far below this card's usual 98.00"
    )


def test_a_takeover_from_abroad_reads_as_one() -> None:
    found = reasons(
        row(1240.0, abroad=1, count=2, average=1100.0, spread=198.0, products=2),
        contributions(
            TransactionAmt=-0.4, log_transaction_amount=-0.4, is_high_value_txn=-0.6, is_international_txn=-1.2,
            txn_count_5min=-0.1, avg_amount_5min=-0.2,
        ),
        USUAL,
    )  # fmt: skip
    assert in_one_sentence(found) == (
        "1,240.00, 13 times this card's usual 98.00; abroad, for the first time in 30 days"
    )


def test_a_large_but_usual_purchase_is_said_to_be_usual() -> None:
    usual = Usual({"TransactionAmt": 1180.0, "txn_count_5min": 1.0, "is_international_txn": 0.0}, EVERYBODY)
    found = reasons(row(1240.0), contributions(TransactionAmt=-0.5, is_high_value_txn=-0.7), usual)
    assert in_one_sentence(found) == (
        "1,240.00, 21 times the usual 60.00 of all cards, but like this card's usual 1,180.00"
    )


def test_a_usual_burst_is_said_to_be_one() -> None:
    usual = Usual({"TransactionAmt": 6.0, "txn_count_5min": 2.0, "is_international_txn": 0.0}, EVERYBODY, 6.0)
    found = reasons(
        row(5.0, count=4, average=5.5, spread=0.5),
        contributions(stddev_amount_5min=-0.9, txn_count_5min=-0.8, product_diversity_5min=-0.3),
        usual,
    )
    assert in_one_sentence(found) == (
        "The 4 purchases in 5 minutes cost nearly the same; so many in so short a time, though this card has had 6 "
        "before; they are all of one product"
    )


# Which contributions become reasons


def test_features_that_say_one_thing_give_one_reason_with_their_sum() -> None:
    [reason] = reasons(
        row(900.0),
        contributions(TransactionAmt=-0.25, log_transaction_amount=-0.5, is_high_value_txn=-1.0, avg_amount_5min=-0.5),
        USUAL,
    )
    assert (reason.feature, reason.value, reason.contribution) == ("TransactionAmt", 900.0, -2.25)


def test_features_that_contradict_each_other_cancel_out() -> None:
    assert not reasons(row(900.0), contributions(TransactionAmt=-1.0, log_transaction_amount=1.5), USUAL)


def test_an_average_that_is_the_amount_says_nothing_of_its_own() -> None:
    [reason] = reasons(row(900.0, count=2, average=900.0), contributions(avg_amount_5min=-1.0), USUAL)
    assert reason.text == "900.00, 9.2 times this card's usual 98.00"


def test_the_average_of_several_purchases_is_a_subject_of_its_own() -> None:
    found = reasons(row(900.0, count=2, average=700.0), contributions(TransactionAmt=-1.0, avg_amount_5min=-1.0), USUAL)
    assert sorted(reason.feature for reason in found) == ["TransactionAmt", "avg_amount_5min"]


numbers = st.floats(-5.0, 5.0)


@settings(max_examples=cases(100, 1_000))
@given(st.lists(numbers, min_size=8, max_size=8), st.integers(1, 40), st.sampled_from([0, 1]), st.floats(0, 1e9))
def test_reasons_are_few_ordered_suspicious_and_each_of_another_subject(
    added: list[float], count: int, abroad: int, amount: float
) -> None:
    found = reasons(row(amount, abroad=abroad, count=count, average=amount / 2), added, Usual())
    assert len(found) <= 3
    assert [one.contribution for one in found] == sorted(one.contribution for one in found)
    assert all(one.contribution < 0 and one.text for one in found)
    assert len({one.feature for one in found}) == len(found)
    if count > 1 and amount > 0 and sum(added[:3]) < 0 and sum(added[:3]) <= min(added[3:]):
        assert found[0].feature == "TransactionAmt"
        assert found[0].contribution == pytest.approx(sum(added[:3]))
