"""A version's files: fetched, and compared with what was registered before anything of them is loaded.

Two lists guard them. The registry keeps a digest of all files, so that whoever can write artifacts alone is found out;
`files.json` travels with them (`pyfunc_loader`), so that MLflow's pyfunc finds out without asking the registry.
"""

import hashlib
import shutil
from pathlib import Path

from fraud_assets.errors import FraudAssetsError
from fraud_assets.resources.models.pyfunc_loader import FILES, changed_files, file_digests


class TamperedVersionError(FraudAssetsError):
    """The files of a version are not those that were registered; nothing of it was loaded."""


def download(uri: str, destination: Path) -> Path:
    """Copy a version's files to a folder of our own, without what Python may have cached beside its code."""
    from mlflow.artifacts import download_artifacts

    destination.mkdir(exist_ok=True)
    folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(destination)))
    for cached in list(folder.rglob("__pycache__")):
        shutil.rmtree(cached)
    return folder


def files_digest(folder: Path) -> str:
    """Return one digest of a version's files; MLflow's note of what was downloaded is none of them."""
    files = sorted(file_digests(folder).items())
    lines = (f"{digest} {name}\n" for name, digest in files if name != "registered_model_meta")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify_files(folder: Path, registered_digest: str, *, version: str) -> None:
    """Return where the downloaded files are those that were registered.

    Raises:
        TamperedVersionError: When they are not.
    """
    if files_digest(folder) != registered_digest:
        changed = "; ".join(changed_files(folder)) or f"MLmodel or {FILES} was changed"
        raise TamperedVersionError(
            f"{version} is not what was registered ({changed}), so nothing of it was loaded. Put its artifacts back "
            "from a copy; else `fraud-assets rollback`, or train anew and `fraud-assets promote` the new version."
        )
