"""How long an answer of the HTTP service takes, at a constant rate, client and server on the same machine.

The load is open: each request has a planned time, and what it takes counts from there, however late it is sent. Beside
the service stand endpoints of the same server that only echo, at once and once the disk has it, and, when both are
done, `mlflow models serve` with the same model: what it could not answer in time would take a core from others. What
belongs here: the load and its table. What does not: what is answered.
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import uvloop

from benchmarks.runs import COMPILED
from fraud_assets.resources.platform import Platform
from fraud_assets.serve.records import utc_text
from fraud_assets.settings import Settings
from fraud_assets.silver.contract import FEATURES

SECONDS: Final = float(os.environ.get("SERVING_SECONDS", "8"))
# Of each load; the first second is left out.
RATE: Final = 500
LADDER: Final = (1_000, 2_000, 3_000, 4_000)
HIGHEST_P99: Final = 0.020
# A rate is held while 99 of 100 answers take less.
CONNECTIONS: Final = 32
HOT_SHARE: Final = 0.2
# Of the requests go to five cards, the others to 100,000.
START_US: Final = 1_770_000_000_000_000
# 2026-02-02: after all that the benchmark's platform holds, and within the source.


@dataclass(frozen=True)
class Load:
    """One constant load: how many answers it got, and what they took from their planned times, in seconds."""

    way: str
    rate: int
    answers: int
    failed: int
    p50: float
    p99: float
    most: float


class _Connection(asyncio.Protocol):
    """One connection that is kept open; sends one request at a time."""

    def __init__(self, is_free: Callable[["_Connection", int], None]) -> None:
        self._is_free = is_free
        self._received = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end:
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(body) >= length:
                self._received = b""
                self._is_free(self, int(head[9:12]))


async def _load(port: int, rate: int, seconds: float, request: Callable[[], bytes]) -> tuple[list[float], int]:
    """Return what each answer took, from its planned time, and how many were no 200."""
    loop, took, failed = asyncio.get_running_loop(), list[float](), 0
    free: deque[_Connection] = deque()
    waiting: deque[tuple[float, bytes]] = deque()
    planned: dict[_Connection, float] = {}

    def send(connection: _Connection, at: float, body: bytes) -> None:
        planned[connection] = at
        connection.transport.write(body)

    def is_free(connection: _Connection, status: int) -> None:
        nonlocal failed
        took.append(perf_counter() - planned.pop(connection))  # the loop's own clock counts milliseconds
        failed += status != 200
        send(connection, *waiting.popleft()) if waiting else free.append(connection)

    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(lambda: _Connection(is_free), "127.0.0.1", port)
        free.append(connection)
    start, sent = perf_counter() + 0.1, asyncio.Event()

    def due(number: int) -> None:
        at, body = start + number / rate, request()
        send(free.popleft(), at, body) if free else waiting.append((at, body))
        if number + 1 == int(rate * seconds):
            sent.set()

    def pace() -> None:
        """A thread sleeps to some ten microseconds, and leaves the core to the server; the loop counts milliseconds."""
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, start + number / rate - perf_counter()))
            loop.call_soon_threadsafe(due, number)

    await asyncio.gather(asyncio.to_thread(pace), sent.wait())
    until = perf_counter() + 10
    while (planned or waiting) and perf_counter() < until:
        await asyncio.sleep(0.01)
    failed += len(planned) + len(waiting)
    for connection in [*free, *planned]:
        connection.transport.abort()
    return took[rate:], failed


def _measure(way: str, port: int, rate: int, request: Callable[[], bytes]) -> Load:
    sys.setswitchinterval(1e-4)  # else the pace waits up to five milliseconds for the loop
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        took, failed = runner.run(_load(port, rate, SECONDS, request))
    p50, p99 = np.percentile(took, [50, 99]) if took else (float("nan"), float("nan"))
    return Load(way, rate, len(took), failed, float(p50), float(p99), max(took, default=float("nan")))


def _post(path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        path.encode(), len(body), body,
    )  # fmt: skip


def _transactions() -> Iterator[bytes]:
    """Yield transactions, two milliseconds of their own time apart."""
    drawn = random.Random(0)
    for number in count():
        card = f"hot {drawn.randrange(5)}" if drawn.random() < HOT_SHARE else f"card {drawn.randrange(100_000)}"
        yield json.dumps(
            {
                "TransactionID": f"bench-{number}",
                "event_timestamp": utc_text(START_US + 2_000 * number),
                "card_id": card,
                "TransactionAmt": drawn.randrange(5_000_000_000) / 1000,
                "ProductCD": drawn.choice("WHCSR"),
                "is_international_txn": drawn.random() < 0.1,
            }
        ).encode()


def measure(folder: Path) -> list[Load]:
    """Return the loads on a platform of `runs.platform_with_partitions`: ways in turns, then ever higher rates."""
    settings = Settings(_env_file=None, source="simulated", data_dir=folder)  # pyright: ignore[reportCallIssue]
    registry = Platform(settings).model_registry
    registry.set_prod(COMPILED)
    environment = {
        **os.environ,
        "FRAUD_DATA_DIR": str(folder),
        "FRAUD_SERVE_ROWS_PER_SECOND": "0",
        "MLFLOW_TRACKING_URI": registry.tracking_uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    model = f"models:/{registry.model_name}/{COMPILED}"
    serve_model = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p"]
    transactions = _transactions()
    row = [[1.0 if feature.type == "double" else 1 for feature in FEATURES]]
    features = json.dumps({"dataframe_split": {"columns": [one.name for one in FEATURES], "data": row}}).encode()
    loads = []
    with _running([sys.executable, "-m", "benchmarks.serving_run"], "/ready", environment) as service:
        score = lambda: _post("/score", next(transactions))  # noqa: E731
        ways = {
            "only echoes": lambda: _post("/echo", next(transactions)),
            "echoes once it is durable": lambda: _post("/durable", next(transactions)),
            "fraud-assets serve --land": score,
        }
        for _ in range(2):
            loads += [_measure(way, service, RATE, request) for way, request in ways.items()]
        for rate in LADDER:
            loads.append(_measure("fraud-assets serve --land", service, rate, score))
            if loads[-1].p99 > HIGHEST_P99 or loads[-1].failed:
                break
    with _running([sys.executable, "-m", *serve_model], "/ping", environment) as mlflow:
        loads.append(_measure("mlflow models serve", mlflow, RATE, lambda: _post("/invocations", features)))
    return loads


def lines(loads: Sequence[Load]) -> list[str]:
    """Return a table for people."""
    shown = [f"{'One transaction over HTTP':46}" + "".join(f"{h:>12}" for h in ("a second", "p50", "p99", "failed"))]
    shown += [
        f"  {one.way:44}{one.rate:>12,}{one.p50 * 1e3:>9.2f} ms{one.p99 * 1e3:>9.2f} ms{one.failed:>12,}"
        for one in loads
    ]
    return shown


@contextmanager
def _running(command: Sequence[str], path: str, environment: dict[str, str]) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*command, str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command} does not answer")
            time.sleep(0.5)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False
