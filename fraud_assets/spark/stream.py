"""Structured Streaming as another clock: files that appear make a micro-batch, and a batch does what is due.

Spark remembers in a checkpoint which files it has seen. What is done about them is decided from what is on disk, as
everywhere, so that a batch that Spark repeats after a crash finds its partitions made and changes nothing.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final, Literal

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.tables import SILVER_TRANSACTIONS
from fraud_assets.spark.jobs import SparkJobError, last_words
from fraud_assets.spark.producer import Done, Producer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame  # pyright: ignore[reportMissingImports]

Over = Literal["landing", "silver"]

_FILES: Final = "path string, modificationTime timestamp, length bigint, content binary"
"""What Spark says of a file. Only the path is asked for, so that no content is read here."""

_FILES_AT_ONCE: Final = 1000
"""New files of one batch, at most."""

_AGE: Final = "36500d"
"""By default Spark overlooks a file that is a week older than the newest one: one that was copied with its time."""

_IDLE_SECONDS: Final = 60
"""After so long without a batch a person is told that there is nothing new."""

_SETTLES_SECONDS: Final = 1.0
"""A file counts when its size and time have held for so long."""

_LOOKS: Final = 60
"""So often a file that grows is waited for; then the batch does without, and a later one finds it due."""


@dataclass(frozen=True)
class Batch:
    """What one micro-batch found and did."""

    number: int
    files: int
    done: tuple[Done, ...]

    @property
    def rows(self) -> int:
        """Rows that were written."""
        return sum(one.rows for one in self.done)


class ResetRefusedError(FraudAssetsError):
    """A checkpoint is not forgotten unless a person says so."""


@dataclass(frozen=True)
class Stream:
    """A stream over the landing zone, which builds and scores, or over the Silver table, which scores."""

    producer: Producer
    over: Over = "landing"

    @property
    def checkpoint(self) -> Path:
        """Where Spark remembers what it has seen."""
        return checkpoint_of(self.producer.platform.data_dir, self.over)

    def run(self, *, once: bool, seconds: float, tell: Callable[[Batch | None, int | None], object]) -> None:
        """Do what is due whenever files appear: for ever, or, once, until there is none that was not seen.

        `tell` gets each batch and its number; no batch, and the number of the latest one, where nothing is new.

        Raises:
            SparkJobError: the stream stopped; the message is that of what stopped it.
        """
        from pyspark.errors import PySparkException  # pyright: ignore[reportMissingImports]

        told: list[int] = []

        def do(files: "DataFrame", number: int) -> None:
            batch = self._do(number, [row.path for row in files.select("path").collect()])
            told.append(number)
            tell(batch, number)

        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        stream = self.producer.jobs.session.readStream.format("binaryFile").schema(_FILES)
        files = stream.options(recursiveFileLookup=True, maxFilesPerTrigger=_FILES_AT_ONCE, maxFileAge=_AGE)
        when: dict[str, Any] = {"availableNow": True} if once else {"processingTime": f"{seconds} seconds"}
        written = files.load(str(folder)).writeStream.foreachBatch(do).trigger(**when)
        query = written.option("checkpointLocation", self.checkpoint.as_uri()).start()
        try:
            while not query.awaitTermination(_IDLE_SECONDS):
                if not told:
                    tell(None, last_batch(self.checkpoint))
                told.clear()
        except PySparkException as error:
            raise SparkJobError(f"The stream stopped. {last_words(str(error))}") from error
        finally:
            query.stop()
        if not told:
            tell(None, last_batch(self.checkpoint))

    @property
    def _folder(self) -> Path:
        platform = self.producer.platform
        return (
            platform.landing_zone.folder
            if self.over == "landing"
            else Path(platform.lake.location(SILVER_TRANSACTIONS))
        )

    def _do(self, number: int, paths: Sequence[str]) -> Batch:
        if self.over == "landing":
            self._wait_until_whole({Path(path.removeprefix("file:")) for path in paths})
        stages = ("silver", "gold") if self.over == "landing" else ("gold",)
        done = tuple(self.producer.do_due(stages=stages))
        self.producer.platform.lake.publish_views()
        return Batch(number, len(paths), done)

    def _wait_until_whole(self, paths: set[Path]) -> None:
        zone = self.producer.platform.landing_zone
        for _ in range(_LOOKS):
            everything, whole = (
                {file.path for files in landing.partitions.values() for file in files}
                for landing in (zone.look(remember=False), zone.look(only_stable=True))
            )
            if not paths & (everything - whole):
                return
            sleep(_SETTLES_SECONDS)


def checkpoint_of(data_dir: Path, over: Over) -> Path:
    """Return where the checkpoint of a stream lies."""
    return data_dir / ".checkpoints" / over


def last_batch(checkpoint: Path) -> int | None:
    """Return the number of the latest batch that is done; None where there was none."""
    return max((int(one.name) for one in (checkpoint / "commits").glob("*") if one.name.isdigit()), default=None)


def reset(data_dir: Path, over: Over, *, yes: bool) -> int:
    """Forget what a stream has seen; return how many batches it had done.

    Raises ResetRefusedError unless a person said yes.
    """
    checkpoint = checkpoint_of(data_dir, over)
    if not checkpoint.exists():
        raise ResetRefusedError(f"There is no checkpoint in {checkpoint}: nothing to reset.")
    last = last_batch(checkpoint)
    batches = 0 if last is None else last + 1
    if not yes:
        raise ResetRefusedError(
            f"{checkpoint} remembers {batches} batches. Without it the next stream looks at every file again, and does "
            "what is due then; no table changes for that. Say so with --yes, while no stream runs."
        )
    shutil.rmtree(checkpoint)
    return batches
