"""The other process of a service: lands what is sealed, reads what landed before, and follows `@prod`.

Here belongs all that needs Dagster, MLflow or Delta, so that the process that answers has none of them in its memory
and never waits for one. It says what it finds on its standard output (`messages`), and ends when its input does.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic, time
from typing import Any, Final

import duckdb
import msgspec

from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.scorer import Scorer
from fraud_assets.partition_keys import bounds
from fraud_assets.resources.grain import record_grain
from fraud_assets.resources.landing_zone import Landing
from fraud_assets.resources.models.registry import ModelRegistry
from fraud_assets.resources.platform import Platform
from fraud_assets.resources.tables import PARTITION_BUILDS, SILVER_TRANSACTIONS
from fraud_assets.serve.landing import forget_landed, land_sealed
from fraud_assets.serve.messages import Landed, Prod, Recent, encode
from fraud_assets.settings import load_settings
from fraud_assets.silver.cleaning import clean
from fraud_assets.silver.contract import WINDOW
from fraud_assets.silver.raw_files import BrokenFileError

LOOK_SECONDS: Final = 1.0
"""How often sealed segments and `@prod` are looked at: a listing and one small query."""

RETRY_SECONDS: Final = 15.0
"""How often a version that could not be scored with is tried again: its files may be fetched for it."""

_NICENESS: Final = 10
"""Nobody waits for what it does once the window is filled: where cores are short, answers come first."""

_VALUES: Final = "TransactionID, epoch_us(event_timestamp), card_id, ProductCD, {amount}, is_international_txn = 1"

_ROWS: Final = 10_000


def recent_transactions(platform: Platform, landing: Landing, lateness: timedelta) -> Iterator[tuple[Any, ...]]:
    """Yield what the windows of the latest transactions may see, as the values of a `Transaction`.

    Read as the batch would read it: of a partition whose Silver is what landed from there, of any other from its files.
    """
    built = platform.lake.partition_states(PARTITION_BUILDS, ("input_version",))
    known = (key for key in {*landing.partitions, *built} if platform.source.in_range(key))
    since = None
    with platform.lake.connect() as connection:
        for key in sorted(known, reverse=True):
            if since is not None and bounds(key, platform.source.partitions.grain)[1] <= since:
                return
            relation = _relation(platform, connection, key, landing, built.get(key, {}).get("input_version"))
            [(latest,)] = connection.execute(f"SELECT max(event_timestamp) FROM {relation}").fetchall()
            if latest is None:
                continue
            since = since or latest - lateness - WINDOW
            amount = "amount_thousandths" if relation == "good_transactions" else _THOUSANDTHS
            rows = connection.execute(
                f"SELECT {_VALUES.format(amount=amount)} FROM {relation} WHERE event_timestamp >= ?", [since]
            )
            while some := rows.fetchmany(_ROWS):
                yield from some


_THOUSANDTHS: Final = "round_even(TransactionAmt * 1000, 0)::BIGINT"


def _relation(
    platform: Platform, con: duckdb.DuckDBPyConnection, key: str, landing: Landing, built_from: str | None
) -> str:
    files = landing.partitions.get(key)
    if files and str(platform.landing_zone.input_digest(files)) != built_from:
        try:
            clean(con, platform.source, key, [file.raw for file in files])
        except BrokenFileError:  # the batch says so; until it is mended, its last Silver counts
            pass
        else:
            return "good_transactions"
    return platform.lake.select(SILVER_TRANSACTIONS, keys=[key])


def look_at_prod(registry: ModelRegistry) -> Prod:
    """Return the version behind `@prod`, its compiled scorer fetched and compared with what was registered."""
    version = None
    try:
        version = registry.prod_version()
        if version is None:
            return Prod(None, "No version is behind @prod.")
        scorer = registry.scorer(version)
    except FraudAssetsError as error:
        return Prod(version, str(error))
    if not isinstance(scorer, Scorer):
        return Prod(version, f"Version {version} has no compiled scorer that can be used here.")
    local = registry.local_scorers
    return Prod(version, "", str(local.folder), local.registry, local.model_name)


class _Follower:
    """Says what is behind `@prod` whenever that changes."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._said: Prod | None = None
        self._tried = 0.0

    def look(self) -> None:
        """Ask the registry; of a version that is known to be good, only whether it is still there."""
        said = self._said
        if said is not None and not said.problem:
            try:
                if self._registry.prod_version() == said.version:
                    return
            except FraudAssetsError:
                pass
        elif said is not None and monotonic() < self._tried + RETRY_SECONDS and not self._moved(said):
            return
        self._tried = monotonic()
        found = look_at_prod(self._registry)
        if found != said:
            self._said = found
            _say(found)

    def _moved(self, said: Prod) -> bool:
        try:
            return self._registry.prod_version() != said.version
        except FraudAssetsError:
            return False


def _say(word: Recent | Prod | Landed) -> None:
    sys.stdout.buffer.write(encode(word) + b"\n")
    sys.stdout.buffer.flush()


def _land(platform: Platform, journals: Path, keep: timedelta) -> Callable[[], None]:
    """Return what lands the sealed segments of every journal, also of a service that is no more."""
    said = ""

    def land() -> None:
        nonlocal said
        landed, problem = 0, ""
        try:
            for journal in sorted(path for path in journals.iterdir() if path.is_dir()):
                landed += land_sealed(journal, platform.landing_zone.folder, platform.source.partitions.grain)
                forget_landed(journal, lambda written: written < time() - keep.total_seconds())
        except OSError as error:
            problem = f"{error.strerror}: {error.filename}"
        if landed or problem != said:
            said = problem
            _say(Landed(landed, problem))

    return land


def _fill(platform: Platform, journal: Path, lateness: timedelta) -> None:
    path = journal / ".recent.jsonl"
    with path.open("wb") as recent:
        for row in recent_transactions(platform, platform.look(), lateness):
            recent.write(msgspec.json.encode(row) + b"\n")
    _say(Recent(str(path)))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the parent says; by default what this process was started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("journal", type=Path)
    parser.add_argument("--lateness-seconds", type=float, required=True)
    parser.add_argument("--keep-days", type=float, required=True)
    parser.add_argument("--land", action="store_true")
    parser.add_argument("--filled", action="store_true")
    return parser.parse_args(given)


def main() -> None:
    """Do all of it until the input ends, which it does with the parent."""
    options = arguments()
    for ignored in (signal.SIGINT, signal.SIGTERM):  # they are for the parent, which then closes the input
        signal.signal(ignored, signal.SIG_IGN)
    ended = Event()
    Thread(target=lambda: (sys.stdin.buffer.read(), ended.set()), daemon=True).start()
    platform = Platform(load_settings())
    land = lambda: None  # noqa: E731
    if options.land:
        record_grain(platform.data_dir, platform.source)
        land = _land(platform, options.journal.parent, timedelta(days=options.keep_days))
    land()
    if not options.filled:
        _fill(platform, options.journal, timedelta(seconds=options.lateness_seconds))
    os.nice(_NICENESS)
    follower = _Follower(platform.model_registry)
    while not ended.wait(LOOK_SECONDS):
        follower.look()
        land()
    land()


if __name__ == "__main__":
    main()
