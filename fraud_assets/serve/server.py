"""Starts the service: its journal, its other process, the HTTP server; and ends them in order.

Here belongs what lives as long as the process. What is answered is `application`, what the other process does is
`companion`. Neither Dagster nor MLflow is imported here or below.
"""

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import uvicorn
import uvloop
from filelock import FileLock, Timeout

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model import attribution, scorer
from fraud_assets.resources.models.local_scorers import LocalScorers
from fraud_assets.serve.application import Application, Limits
from fraud_assets.serve.journal import Journal, entries, segments
from fraud_assets.serve.messages import Landed, Prod, Recent, decode
from fraud_assets.serve.metrics import Metrics
from fraud_assets.serve.service import Model, Service
from fraud_assets.serve.window import ConflictingIdError, Transaction
from fraud_assets.settings import Settings
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets.silver.source import Source, load_source

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than a proxy keeps an idle connection, so that it is never the service that closes one under a request."""

_ROWS_AT_A_TIME: Final = 5_000
"""Of those that landed before, between two looks at the network."""

_SWITCH_SECONDS: Final = 1e-4
"""About so long the thread that writes waits for the one that answers; Python's own five milliseconds are ages."""

_COLLECTION_SECONDS: Final = 600
"""Between two looks for cycles in all memory: with 100,000 cards one stops every answer for 70 to 300 ms."""

_LOG: Final = logging.getLogger(__name__)


class ServeError(FraudAssetsError):
    """The service cannot start as asked; the message says what to do."""


@dataclass
class _State:
    """What the other process said last."""

    prod_version: str | None = None
    prod_problem: str = "the registry was not asked yet"
    landed: int = 0
    landing_problem: str = ""
    companion_problem: str = ""

    def shown(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Server:
    """One service of a feed."""

    settings: Settings
    host: str
    port: int
    land: bool
    _state: _State = field(default_factory=_State)

    def run(self) -> None:
        """Serve until the process is told to end.

        Raises:
            ServeError: The host needs a token.
            JournalError: Another process has the journal.
        """
        refuse_without_token(self.host, self.settings)
        source = load_source(self.settings.source)
        with ExitStack() as stack:
            folder = stack.enter_context(_journal_folder(self.settings, source, self.port, land=self.land))
            journal = stack.enter_context(Journal(folder, durable=self.land))
            lateness = timedelta(minutes=self.settings.serve_lateness_minutes)
            service = Service.of(source, journal, lateness=lateness, now_us=lambda: time.time_ns() // 1000)
            recall(service, folder)
            metrics = Metrics()
            app = Application(service, limits_of(self.settings), metrics, self._state.shown)
            stack.callback(app.close)
            state = self._state
            metrics.gauge("fraud_landed_transactions", "Landed since the start.", lambda: state.landed)
            metrics.gauge("fraud_landing_failing", "1 while landing fails.", lambda: bool(state.landing_problem))
            metrics.gauge(
                "fraud_prod_refused",
                "1 while the version behind @prod is not the one that scores.",
                lambda: bool(state.prod_problem),
            )
            scorer.warm()
            attribution.warm()
            sys.setswitchinterval(_SWITCH_SECONDS)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(app, folder))

    async def _serve(self, app: Application, folder: Path) -> None:
        config = uvicorn.Config(
            app,
            host=self.host,
            port=self.port,
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=10,
        )
        server = _HttpServer(config)
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, server.ask_to_exit)
        tasks = [loop.create_task(one) for one in (self._accompany(app, folder), self._seal(app), _collect(app))]
        try:
            await server.serve()
        finally:
            await app.seal()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _seal(self, app: Application) -> None:
        while True:
            await asyncio.sleep(self.settings.serve_landing_seconds)
            await app.seal()
            if not self.land and (since := app.service.windows.kept_since) is not None:
                app.service.journal.forget(since)

    async def _accompany(self, app: Application, folder: Path) -> None:
        """Keep the other process running, and do as it says."""
        while True:
            process = await asyncio.create_subprocess_exec(
                *self._companion(app, folder), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                while line := await process.stdout.readline():
                    self._state.companion_problem = ""
                    await self._hear(app, decode(line))
            finally:
                process.stdin.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(20):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
            self._state.companion_problem = f"the other process ended with {process.returncode}; it is started again"
            _LOG.error("%s", self._state.companion_problem)
            await asyncio.sleep(1)

    def _companion(self, app: Application, folder: Path) -> list[str]:
        lateness = 60 * self.settings.serve_lateness_minutes
        options = [f"--lateness-seconds={lateness}", f"--keep-days={self.settings.serve_keep_days}"]
        options += ["--land"] if self.land else []
        options += ["--filled"] if app.is_filled else []
        return [sys.executable, "-m", "fraud_assets.serve.companion", str(folder), *options]

    async def _hear(self, app: Application, word: Recent | Prod | Landed) -> None:
        match word:
            case Recent():
                await _learn(app, Path(word.path))
            case Landed():
                self._state.landed += word.transactions
                self._state.landing_problem = word.problem
            case Prod():
                await self._take_up(app, word)

    async def _take_up(self, app: Application, word: Prod) -> None:
        """Score with the version from the next request on; one that cannot be loaded leaves the one before."""
        problem = word.problem
        if not problem and word.version is not None:
            try:
                app.service.model = await asyncio.to_thread(_load, word, word.version)
            except FraudAssetsError as error:
                problem = str(error)
        self._state.prod_version, self._state.prod_problem = word.version, problem
        if problem:
            _LOG.error("%s", problem)


async def _collect(app: Application) -> None:
    """Look for unreachable cycles in what is old at long intervals only, and never in what the service started with.

    What is kept of cards is hundreds of thousands of lists, none of them in a cycle; Python would search them all
    whenever they have become a quarter more, and no request is answered meanwhile. What dies young is collected as
    ever, and what is older, new cards for the most part, in smaller portions.
    """
    gc.set_threshold(gc.get_threshold()[0], 3, 2**30)
    while not app.is_filled:
        await asyncio.sleep(1)
    gc.collect()
    gc.freeze()
    while True:
        await asyncio.sleep(_COLLECTION_SECONDS)
        gc.collect()


def _load(word: Prod, version: str) -> Model:
    """Return the model of a version, tried once, so that no request waits for what is loaded at the first use.

    Raises:
        FraudAssetsError: It cannot be scored with here; the message says why.
    """
    compiled = LocalScorers(Path(word.folder), word.registry, word.model_name).load(version)
    if compiled is None:
        raise ServeError(f"The compiled scorer of version {version} cannot be loaded from {word.folder}.")
    if compiled.feature_names != FEATURE_NAMES:
        raise ServeError(f"Version {version} has other features: {', '.join(compiled.feature_names)}.")
    model = Model.of(version, compiled)
    nothing = np.zeros((1, len(FEATURE_NAMES)))
    model.attribution.scores_and_contributions(nothing)
    return model


class _HttpServer(uvicorn.Server):
    """A server that leaves signals to who started it: else the process would end before its journal does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def ask_to_exit(self) -> None:
        self.should_exit = True


def refuse_without_token(host: str, settings: Settings) -> None:
    """Return where a host may be bound.

    Raises:
        ServeError: It can be reached from other machines, and no token is set.
    """
    is_local = host == "localhost"
    with suppress(ValueError):
        is_local = is_local or ip_address(host).is_loopback
    if not is_local and settings.serve_token is None:
        raise ServeError(f"Other machines can reach {host}: set FRAUD_SERVE_TOKEN, or leave --host at 127.0.0.1.")


def limits_of(settings: Settings) -> Limits:
    """Return what the settings allow."""
    return Limits(
        token=None if settings.serve_token is None else settings.serve_token.get_secret_value(),
        card_header=settings.serve_card_header or None,
        rows=settings.serve_max_rows,
        body_bytes=settings.serve_max_bytes,
        requests=settings.serve_max_requests,
        rows_per_second=settings.serve_rows_per_second,
    )


@contextmanager
def _journal_folder(settings: Settings, source: Source, port: int, *, land: bool) -> Iterator[Path]:
    """Give the folder of the journal: one that stays, by the port, or one that is gone afterwards."""
    if not land:
        with TemporaryDirectory(prefix="fraud-assets-serve-") as scratch:
            yield Path(scratch)
        return
    journals = settings.resolved_data_dir(source) / "serve"
    journals.mkdir(parents=True, exist_ok=True)
    for other in journals.iterdir():  # what a service left behind that is not running any more lands, too
        if other.name != str(port) and segments(other, "open"):
            with suppress(Timeout), FileLock(other / ".lock", timeout=0):
                for segment in segments(other, "open"):
                    segment.rename(segment.with_suffix(".sealed"))
    yield journals / str(port)


def recall(service: Service, folder: Path) -> None:
    """Fill the window with what the journal says was answered, as far back as a window may reach."""
    windows = service.windows
    for segment in reversed(segments(folder)):
        latest = None
        for place, entry in entries(segment):
            windows.add(
                Transaction(
                    entry.id, entry.time_us, entry.card, entry.product, entry.thousandths, entry.is_international
                ),
                place,
            )
            latest = max(entry.time_us, latest or entry.time_us)
        windows.forget(())
        if latest is not None and latest < (windows.kept_since or latest):
            break


async def _learn(app: Application, recent: Path) -> None:
    """Fill the window with what landed before, except what it holds from the journal."""
    windows, cards = app.service.windows, set[str]()
    with recent.open("rb") as lines:
        for number, line in enumerate(lines):
            transaction = Transaction(*msgspec.json.decode(line))
            with suppress(ConflictingIdError):
                if windows.find(transaction) is None:
                    windows.add(transaction)
                    cards.add(transaction.card)
            if number % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)
    recent.unlink()
    windows.forget(cards)
    app.is_filled = True
