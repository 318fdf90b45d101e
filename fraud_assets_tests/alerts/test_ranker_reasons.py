import math

import pytest

from fraud_assets.alerts.ranker_reasons import ranker_reasons
from fraud_assets.model.ranker import RANKER_FEATURES

KNOWN = {
    "TransactionAmt": 100.0,
    "log_transaction_amount": math.log(101),
    "is_high_value_txn": 0.0,
    "is_international_txn": 1.0,
    "txn_count_5min": 1.0,
    "avg_amount_5min": 100.0,
    "stddev_amount_5min": 0.0,
    "product_diversity_5min": 1.0,
    "fraud_score": 0.05,
    "card_txn_count_30d": 4.0,
    "card_mean_log_amount_30d": math.log(21),
    "card_stddev_log_amount_30d": 0.2,
    "days_since_last_txn": 3.2,
    "is_new_product": 1.0,
    "log_amount_over_card_mean": math.log(101) - math.log(21),
    "hour_of_day": 3.0,
}
UNKNOWN = KNOWN | {
    "card_txn_count_30d": 0.0,
    "card_mean_log_amount_30d": math.nan,
    "card_stddev_log_amount_30d": math.nan,
    "days_since_last_txn": math.nan,
    "log_amount_over_card_mean": math.nan,
}


def say(row: dict[str, float], **added: float) -> list[tuple[str, float, str]]:
    found = ranker_reasons([row[name] for name in RANKER_FEATURES], [added.get(name, 0.0) for name in RANKER_FEATURES])
    return [(reason.feature, reason.contribution, reason.text) for reason in found]


@pytest.mark.parametrize(
    ("row", "feature", "text"),
    [
        (KNOWN, "log_amount_over_card_mean", "100.00, 5 times this card's usual 20.00"),
        (
            KNOWN | {"log_amount_over_card_mean": 0.1},
            "log_amount_over_card_mean",
            "100.00, about what this card usually",
        ),
        (KNOWN, "card_txn_count_30d", "a card with 4 purchases in the 30 days before"),
        (UNKNOWN, "card_txn_count_30d", "a card without any purchase in the 30 days before"),
        (KNOWN, "days_since_last_txn", "3 days since the card's last purchase on an earlier day"),
        (KNOWN | {"days_since_last_txn": 0.5}, "days_since_last_txn", "12 hours since the card's last purchase"),
        (KNOWN, "is_new_product", "a product that this card did not buy in the 30 days before"),
        (
            KNOWN | {"is_new_product": 0.0},
            "is_new_product",
            "a product that this card has bought in the 30 days before",
        ),
        (KNOWN, "hour_of_day", "between 03:00 and 04:00 UTC"),
        (KNOWN, "fraud_score", "unusual among all transactions, by a forest score of 0.050"),
        (KNOWN, "TransactionAmt", "100.00"),
        (KNOWN, "is_international_txn", "abroad"),
    ],
)
def test_each_thing_that_a_ranker_sees_has_a_sentence(row: dict[str, float], feature: str, text: str) -> None:
    [(subject, contribution, said)] = say(row, **{feature: 0.5})
    assert (subject, contribution) == (feature, 0.5)
    assert said.startswith(text)


def test_what_says_the_same_is_merged_and_what_lowers_the_score_is_no_reason() -> None:
    found = say(KNOWN, TransactionAmt=0.2, log_transaction_amount=0.3, card_stddev_log_amount_30d=0.4, hour_of_day=-1.0)
    assert [(subject, round(added, 9)) for subject, added, _ in found] == [
        ("TransactionAmt", 0.5),
        ("log_amount_over_card_mean", 0.4),
    ]


def test_that_nothing_is_known_of_a_card_is_said_once() -> None:
    found = say(UNKNOWN, is_new_product=0.2, days_since_last_txn=0.3, card_mean_log_amount_30d=0.1)
    assert [subject for subject, *_ in found] == ["card_txn_count_30d"]


@pytest.mark.parametrize("feature", RANKER_FEATURES)
@pytest.mark.parametrize("row", [KNOWN, UNKNOWN])
def test_every_feature_can_be_said_of_every_card(row: dict[str, float], feature: str) -> None:
    [(_, _, text)] = say(row, **{feature: 1.0})
    assert text
    assert ";" not in text
    assert text[0] == text[0].lower()


def test_no_more_than_three_and_none_that_hardly_counts() -> None:
    many = say(KNOWN, TransactionAmt=0.4, is_new_product=0.3, hour_of_day=0.2, fraud_score=0.1)
    assert [subject for subject, *_ in many] == ["TransactionAmt", "is_new_product", "hour_of_day"]
    assert [subject for subject, *_ in say(KNOWN, TransactionAmt=1.0, hour_of_day=0.05)] == ["TransactionAmt"]
    assert say(KNOWN) == []
