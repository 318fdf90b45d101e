"""Answers beside Gold: each kind is told from the others, and the check says how bad it is."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import msgspec
import pytest
from msgspec.structs import replace

from fraud_assets.checks.serve import SERVE_CHECKS
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.serve.journal import Entry, Journal, segments
from fraud_assets.serve.service import Answer
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.platform import TestPlatform


def said_of_a_transaction_in_company(platform: TestPlatform) -> tuple[int, str, Answer]:
    """Time, card and answer of a scored transaction that has others in its window: what the service would have said."""
    [(time_us, card, *values)] = platform.rows(
        "SELECT epoch_us(silver.event_timestamp), silver.card_id, TransactionID, fraud_score, is_anomaly,"
        f" score_percentile, [], model_version, {', '.join(f'silver.{name}' for name in FEATURE_NAMES)}"
        " FROM {gold} AS gold JOIN {silver} AS silver USING (partition_key, TransactionID)"
        " WHERE silver.txn_count_5min > 1 ORDER BY TransactionID LIMIT 1",
        gold=PREDICTIONS,
        silver=SILVER_TRANSACTIONS,
    )
    return time_us, card, Answer(*values)


def land_answers(platform: TestPlatform, time_us: int, card: str, answers: list[Answer]) -> None:
    """Leave a journal as the service does once what it accepted has landed."""
    folder = platform.data_dir / "serve" / "8080"
    with Journal(folder, durable=False) as journal:
        for answer in answers:
            said = msgspec.Raw(msgspec.json.encode(answer))
            journal.append(Entry("{}", True, answer.TransactionID, time_us, card, "W", 1, False, time_us, said))
        assert journal.begin_commit()() is None
        journal.end_commit(None)
    for segment in segments(folder, "sealed"):
        segment.rename(segment.with_suffix(".landed"))


def check(platform: TestPlatform) -> tuple[bool, dg.AssetCheckSeverity, dict[str, Any]]:
    job = dg.define_asset_job("parity", selection=dg.AssetSelection.checks(*SERVE_CHECKS))
    definitions = dg.Definitions.merge(platform.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("parity").execute_in_process(instance=platform.instance)
    [found] = result.get_asset_check_evaluations()
    return found.passed, found.severity, {name: value.value for name, value in found.metadata.items()}


KINDS: dict[str, Callable[[Answer], Answer]] = {
    "equal": lambda answer: answer,
    "late_data": lambda answer: replace(answer, txn_count_5min=answer.txn_count_5min - 1, avg_amount_5min=1.0),
    "other_version": lambda answer: replace(answer, model_version="0", fraud_score=answer.fraud_score + 0.1),
    "missing": lambda answer: replace(answer, TransactionID="of no transaction"),
    "different": lambda answer: replace(answer, fraud_score=answer.fraud_score + 1e-15),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_gold_does_not_repeat_is_told_by_what_differs(scored_platform: TestPlatform, kind: str) -> None:
    time_us, card, answer = said_of_a_transaction_in_company(scored_platform)
    land_answers(scored_platform, time_us, card, [KINDS[kind](answer)])

    passed, severity, said = check(scored_platform)

    assert said == {"answers": 1} | {f"share_{one}": float(one == kind) for one in KINDS}
    assert passed == (kind not in ("missing", "different"))
    assert (severity == dg.AssetCheckSeverity.ERROR) == (kind == "different")


@pytest.mark.parametrize(
    "changed",
    [
        {"TransactionAmt": 1.0},  # no later transaction changes what is the transaction's own
        {"product_diversity_5min": 99},  # nor anything while there are as many in the window
    ],
)
def test_what_no_later_transaction_could_have_changed_is_different(
    scored_platform: TestPlatform, changed: dict[str, Any]
) -> None:
    time_us, card, answer = said_of_a_transaction_in_company(scored_platform)
    land_answers(scored_platform, time_us, card, [replace(answer, **changed), KINDS["equal"](answer)])

    passed, _, said = check(scored_platform)

    assert not passed  # of two answers to one transaction the first counts: it is what the sender acted on
    assert (said["answers"], said["share_different"]) == (1, 1.0)
