"""The HTTP service: an ASGI application around `service`, with limits before it.

Here belong paths, statuses, limits and the order in which requests become durable. A bare ASGI callable: a framework's
validation and routing cost several times what features and scores do (docs/adr/0015-real-time.md).
"""

import asyncio
import hmac
import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, Final
from urllib.parse import quote

import msgspec

from fraud_assets.serve.metrics import CONTENT_TYPE, Metrics
from fraud_assets.serve.openapi import document
from fraud_assets.serve.records import Fault, NotJsonError, Record, RecordReader, read_plain, split
from fraud_assets.serve.service import NotReadyError, RefusedError, Service

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY_SECONDS: Final = 10.0
"""So long may a body take to arrive: a sender that is slower holds a connection for nothing."""

ODD_AT_ONCE: Final = 64
"""Requests that wait for DuckDB, at most: they take some ten milliseconds each time, for all that wait."""

_JSON: Final = b"application/json"

_LOG: Final = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may ask for."""

    token: str | None = None
    card_header: str | None = None
    rows: int = 1000
    body_bytes: int = 2**20
    requests: int = 256
    rows_per_second: int = 10_000


class _Answered(Exception):  # noqa: N818 - not an error of ours
    """The request ends here, with this status and these faults."""

    def __init__(self, status: int, *faults: Fault, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status = status
        self.faults = faults
        self.headers = headers


def _because(status: int, reason: str, message: str, *, field: str = "", wait: bool = False) -> _Answered:
    return _Answered(status, Fault(0, field, reason, message), headers=[(b"retry-after", b"1")] if wait else [])


@dataclass(frozen=True)
class _Group:
    """What is written together: who waits for it, since when, and what writes it."""

    loop: asyncio.AbstractEventLoop
    waiting: list[asyncio.Future[str]]
    started: float
    write: Callable[[], OSError | None]


class Application:
    """The ASGI callable. `state` says what /ready shows beyond the service: what the other process reports."""

    def __init__(self, service: Service, limits: Limits, metrics: Metrics, state: Callable[[], dict[str, Any]]) -> None:
        self.service = service
        self._limits = limits
        self._metrics = metrics
        self._state = state
        self._reader = RecordReader(service.source)
        self._odd = ThreadPoolExecutor(1, "odd-records")
        self._odd_waiting = 0
        self._running = 0
        self._rows_left = float(limits.rows_per_second)
        self._filled_at = perf_counter()
        self._groups = SimpleQueue[_Group | None]()
        self._disk = Thread(target=self._write_groups, name="disk", daemon=True)
        self._disk.start()
        self._is_writing = False
        self._waiting: list[asyncio.Future[str]] = []
        self._seals: list[asyncio.Future[None]] = []
        self._journal_problem = ""
        self.is_filled = False
        self._refunds_count = service.source.rules.refunds == "absolute"
        service.observe = metrics.observe
        windows = service.windows
        metrics.gauge("fraud_window_cards", "Cards in memory.", lambda: windows.cards)
        metrics.gauge("fraud_window_transactions", "Transactions in memory.", lambda: windows.rows)
        metrics.gauge("fraud_window_watermark_seconds", "Latest event time known, in seconds since 1970.",
                      lambda: (windows.watermark or 0) / 1e6)  # fmt: skip
        metrics.gauge("fraud_running_requests", "Requests being answered.", lambda: self._running)
        metrics.gauge("fraud_ready", "1 where transactions are scored.", lambda: float(not self._problem()))

    def close(self) -> None:
        """Make durable what is not, and end the threads."""
        self._odd.shutdown()
        self._groups.put(None)
        self._disk.join()
        self._reader.close()
        self._commit_now()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/score":
            await self._score(scope, receive, send)
        else:
            await _respond(send, *self._page(scope))

    # Scoring

    async def _score(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        self._running += 1
        headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            status, body = 200, await self._answer(scope, receive)
        except _Answered as ended:
            status, headers = ended.status, ended.headers
            body = _encode({"errors": ended.faults})
            for fault in ended.faults:
                self._metrics.refused.labels(fault.reason).inc()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next request is answered
            # Neither the message nor the values: both may hold a card number.
            _LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            status, body = 500, _encode({"errors": [Fault(0, "", "internal_error", "This is a defect; see the log.")]})
        finally:
            self._running -= 1
        took = perf_counter() - started
        await _respond(send, status, _JSON, body, headers)
        self._metrics.request(status).inc()  # counting takes some ten microseconds: nobody waits for it
        self._metrics.seconds.observe(took)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        headers = self._admit(scope)
        body = await self._body(receive, headers)
        try:
            raws, is_list = split(body)
        except NotJsonError as error:
            raise _because(422, "unreadable_line", str(error)) from error
        if len(raws) > self._limits.rows:
            raise _because(413, "too_many_rows", f"A request may hold {self._limits.rows} transactions.")
        if not raws:
            return b"[]"
        self._take_rows(len(raws))
        records = await self._read(raws)
        self._compare_with_header(records, headers)
        if problem := self._problem():
            raise _because(503, "not_ready", problem, wait=True)
        try:
            answers = self.service.score(records)
        except RefusedError as error:
            raise _Answered(error.status, *error.faults) from error
        except NotReadyError as error:
            raise _because(503, "not_ready", str(error), wait=True) from error
        if problem := await self._durable():
            raise _because(503, "not_durable", problem, wait=True)
        self._metrics.scored.inc(len(answers))
        return b"[" + b",".join(answers) + b"]" if is_list else answers[0]

    def _admit(self, scope: Scope) -> Sequence[tuple[bytes, bytes]]:
        """Refuse what needs no look at the body."""
        headers = scope["headers"]
        if scope["method"] != "POST":
            raise _Answered(
                405, Fault(0, "", "method", "POST a transaction, or a list."), headers=[(b"allow", b"POST")]
            )
        if self._running > self._limits.requests:
            raise _because(503, "overloaded", "Too many requests at once.", wait=True)
        self._authorize(headers)
        content_type = _header(headers, b"content-type") or b""
        # No page of another site can send this type without asking first, and nobody answers that question.
        if content_type.split(b";")[0].strip().lower() != _JSON:
            raise _because(415, "content_type", "Send content-type: application/json.")
        return headers

    def _authorize(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._limits.token is not None:
            given = _header(headers, b"authorization") or b""
            if not hmac.compare_digest(given, b"Bearer " + self._limits.token.encode()):
                raise _because(401, "token", "Send authorization: Bearer TOKEN, with the token of FRAUD_SERVE_TOKEN.")

    async def _body(self, receive: Receive, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        length = _header(headers, b"content-length")
        if length is not None and (not length.isdigit() or int(length[:12]) > self._limits.body_bytes):
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _because(400, "disconnected", "The body did not arrive.")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._limits.body_bytes:
                        raise self._too_large()
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError as error:
            raise _because(408, "too_slow", f"The body took more than {BODY_SECONDS:g} seconds.") from error

    def _too_large(self) -> _Answered:
        return _because(413, "too_large", f"A body may have {self._limits.body_bytes} bytes.")

    def _take_rows(self, rows: int) -> None:
        """Refuse what goes beyond the rate: a second's worth is saved up, at most."""
        limit, now = self._limits.rows_per_second, perf_counter()
        if limit:
            self._rows_left = min(limit, self._rows_left + (now - self._filled_at) * limit)
            self._filled_at = now
            if self._rows_left < min(rows, limit):
                raise _because(429, "rate", f"More than {limit} transactions a second.", wait=True)
            self._rows_left -= rows

    async def _read(self, raws: Sequence[bytes]) -> Sequence[Record]:
        plain = [read_plain(raw, refunds_count=self._refunds_count) for raw in raws]
        records = [record for record in plain if record is not None]
        if len(records) == len(raws):
            return records
        if self._odd_waiting >= ODD_AT_ONCE:
            raise _because(503, "overloaded", "Too many raw records at once.", wait=True)
        self._odd_waiting += 1
        try:
            read = await asyncio.get_running_loop().run_in_executor(self._odd, self._reader.read, raws)
        finally:
            self._odd_waiting -= 1
        faults = [fault for one in read if isinstance(one, list) for fault in one]
        if faults:
            raise _Answered(422, *faults)
        return [record for record in read if isinstance(record, Record)]

    def _compare_with_header(self, records: Sequence[Record], headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Refuse transactions that a proxy would not have sent here, had it read them."""
        if self._limits.card_header is None:
            return
        name = self._limits.card_header
        given = [value for key, value in headers if key == name.lower().encode()]
        if len(given) != 1:
            raise _because(422, "card_header", f"Send {name} once: the card_id, percent-encoded.", field=name)
        faults = [
            Fault(at, "card_id", "card_header", f"The card is not the one in {name}.")
            for at, record in enumerate(records)
            if quote(record.transaction.card, safe="").encode() != given[0]
        ]
        if faults:
            raise _Answered(422, *faults)

    async def _durable(self) -> str:
        """Return once what was answered is durable; why it is not, else empty.

        All that is answered while the disk has one group is the next: they share one write and one sync.
        """
        loop = asyncio.get_running_loop()
        waits = loop.create_future()
        self._waiting.append(waits)
        if len(self._waiting) == 1 and not self._is_writing:
            loop.call_soon(self._begin_group, loop)
        return await waits

    def _begin_group(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._is_writing:
            self._is_writing = True
            self._groups.put(_Group(loop, self._waiting, perf_counter(), self.service.begin_commit()))
            self._waiting = []

    def _write_groups(self) -> None:
        """What the thread does. A pool of one, with its futures, takes longer than the disk does."""
        while (group := self._groups.get()) is not None:
            group.loop.call_soon_threadsafe(self._end_group, group, group.write())

    def _end_group(self, group: "_Group", problem: OSError | None) -> None:
        self._is_writing = False
        self._end_commit(group.waiting, group.started, problem)
        if self._seals or self.service.journal.is_full:
            self._seal_now()
            seals, self._seals = self._seals, []
            for one in seals:
                if not one.done():
                    one.set_result(None)
        self._begin_group(group.loop)

    def _commit_now(self) -> None:
        """Commit without another thread, nothing being appended meanwhile."""
        waiting, self._waiting = self._waiting, []
        started, write = perf_counter(), self.service.begin_commit()
        self._end_commit(waiting, started, write())

    def _end_commit(self, waiting: Sequence[asyncio.Future[str]], started: float, problem: OSError | None) -> None:
        self._journal_problem = ""
        try:
            self.service.end_commit(problem)
        except NotReadyError as error:
            self._journal_problem = str(error)
            _LOG.error("%s", error)
            waiting, self._waiting = [*waiting, *self._waiting], []  # what came since is lost, too
        for one in waiting:
            if not one.done():
                one.set_result(self._journal_problem)
        self._metrics.commits.observe(perf_counter() - started)

    def _seal_now(self) -> None:
        self._commit_now()
        self.service.journal.seal()

    async def seal(self) -> None:
        """Let what was accepted so far land."""
        if self._is_writing:
            self._seals.append(asyncio.get_running_loop().create_future())
            await self._seals[-1]
        else:
            self._seal_now()

    # Everything else

    def _page(self, scope: Scope) -> tuple[int, bytes, bytes, Sequence[tuple[bytes, bytes]]]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, _JSON, b'{"errors":[]}', [(b"allow", b"GET, HEAD")]
        match scope["path"]:
            case "/health":
                return 200, _JSON, b'{"status":"ok"}', ()
            case "/ready":
                problem = self._problem()
                return 503 if problem else 200, _JSON, _encode({"ready": not problem, **self._readiness(problem)}), ()
            case "/metrics":
                try:
                    self._authorize(scope["headers"])
                except _Answered as ended:
                    return ended.status, _JSON, _encode({"errors": ended.faults}), ()
                return 200, CONTENT_TYPE.encode(), self._metrics.text(), ()
            case "/openapi.json":
                return 200, _JSON, document(self.service.source, self._limits.card_header), ()
            case "/":
                return 200, b"text/html; charset=utf-8", _page(), _PAGE_HEADERS
            case _:
                return 404, _JSON, b'{"errors":[]}', ()

    def _problem(self) -> str:
        if not self.is_filled:
            return "what landed before is still being read"
        return "" if self.service.model else "no model version is behind @prod yet"

    def _readiness(self, problem: str) -> dict[str, Any]:
        windows, model = self.service.windows, self.service.model
        return {
            "problem": problem,
            "model_version": model and model.version,
            "cards": windows.cards,
            "transactions": windows.rows,
            "watermark_us": windows.watermark,
            "state_age_seconds": None if windows.watermark is None
            else max(0.0, (self.service.now_us() - windows.watermark) / 1e6),
            "journal_problem": self._journal_problem,
            **self._state(),
        }  # fmt: skip


_PAGE_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                                 b"connect-src 'self'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)  # fmt: skip


@cache
def _page() -> bytes:
    return Path(__file__).with_name("page.html").read_bytes()


def _header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key == name), None)


async def _respond(
    send: Send, status: int, content_type: bytes, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    sent = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
