"""The service as its callers see it: answers, refusals, limits; and that no body makes it fail."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.serve.journal import entries, segments
from fraud_assets.serve.service import Service
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.depth import cases
from fraud_assets_tests.serve.conftest import Client, make_model, transaction
from fraud_assets_tests.serve.test_records import RAW, RECORDS

MakeClient = Callable[..., Client]


def reasons(answer: tuple[int, Any]) -> tuple[int, list[str]]:
    status, body = answer
    return status, [error["reason"] for error in body["errors"]]


def test_an_answer_has_score_reasons_version_and_the_eight_features(make_client: MakeClient):
    status, answer = make_client().post(transaction())
    assert status == 200
    assert list(answer) == [
        "TransactionID",
        "fraud_score",
        "is_anomaly",
        "score_percentile",
        "reasons",
        "model_version",
        *FEATURE_NAMES,
    ]
    assert answer["txn_count_5min"] == 1
    assert answer["model_version"] == "1"
    assert all(reason["text"] and reason["contribution"] < 0 for reason in answer["reasons"])


def test_a_list_is_answered_in_its_order_and_each_sees_all_of_it(make_client: MakeClient):
    rows = [transaction(TransactionID=f"T{n}", event_timestamp="2026-01-05T12:00:00Z") for n in range(3)]
    status, answers = make_client().post(rows)
    assert status == 200
    assert [(one["TransactionID"], one["txn_count_5min"]) for one in answers] == [("T0", 3), ("T1", 3), ("T2", 3)]
    assert make_client().post([]) == (200, [])


def test_a_late_transaction_is_scored_by_its_own_time_from_what_is_known(make_client: MakeClient):
    client = make_client()
    client.post(transaction(TransactionID="A", event_timestamp="2026-01-05T12:00:00Z"))
    client.post(transaction(TransactionID="C", event_timestamp="2026-01-05T12:04:00Z"))
    _, late = client.post(transaction(TransactionID="B", event_timestamp="2026-01-05T12:02:00Z"))
    _, after = client.post(transaction(TransactionID="D", event_timestamp="2026-01-05T12:05:00Z"))
    assert (late["txn_count_5min"], after["txn_count_5min"]) == (2, 4)


def test_an_id_seen_again_gets_its_first_answer_to_the_byte(make_client: MakeClient):
    client = make_client()
    first = client.post(transaction())
    client.post(transaction(TransactionID="T2", event_timestamp="2026-01-05T11:59:00Z"))
    client.application.service.model = make_model(version="2", seed=1)
    assert client.post(transaction()) == first
    assert client.post([transaction(), transaction()]) == (200, [first[1], first[1]])
    # In one turn of the loop, before anything of it is durable.
    other = transaction(TransactionID="T3")
    [one, two] = client.posts([other, other])
    assert one == two
    assert client.application.service.windows.rows == 3


def test_an_id_with_other_content_is_a_conflict_as_in_the_batch(make_client: MakeClient):
    client = make_client()
    client.post(transaction())
    assert reasons(client.post(transaction(TransactionAmt=11))) == (409, ["conflicting_id"])


def test_of_a_list_with_a_fault_nothing_is_accepted(make_client: MakeClient):
    client = make_client()
    rows = [transaction(), transaction(TransactionID="T2", card_id=""), transaction(TransactionID="T3")]
    status, body = client.post(rows)
    assert status == 422
    assert [(error["index"], error["field"], error["reason"]) for error in body["errors"]] == [
        (1, "card_id", "missing_card")
    ]
    rows[1] = transaction(TransactionID="T2", event_timestamp="2025-01-05T12:00:00Z")
    assert reasons(client.post(rows)) == (422, ["time_outside_source"])
    assert client.application.service.windows.rows == 0


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-01-06T12:02:00Z", "time_in_future"),
        ("2026-01-05T11:49:59Z", "too_late"),
        ("0005-01-05T12:00:00Z", "too_late"),
        ("2025-12-31T23:59:59Z", "too_late"),
    ],
)
def test_a_time_that_no_window_is_kept_for_is_refused_in_words(make_client: MakeClient, time: str, reason: str):
    client = make_client()
    client.post(transaction())
    assert reasons(client.post(transaction(TransactionID="T2", event_timestamp=time))) == (422, [reason])


def test_a_raw_record_and_its_canonical_twin_have_one_answer(make_client: MakeClient):
    client = make_client()
    status, answer = client.post(RAW)
    assert status == 200
    assert client.post(transaction()) == (200, answer)


class Disk:
    """A disk that takes its time: it writes once `goes_on` is set, and refuses once if `problem` says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.has_begun, self.goes_on = threading.Event(), threading.Event()
        self.problem: OSError | None = None
        self._write = os.pwrite
        patch.setattr(os, "pwrite", self)

    def __call__(self, file: int, content: bytes, at: int) -> int:
        self.has_begun.set()
        assert self.goes_on.wait(20)
        problem, self.problem = self.problem, None
        if problem:
            raise problem
        return self._write(file, content, at)


async def post_while_the_disk_has_a_group(
    client: Client, disk: Disk, first: list[Any], then: list[Any], *, seal: bool
) -> list[tuple[int, Any]]:
    before = [asyncio.create_task(client.call("POST", "/score", body, {})) for body in first]
    assert await asyncio.to_thread(disk.has_begun.wait, 20)
    after = [asyncio.create_task(client.call("POST", "/score", body, {})) for body in then]
    seals = [asyncio.create_task(client.application.seal())] if seal else []
    await asyncio.sleep(0.05)
    client.application._begin_group(asyncio.get_running_loop())  # asked for twice, as where a seal came between
    assert not any(task.done() for task in (*before, *after, *seals)), "nobody is answered before the disk has it"
    assert [(await client.call("GET", path, b"", {}))[0] for path in ("/health", "/ready")] == [200, 200]
    disk.goes_on.set()
    answers = [(status, json.loads(body)) for status, body in await asyncio.gather(*before, *after)]
    await asyncio.gather(*seals)
    return answers


def test_a_disk_that_refuses_is_said_and_nothing_is_known_of_the_group_nor_of_what_saw_it(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
):
    client = make_client()
    [_, known] = client.posts([transaction(), transaction(TransactionID="T0")])
    [t2, t3, t4] = [transaction(TransactionID=name) for name in ("T2", "T3", "T4")]
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        disk.problem = OSError(28, "No space left on device")
        failed = asyncio.run(post_while_the_disk_has_a_group(client, disk, [t2, t3], [t4, t2], seal=False))
    assert [reasons(answer) for answer in failed] == [(503, ["not_durable"])] * 4
    assert "No space left" in failed[0][1]["errors"][0]["message"]
    assert client.application.service.windows.rows == 2
    _, answer = client.post(t4)
    assert answer["txn_count_5min"] == 3
    assert client.post(transaction(TransactionID="T0")) == known
    assert durable(client) == ["T1", "T0", "T4"]


def durable(client: Client) -> list[str]:
    folder = client.application.service.journal._folder
    return [entry.id for segment in segments(folder) for _, entry in entries(segment)]


@pytest.mark.parametrize("seal", [True, False])
def test_what_is_answered_while_the_disk_has_a_group_is_the_next_one_and_a_seal_waits_for_both(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, seal: bool
):
    client = make_client()
    rows = [transaction(TransactionID=f"T{n}") for n in range(4)]
    with monkeypatch.context() as patch:
        then = [*rows[1:], rows[0]]
        answers = asyncio.run(post_while_the_disk_has_a_group(client, Disk(patch), rows[:1], then, seal=seal))
    assert [status for status, _ in answers] == [200] * 5
    assert [body["txn_count_5min"] for _, body in answers] == [1, 2, 3, 4, 1]
    [segment] = segments(client.application.service.journal._folder)
    assert segment.suffix == (".sealed" if seal else ".open")
    assert durable(client) == ["T0", "T1", "T2", "T3"]
    assert client.posts(rows) == answers[:4]


def test_a_segment_that_is_full_is_sealed_with_all_that_was_answered_meanwhile(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fraud_assets.serve.journal._LARGEST", 1)
    client = make_client()
    rows = [transaction(TransactionID=f"T{n}") for n in range(4)]

    with monkeypatch.context() as patch:
        answers = asyncio.run(post_while_the_disk_has_a_group(client, Disk(patch), rows[:2], rows[2:], seal=False))
    [segment] = segments(client.application.service.journal._folder)
    assert segment.suffix == ".sealed"
    assert durable(client) == ["T0", "T1", "T2", "T3"]
    assert client.posts(rows) == answers


def test_without_a_model_or_before_the_window_is_filled_nothing_is_scored(make_client: MakeClient):
    client = make_client()
    client.application.service.model = None
    assert reasons(client.post(transaction())) == (503, ["not_ready"])
    assert client.get("/ready")[0] == 503
    client.application.service.model = make_model()
    assert client.get("/ready")[0] == 200
    client.application.is_filled = False
    assert reasons(client.post(transaction())) == (503, ["not_ready"])
    assert client.get("/health") == (200, b'{"status":"ok"}')


def test_what_was_answered_before_a_restart_is_known_after_it(
    make_service: Callable[..., Service], make_client: MakeClient
):
    from fraud_assets.serve.server import recall

    client = make_client(make_service())
    first = client.post(transaction())
    restarted = make_service()
    recall(restarted, restarted.journal._folder)
    client = make_client(restarted)
    assert client.post(transaction()) == first
    assert client.post(transaction(TransactionID="T2"))[1]["txn_count_5min"] == 2


def test_limits_end_in_statuses(make_client: MakeClient):
    rows = [transaction(TransactionID=f"T{n}") for n in range(3)]
    assert reasons(make_client(rows=2).post(rows)) == (413, ["too_many_rows"])
    assert reasons(make_client(body_bytes=100).post(rows)) == (413, ["too_large"])
    assert reasons(make_client(requests=0).post(rows)) == (503, ["overloaded"])
    client = make_client(rows_per_second=3)
    assert client.post(rows)[0] == 200
    assert reasons(client.post(rows)) == (429, ["rate"])
    assert reasons(make_client().post(rows, content_type="text/plain")) == (415, ["content_type"])


def test_a_body_that_never_ends_costs_its_sender_only(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fraud_assets.serve.application.BODY_SECONDS", 0.05)
    client = make_client()

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    async def half_and_whole() -> list[Any]:
        return list(
            await asyncio.gather(
                client.call("POST", "/score", b"", {}, never), client.call("POST", "/score", transaction(), {})
            )
        )

    assert [status for status, _ in asyncio.run(half_and_whole())] == [408, 200]


def test_a_token_is_asked_for_where_transactions_or_figures_are(make_client: MakeClient):
    client = make_client(token="0123456789abcdef")
    assert reasons(client.post(transaction())) == (401, ["token"])
    assert reasons(client.post(transaction(), authorization="Bearer 0123456789abcdeF")) == (401, ["token"])
    assert client.post(transaction(), authorization="Bearer 0123456789abcdef")[0] == 200
    assert client.get("/metrics")[0] == 401
    assert client.get("/metrics", authorization="Bearer 0123456789abcdef")[0] == 200
    assert client.get("/health")[0] == 200


def test_the_header_that_a_proxy_spreads_by_must_be_the_card(make_client: MakeClient):
    client = make_client(card_header="X-Card-Id")
    card = "card 1/ä"
    good = transaction(card_id=card)
    assert reasons(client.post(good)) == (422, ["card_header"])
    assert reasons(client.post(good, x_card_id="card-1")) == (422, ["card_header"])
    assert client.post(good, x_card_id=quote(card, safe=""))[0] == 200
    two = [transaction(TransactionID="T2", card_id=card), transaction(TransactionID="T3")]
    assert reasons(client.post(two, x_card_id=quote(card, safe=""))) == (422, ["card_header"])


def test_metrics_count_what_happened(make_client: MakeClient):
    client = make_client()
    client.post(transaction())
    client.post(transaction(card_id=""))
    text = client.get("/metrics")[1].decode()
    for line in (
        'fraud_requests_total{status="200"} 1.0',
        'fraud_requests_total{status="422"} 1.0',
        'fraud_refused_total{reason="missing_card"} 1.0',
        "fraud_scored_total 1.0",
        "fraud_window_transactions 1.0",
        "fraud_ready 1.0",
        "fraud_score_count 1.0",
        "fraud_request_seconds_count 2.0",
    ):
        assert line in text.splitlines()


def test_a_defect_is_a_500_whose_log_holds_no_card(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    client, card = make_client(), "4711-0815"

    def broken(_: object) -> None:
        raise KeyError(card)

    monkeypatch.setattr(client.application.service, "score", broken)
    assert reasons(client.post(transaction(card_id=card))) == (500, ["internal_error"])
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "KeyError" in record.getMessage()
    assert card not in record.getMessage()


def test_other_paths_and_methods_are_refused(make_client: MakeClient):
    client = make_client()
    assert client.get("/score")[0] == 405
    assert client.get("/nothing")[0] == 404
    status, page = client.get("/")
    assert status == 200
    assert b"<form" in page


def test_the_document_describes_what_is_answered(make_client: MakeClient):
    client = make_client(card_header="X-Card-Id")
    document = json.loads(client.get("/openapi.json")[1])
    _, answer = client.post(transaction(), x_card_id="card-1")
    described = document["components"]["schemas"]
    assert list(described["Answer"]["properties"]) == list(answer)
    assert set(described["CanonicalRecord"]["required"]) == set(transaction())
    _, refused = client.post({}, x_card_id="card-1")
    assert set(described["Fault"]["properties"]) == set(refused["errors"][0])
    assert document["paths"]["/score"]["post"]["parameters"][0]["name"] == "X-Card-Id"


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
JSON = st.recursive(LEAVES, lambda some: st.lists(some) | st.dictionaries(st.text(), some))
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    RECORDS.map(lambda changes: json.dumps(transaction(**changes)).encode()),
    st.lists(RECORDS, max_size=3).map(lambda some: json.dumps([transaction(**one) for one in some]).encode()),
    st.sampled_from([b"", b"[", b"[" * 5_000, b'{"a":' * 5_000, b"\xff", b"nul", b'{"a":1}{"b":2}', b"[[]]", b"\x00"]),
)


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    return make_client()


@given(bodies=st.lists(BODIES, min_size=1, max_size=4))
@settings(max_examples=cases(80, 160), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_service_fail(client: Client, bodies: list[bytes]):
    for status, body in client.posts(bodies):
        assert status in (200, 409, 422)
        assert status == 200 or body["errors"]
    # And goes on: everybody else is still answered.
    assert client.post(transaction(TransactionID="after", event_timestamp="2026-01-06T12:00:00Z"))[0] == 200


def test_a_large_lateness_is_a_matter_of_memory_alone(make_service: Callable[..., Service], make_client: MakeClient):
    client = make_client(make_service(lateness=timedelta(days=2)))
    client.post(transaction(event_timestamp="2026-01-06T11:00:00Z"))
    assert client.post(transaction(TransactionID="T2", event_timestamp="2026-01-04T12:00:00Z"))[0] == 200
