"""Compiled scorers on this disk: a copy of each version's that scored or ranked here, in a folder per version.

Needs neither Dagster nor MLflow, so that a service or a Spark executor can score with a copy. Does not belong here:
fetching a version's files and comparing them with what was registered (`registry`).
"""

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from filelock import FileLock

from fraud_assets.digests import digest_file
from fraud_assets.errors import FraudAssetsError
from fraud_assets.model.ranker import Ranker
from fraud_assets.model.scorer import Scorer

_Compiled = TypeVar("_Compiled")

_ORIGIN_FILE: Final = "registered_as.json"
"""Says beside a copy which version it was taken from, and names the digest of its manifest, which covers the rest."""


@dataclass(frozen=True)
class LocalScorers:
    """The compiled scorers of one registered model, each bound to the version that it was taken from."""

    folder: Path
    registry: str
    model_name: str

    def load(self, version: str) -> Scorer | None:
        """Return the version's compiled scorer; None where no whole copy of it, for this scikit-learn, is here.

        The registry is not asked. Whoever may write both a scorer and the note of its origin into the folder is
        believed; they could write tables, too.
        """
        return self._load(version, Scorer.load)

    def load_ranker(self, version: str) -> Ranker | None:
        """Return the version's compiled ranker, as `load` does a scorer."""
        return self._load(version, Ranker.load)

    def _load(self, version: str, load: Callable[[Path], _Compiled]) -> _Compiled | None:
        copy = self.folder / version
        try:
            if json.loads((copy / _ORIGIN_FILE).read_text()) == self._origin(version, copy):
                return load(copy)
        except (OSError, ValueError, FraudAssetsError):
            pass
        return None

    def put(self, version: str, saved: Path) -> None:
        """Copy a folder that a scorer's `save` wrote: whole or not at all, over whatever was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"), TemporaryDirectory(dir=self.folder, prefix=".") as scratch:
            copy = shutil.copytree(saved, Path(scratch) / "new")
            (copy / _ORIGIN_FILE).write_text(json.dumps(self._origin(version, copy)))
            if (self.folder / version).exists():
                (self.folder / version).rename(Path(scratch) / "old")
            copy.rename(self.folder / version)

    def keep_only(self, versions: Collection[str]) -> int:
        """Remove the copies of other versions, and what killed processes left; return how many folders went.

        A version that is needed again is copied again.
        """
        if not self.folder.is_dir():
            return 0
        with FileLock(self.folder / ".lock"):
            others = [one for one in self.folder.iterdir() if one.is_dir() and one.name not in versions]
            for folder in others:
                shutil.rmtree(folder, ignore_errors=True)
        return len(others)

    def _origin(self, version: str, copy: Path) -> dict[str, str]:
        return {
            "registry": self.registry,
            "model_name": self.model_name,
            "version": version,
            "manifest_digest": digest_file(copy / "manifest.json"),
        }
