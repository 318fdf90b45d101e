"""The HTTP service as a process of its own, on a real platform: what it answers is what Gold says, whatever dies."""

import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final, Self
from urllib.parse import quote

import dagster as dg
import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from fraud_assets.checks.serve import SERVE_CHECKS
from fraud_assets.resources.tables import PREDICTIONS, SILVER_TRANSACTIONS
from fraud_assets.serve.journal import landed_entries
from fraud_assets.serve.records import read_plain, utc_text
from fraud_assets.serve.window import Transaction, Windows
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.raw_files import RawFile
from fraud_assets.simulator.writing import write_day
from fraud_assets_tests.depth import MORE, cases, full_only
from fraud_assets_tests.end_to_end.browser import CHROMIUM, open_browser
from fraud_assets_tests.end_to_end.servers import a_free_port, serve
from fraud_assets_tests.end_to_end.shell import ROOT
from fraud_assets_tests.platform import TestPlatform

NEXT_DAY: Final = date(2026, 1, 7)
"""The day after those that are scored."""

NOON_US: Final = 1_767_787_200_000_000


@dataclass
class Server:
    """`fraud-assets serve`, started as a user does."""

    data_dir: Path
    port: int = field(default_factory=a_free_port)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        command = [sys.executable, "-m", "fraud_assets.cli", "serve", f"--port={self.port}", "--land"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.data_dir.parent,
                env={**os.environ, "FRAUD_DATA_DIR": str(self.data_dir), **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: self.get("/ready")[0] == 200)
        return self

    def wait(self, condition: Callable[[], bool], seconds: int = 120) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    @property
    def log(self) -> Path:
        return self.data_dir.parent / f"serve-{self.port}.log"

    def stop(self) -> None:
        """End it in order: everything that was accepted lands."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, self.log.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def client(self) -> "Client":
        return Client(self.port)

    def get(self, path: str) -> tuple[int, Any]:
        with self.client() as client:
            return client.request("GET", path)


class Client:
    """One connection that is kept open, as a payment service keeps one."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.request("POST", "/score", json.dumps(body), {"content-type": "application/json", **headers})

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any]:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        content = response.read()
        is_json = (response.getheader("content-type") or "").startswith("application/json")
        return response.status, json.loads(content) if is_json else content.decode()


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    try:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(Server.start, servers))
        yield
    finally:
        for server in servers:
            server.end()


@pytest.fixture(scope="module")
def shared(_scored_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running service for all tests that only talk to it."""
    data_dir = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(_scored_data, data_dir)
    server = Server(data_dir)
    with running(server):
        yield server


def canonical(row: Transaction) -> dict[str, Any]:
    return {
        "TransactionID": row.id,
        "event_timestamp": utc_text(row.time_us),
        "card_id": row.card,
        "TransactionAmt": row.thousandths / 1000,
        "ProductCD": row.product,
        "is_international_txn": row.is_international,
    }


def simulated(platform: TestPlatform, folder: Path, days: int, rows_per_day: int) -> list[Transaction]:
    """Days of the feed as a service gets them: in the order of time; a crowded window of large amounts among them."""
    rows = []
    with platform.lake.connect() as con:
        for number in range(days):
            day = NEXT_DAY + timedelta(days=number)
            path = write_day(day, folder, rows_per_day=rows_per_day)
            clean(con, platform.platform.source, day.isoformat(), [RawFile(path, path.name)])
            rows += con.execute(
                "SELECT TransactionID, epoch_us(event_timestamp), card_id, ProductCD, amount_thousandths,"
                " is_international_txn = 1 FROM good_transactions"
            ).fetchall()
    drawn = random.Random(7)
    rows += [
        (f"hot-{n}", NOON_US + n * 600_000, "hot", "WHC"[n % 3], drawn.randrange(5_000_000_000), n % 2 == 0)
        for n in range(330)
    ]
    return sorted((Transaction(*row) for row in rows), key=lambda row: row.time_us)


def test_what_was_answered_one_by_one_is_what_gold_says_to_the_bit(
    scored_platform: TestPlatform, tmp_path: Path
) -> None:
    rows = simulated(scored_platform, tmp_path / "raw", days=cases(1, 2), rows_per_day=cases(400, 800))
    # One that comes last and should have come first: every difference is explained by what was known.
    early = Transaction("early", NOON_US + 1, "hot", "late", 1_000, False)
    server = Server(scored_platform.data_dir, environment={"FRAUD_SERVE_LANDING_SECONDS": "0.5"})
    answers: dict[str, dict[str, Any]] = {}
    with running(server), server.client() as client:
        for row in rows:
            status, answers[row.id] = client.post(canonical(row))
            assert status == 200, answers[row.id]
            if row.id == "hot-329":
                status, answers["early"] = client.post(canonical(early))
        server.stop()

    assert [ended.problem for ended in scored_platform.run()] == [""]
    compared = ("fraud_score", "score_percentile", "is_anomaly", *FEATURE_NAMES)
    found = scored_platform.rows(
        f"SELECT gold.TransactionID, gold.fraud_score, score_percentile, is_anomaly,"
        f" {', '.join(f'silver.{name}' for name in FEATURE_NAMES)} FROM {{gold}} AS gold"
        f" JOIN {{silver}} AS silver USING (partition_key, TransactionID) WHERE partition_key >= '{NEXT_DAY}'",
        gold=PREDICTIONS,
        silver=SILVER_TRANSACTIONS,
    )
    gold = {name: dict(zip(compared, values, strict=True)) for name, *values in found}
    assert gold.keys() == answers.keys()
    differing = {
        name: row for name, row in gold.items() if row != {column: answers[name][column] for column in compared}
    }
    # Ties come after the first of them, the early one after all that see it.
    by_time: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        by_time.setdefault((row.card, row.time_us), []).append(row.id)
    explained = {name for tied in by_time.values() for name in tied[:-1]}
    explained |= {row.id for row in rows if row.card == "hot" and row.time_us >= early.time_us}
    assert differing.keys() <= explained
    assert "hot-10" in differing
    assert answers["early"]["txn_count_5min"] == gold["early"]["txn_count_5min"] == 2

    job = dg.define_asset_job("parity", selection=dg.AssetSelection.checks(*SERVE_CHECKS))
    definitions = dg.Definitions.merge(scored_platform.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("parity").execute_in_process(instance=scored_platform.instance)
    [evaluation] = result.get_asset_check_evaluations()
    said = {name: value.value for name, value in evaluation.metadata.items()}
    assert evaluation.passed
    assert said["answers"] == len(rows) + 1
    assert said["share_late_data"] == pytest.approx(len(differing) / said["answers"])
    assert said["share_equal"] == pytest.approx(1 - said["share_late_data"])


class Load:
    """Clients that post without a pause; what they were told is kept."""

    def __init__(self, server: Server, clients: int = 3) -> None:
        self.server = server
        self.acknowledged: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.refused: list[Any] = []
        self.timed: list[tuple[float, float, str]] = []
        self._clients = clients
        self._ended = Event()
        self._posted = 0
        self._running: list[Future[None]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        self._ended.clear()
        with ThreadPoolExecutor(self._clients) as pool:
            self._running = [pool.submit(self._post, number) for number in range(self._clients)]
            try:
                yield
            finally:
                self._ended.set()
        for one in self._running:
            one.result()

    def _post(self, client_number: int) -> None:
        drawn = random.Random(client_number)
        with self.server.client() as client:
            while not self._ended.is_set():
                self._posted += 1
                number = self._posted
                row = Transaction(
                    f"L{client_number}-{number}",
                    NOON_US + 86_400_000_000 + number * 20_000,
                    f"card {drawn.randrange(4)}",
                    drawn.choice("WHC"),
                    drawn.randrange(5_000_000_000),
                    drawn.random() < 0.5,
                )
                sent = time.monotonic()
                try:
                    status, answer = client.post(canonical(row))
                except (OSError, http.client.HTTPException, ValueError):
                    return  # the server is gone
                if status == 200:
                    self.acknowledged[row.id] = canonical(row), answer
                    self.timed.append((sent, time.monotonic(), answer["model_version"]))
                else:
                    self.refused.append(answer)


def landed_rows(data_dir: Path) -> list[Transaction]:
    rows = []
    for path in sorted((data_dir / "landing").glob("*/*.canonical.jsonl")):
        for line in path.read_bytes().splitlines():
            record = read_plain(line)
            assert record is not None
            rows.append(record.transaction)
    return rows


def test_every_acknowledged_transaction_lands_once_however_often_the_service_is_killed(
    scored_platform: TestPlatform,
) -> None:
    server = Server(scored_platform.data_dir, environment={"FRAUD_SERVE_LANDING_SECONDS": "0.3"})
    load, drawn = Load(server), random.Random(0)
    try:
        for _ in range(MORE * cases(1, 5)):
            server.start()
            with load.running():
                before = len(load.acknowledged)
                server.wait(lambda: len(load.acknowledged) > before + 50)  # noqa: B023 - it is called in this round
                time.sleep(drawn.uniform(0.0, 2.0))
                server.kill()
        server.start()
        # What was answered before is answered again, to the byte.
        with server.client() as client:
            for name in [*load.acknowledged][-20:]:
                posted, answer = load.acknowledged[name]
                assert client.post(posted) == (200, answer)
            last = max(row["event_timestamp"] for row, _ in load.acknowledged.values())
            at = datetime.fromisoformat(last) + timedelta(seconds=1)
            probes = [
                Transaction(f"probe {n}", (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
                            f"card {n}", "W", 1_000, False)
                for n in range(4)
            ]  # fmt: skip
            told = {probe.id: client.post(canonical(probe))[1] for probe in probes}
        server.stop()
    finally:
        server.end()

    landed = landed_rows(scored_platform.data_dir)
    names = [row.id for row in landed]
    assert load.acknowledged.keys() <= set(names)
    assert len(names) == len(set(names))
    assert not load.refused
    # The windows are those of a service that was never killed.
    windows = Windows(lateness=timedelta(days=1), partition=timedelta(days=1))
    for row in landed:
        windows.add(row)
    limit = scored_platform.platform.source.features.high_value_amount
    for probe in probes:
        assert windows.features(probe, limit) == tuple(told[probe.id][name] for name in FEATURE_NAMES)


@full_only("trains once more")
def test_a_moved_alias_is_followed_without_a_failed_request_and_a_foreign_version_is_refused(
    scored_platform: TestPlatform,
) -> None:
    registry, server = scored_platform.model_registry, Server(scored_platform.data_dir)
    client = MlflowClient(tracking_uri=registry.tracking_uri)
    first = client.get_model_version(registry.model_name, "1")
    for tags in (first.tags, {}):  # the same files once more, and as somebody else would register them
        with registry.as_mlflow_default():
            client.create_model_version(
                registry.model_name, first.source, first.run_id, tags=tags, model_id=first.source.split("/")[-1]
            )
    load, moves = Load(server, clients=2), [(time.monotonic(), "1")]
    with running(server), load.running():
        for number in range(10):
            version = "21"[number % 2]
            moves.append((time.monotonic(), version))
            registry.set_prod(version)
            time.sleep(1.5)
        server.wait(lambda: server.get("/ready")[1]["model_version"] == "1")
        registry.set_prod("3")
        server.wait(lambda: "not registered by fraud_assets" in server.get("/ready")[1]["prod_problem"])
        status, ready = server.get("/ready")
        assert (status, ready["model_version"], ready["prod_version"]) == (200, "1", "3")
        assert "fraud_prod_refused 1.0" in server.get("/metrics")[1]
        registry.set_prod("2")
        server.wait(lambda: server.get("/ready")[1]["model_version"] == "2")
    assert not load.refused
    assert len(load.timed) > 50
    assert {version for *_, version in load.timed} == {"1", "2"}
    # It was behind @prod at some moment of the request, or of the seconds before it.
    for sent, received, version in load.timed:
        assert (
            any(
                moved < received and until > sent - 10
                for (moved, of), until in zip(moves, [*(at for at, _ in moves[1:]), float("inf")], strict=True)
                if of == version
            )
            or sent > moves[-1][0]
        )


@full_only("kills a process of the service")
def test_a_companion_that_died_is_missed_and_started_again(scored_platform: TestPlatform) -> None:
    server = Server(scored_platform.data_dir, environment={"FRAUD_SERVE_LANDING_SECONDS": "0.3"})
    with running(server):
        assert server.process is not None
        [companion] = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(companion), signal.SIGKILL)
        server.wait(lambda: "it is started again" in server.get("/ready")[1]["companion_problem"])
        with server.client() as client:
            status, _ = client.post(canonical(Transaction("after", NOON_US, "card", "W", 1_000, False)))
        assert status == 200
        server.wait(lambda: "after" in [row.id for row in landed_rows(scored_platform.data_dir)])
        assert server.get("/ready")[1]["companion_problem"] == ""


def test_another_address_needs_a_token(scored_platform: TestPlatform) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fraud_assets.serve", "--host=0.0.0.0", f"--port={a_free_port()}"],
        env={**os.environ, "FRAUD_DATA_DIR": str(scored_platform.data_dir)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "FRAUD_SERVE_TOKEN" in done.stderr


def test_the_process_that_answers_has_neither_dagster_nor_mlflow(shared: Server) -> None:
    assert shared.process is not None
    mapped = Path(f"/proc/{shared.process.pid}/maps").read_text()
    assert "_duckdb" in mapped
    assert "deltalake" not in mapped
    look = "import sys, fraud_assets.serve.server; print({'dagster', 'mlflow', 'deltalake', 'pandas'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout == "set()\n"


def blocks(language: str) -> list[str]:
    """The examples of docs/serving.md in one language."""
    text = (ROOT / "docs" / "serving.md").read_text()
    return [block.split("```")[0] for block in text.split(f"```{language}\n")[1:]]


def test_the_clients_of_the_documentation_work(shared: Server, tmp_path: Path) -> None:
    [curl] = [block for block in blocks("bash") if "curl" in block]
    [python] = blocks("python")
    (tmp_path / "client.py").write_text(python.replace(":8080", f":{shared.port}"))
    by_curl = subprocess.run(
        ["bash", "-ec", curl.replace(":8080", f":{shared.port}")], capture_output=True, text=True, check=True
    )
    by_python = subprocess.run([sys.executable, tmp_path / "client.py"], capture_output=True, text=True, check=True)
    assert '"fraud_score":' in by_curl.stdout
    assert '"ready":true' in by_curl.stdout
    assert "model version" in by_python.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_a_person_posts_a_transaction_and_sees_score_and_reasons(shared: Server) -> None:
    problems: list[str] = []
    with open_browser() as browser, browser.new_page(base_url=f"http://127.0.0.1:{shared.port}") as page:
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto("/")
        when = page.get_by_label("Time (UTC)")
        expect(when).to_have_value(re.compile(r"2026-\d\d-\d\dT.*Z"))  # one that this feed accepts
        for name, text in {"Card": "page card", "Amount": "4999", "Product": "W"}.items():
            page.get_by_label(name, exact=True).fill(text)
        page.get_by_label("away from the card's home").check()
        page.get_by_role("button", name="Score").click()
        answer = page.locator("#answer")
        expect(answer.get_by_role("heading")).to_have_text("Suspicious", timeout=60_000)
        expect(answer).to_contain_text("abroad")
        expect(answer).to_contain_text("scored lower")
        assert problems == []  # a refusal, below, is one in the browser's eyes
        when.fill("soon")
        page.get_by_role("button", name="Score").click()
        expect(answer.get_by_role("heading")).to_have_text("Not accepted", timeout=60_000)
        expect(answer).to_contain_text("event_timestamp")


HAPROXY: Final = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


@contextmanager
def haproxy(folder: Path, *ports: int) -> Iterator[int]:
    """Run the proxy by the documented configuration, on free ports."""
    assert HAPROXY is not None
    text, port = (ROOT / "deploy" / "haproxy.cfg").read_text(), a_free_port()
    for documented, free in zip(("8080", "8081", "8082"), (port, *ports), strict=True):
        text = text.replace(f":{documented}", f":{free}")
    (folder / "haproxy.cfg").write_text(text)
    with serve(
        [HAPROXY, "-db", "-f", "haproxy.cfg"], f"http://127.0.0.1:{port}/health", folder=folder, environment=os.environ
    ):
        yield port


@full_only("starts two services and a proxy")
@pytest.mark.skipif(HAPROXY is None, reason="there is no haproxy: apt-get install haproxy")
def test_two_processes_behind_a_proxy_answer_as_one_and_one_that_died_is_missed_in_words(
    scored_platform: TestPlatform, tmp_path: Path
) -> None:
    header = {"FRAUD_SERVE_CARD_HEADER": "X-Card-Id"}
    servers = [Server(scored_platform.data_dir, environment=header) for _ in range(2)]
    windows = Windows(lateness=timedelta(days=1), partition=timedelta(days=1))
    limit = scored_platform.platform.source.features.high_value_amount

    def post(client: Client, number: int, card: str) -> int:
        row = Transaction(f"P{number}", NOON_US + number * 1_000_000, card, "W", 1_000 * number, False)
        status, answer = client.post(canonical(row), **{"X-Card-Id": quote(card, safe="")})
        if status == 200:
            windows.add(row)
            assert tuple(answer[name] for name in FEATURE_NAMES) == windows.features(row, limit)
        return status

    cards = [f"card/{n} ä" for n in range(20)]
    with running(*servers), haproxy(tmp_path, *(server.port for server in servers)) as port, Client(port) as client:
        assert {post(client, n, cards[n % 20]) for n in range(100)} == {200}
        held = [server.get("/ready")[1]["cards"] for server in servers]
        assert min(held) > 0
        wrong = canonical(Transaction("W", NOON_US, cards[0], "W", 1, False))
        assert client.post(wrong, **{"X-Card-Id": "other"})[0] == 422
        assert client.post(wrong)[0] == 422
        servers[0].kill()
        statuses = {card: post(client, 100 + n, card) for n, card in enumerate(cards)}
        assert set(statuses.values()) == {200, 503}
        servers[0].start()
        assert {post(client, 200 + n, card) for n, card in enumerate(cards)} == {200}
    assert all(isinstance(entry.id, str) for entry in landed_entries(scored_platform.data_dir / "serve"))
