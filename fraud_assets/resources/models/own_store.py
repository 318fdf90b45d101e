"""The MLflow store of the data directory itself: its locations follow where the directory is moved or copied.

MLflow writes the absolute place of every file into its database, and has no call that would change one. So that is done
here, by SQL, and only in `mlflow/mlflow.db` of this data directory. Any other store is looked at and never touched.
"""

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlparse
from urllib.request import url2pathname

from fraud_assets.errors import FraudAssetsError

_ARTIFACTS: Final = "/mlflow/artifacts"

_LOCATIONS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow keeps locations as URIs; that of a dataset stands within JSON, as a path."""


class StoreError(FraudAssetsError):
    """MLflow's store, or the files that it names, are not where they should be."""


def own_store(data_dir: Path) -> Path:
    """Return the database of the data directory's own store."""
    return data_dir.absolute() / "mlflow" / "mlflow.db"


def is_own_store(store: Path | None, data_dir: Path) -> bool:
    """Return whether a database is the data directory's own, by whatever name of it."""
    own = own_store(data_dir)
    return store is not None and (store == own or (store.exists() and own.exists() and store.samefile(own)))


def artifacts_uri(data_dir: Path) -> str:
    """Return where the files of the data directory's runs and models lie."""
    return data_dir.absolute().as_uri() + _ARTIFACTS


def local_path(location: str | None) -> Path | None:
    """Return the path of a location on this machine, None for any other."""
    parsed = urlparse(location or "http:")
    return Path(url2pathname(parsed.path)) if parsed.scheme in ("", "file") else None


def refuse_another_store(store: Path, data_dir: Path) -> None:
    """Raise StoreError for a store that a variable names by mistake: of another place or gone, beside our own."""
    own = own_store(data_dir)
    if own.exists() and (store.parts[-2:] == own.parts[-2:] or not store.exists()):
        raise StoreError(
            f"MLFLOW_TRACKING_URI names {store}, and {data_dir} has an MLflow store of its own, {own}. "
            f"`unset MLFLOW_TRACKING_URI`, or `export MLFLOW_TRACKING_URI=sqlite:///{own}`."
        )


def follow_move(data_dir: Path, *, experiment: str) -> None:
    """Make every location of the data directory's own store begin with where the directory lies now; all or none.

    Only what begins with the old place of the directory is rewritten. Costs a look into the database where nothing
    moved. Another name of the same place (a link, a mount) is left as it is. Raises StoreError where it cannot write.
    """
    data_dir = data_dir.absolute()
    store = own_store(data_dir)
    if not store.exists():
        return
    with closing(sqlite3.connect(store, timeout=60, isolation_level=None)) as database:
        found = None
        with suppress(sqlite3.OperationalError):  # MLflow has not made its tables yet
            named = "SELECT artifact_location FROM experiments WHERE name = ?"
            found = database.execute(named, [experiment]).fetchone()
        old_uri = (found or [""])[0].removesuffix(_ARTIFACTS)
        old = local_path(old_uri)
        if not found or old is None or old_uri in (found[0], data_dir.as_uri()):
            return
        if old.exists() and old.samefile(data_dir):
            return
        try:
            database.execute("BEGIN IMMEDIATE")
            for table, column in _LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                    f"WHERE substr({column}, 1, length(:old) + 1) = :old || '/'",
                    {"old": old_uri, "new": data_dir.as_uri()},
                )
            as_json = [json.dumps(f"{place}/")[:-1] for place in (old, data_dir)]
            database.execute("UPDATE datasets SET dataset_source = replace(dataset_source, ?, ?)", as_json)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(
                f"{store} was moved from {old}, and the locations in it cannot follow: {error}. Make the file and its "
                "folder writable, then `fraud-assets status`."
            ) from error
