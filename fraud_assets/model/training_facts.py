"""What a person may choose for a training, and what is recorded of it: the facts that decided how a forest came out.

Every default, bound and description of a choice stands here, and so does the way of facts into a version's tags and
back. Does not belong here: the fit itself (`fraud_assets.model.training`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from fraud_assets.errors import FraudAssetsError


class NoTrainingWindowError(FraudAssetsError):
    """The partitions at hand cannot be split into a training and a later evaluation window."""


class UnknownTrainingError(FraudAssetsError):
    """A version's tags do not say how it was trained."""


class TrainingParameters(BaseModel):
    """What a person may choose for one training."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    first_partition: str | None = None
    """First Silver partition to use. Default: the first that is built."""
    last_partition: str | None = None
    """Last Silver partition to use. Default: the last that is built."""
    evaluation_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the partitions, the latest ones, kept for evaluation."""
    gap: int = Field(default=0, ge=0)
    """Partitions left out between training and evaluation, for labels that arrive late."""
    n_estimators: int = Field(default=200, ge=1)
    """Trees of the forest."""
    contamination: float = Field(default=0.035, gt=0, le=0.5)
    """Share of the training rows that score above 0."""
    random_state: int = 42
    """Seed of the forest."""
    max_rows: int = Field(default=1_000_000, ge=1)
    """The most rows to train on. Of more, so many are chosen by a hash of TransactionID."""
    alert_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training rows above the version's threshold. Default: the threshold is 0.0, above which the
    contamination lies."""
    same_trees_as: str | None = None
    """A registered version: register its trees again with the threshold that alert_share asks for. Everything else here
    is then that version's."""


@dataclass(frozen=True)
class TrainingWindow:
    """The partitions that train, both ends included; those after the gap that follows evaluate."""

    train_start: str
    train_end: str
    gap: int

    def training_keys(self, keys: Iterable[str]) -> list[str]:
        """Return those of the partitions that train, in order."""
        return sorted(key for key in keys if self.train_start <= key <= self.train_end)

    def evaluation_keys(self, keys: Iterable[str]) -> list[str]:
        """Return those of the partitions that evaluate, in order: later than the training, without the gap's."""
        return sorted(key for key in keys if key > self.train_end)[self.gap :]


def split_window(keys: Iterable[str], parameters: TrainingParameters) -> TrainingWindow:
    """Return a training window that ends before the partitions that evaluate, of keys whose text order is that of time.

    One partition alone trains, and nothing evaluates; of more, one at least evaluates. Raises NoTrainingWindowError
    where there is no partition, or the gap leaves none to train on.
    """
    known, first, last, gap = set(keys), parameters.first_partition, parameters.last_partition, parameters.gap
    ordered = sorted(key for key in known if (first is None or key >= first) and (last is None or key <= last))
    if not known:
        raise NoTrainingWindowError("There is no Silver partition to train on: land some, then `fraud-assets run`.")
    if not ordered:
        raise NoTrainingWindowError(
            f"No Silver partition lies between {first or 'the first'} and {last or 'the last'}: "
            f"there are {min(known)} to {max(known)}. Choose another first_partition or last_partition."
        )
    if len(ordered) == 1:
        return TrainingWindow(ordered[0], ordered[0], gap)
    evaluating = max(1, int(len(ordered) * parameters.evaluation_share))
    training = len(ordered) - evaluating - gap
    if training < 1:
        raise NoTrainingWindowError(
            f"{len(ordered)} partitions leave none to train on when {evaluating} evaluate and {gap} lie between: "
            "land more partitions, or choose a smaller gap or evaluation share."
        )
    return TrainingWindow(ordered[0], ordered[training - 1], gap)


@dataclass(frozen=True)
class TrainingFacts(TrainingWindow):
    """What decided how a forest came out, as its version's tags say it; the names are those of the tags."""

    training_rows: int
    available_rows: int
    training_data_version: str
    """Digest of the Silver partitions in the window."""
    silver_table_version: int
    silver_data_version: str
    """Digest of all Silver partitions of that version of the table."""
    n_estimators: int
    contamination: float
    random_state: int
    scikit_learn_version: str
    numpy_version: str
    mlflow_version: str
    fraud_assets_version: str
    alert_share: float
    """Share of the training rows that lies above the threshold."""
    same_trees_as: str = ""
    """The version whose trees these are, under another threshold; empty where they were trained anew."""

    def summary(self, version: str) -> str:
        """Say in a sentence what the version was trained on, and how."""
        trees = f"{self.n_estimators} trees" + (f" of version {self.same_trees_as}" if self.same_trees_as else "")
        return (
            f"Version {version}: an Isolation Forest of {trees}, trained without labels on {self.training_rows:,} rows "
            f"of {self.train_start} to {self.train_end}; {self.alert_share:.2%} of them lie above its threshold."
        )

    def as_tags(self) -> dict[str, str]:
        """Return the facts as texts by their names; an empty one is left out."""
        return {name: str(value) for name, value in vars(self).items() if value != ""}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """Return the facts among a version's tags; raises UnknownTrainingError where one is missing."""
        try:
            return cls(**{one.name: one.type(tags[one.name]) for one in fields(cls) if one.name in tags})  # pyright: ignore[reportCallIssue]
        except TypeError as error:
            raise UnknownTrainingError(
                f"The version's tags do not say how it was trained ({error}): it was not registered by "
                "fraud_isolation_forest. Train anew."
            ) from error
