"""What a decision depends on, and what it says: the state of a platform, what is due, what a stage is. Values only.

What becomes of them is `fraud_assets.staleness`; read from disk they are by `fraud_assets.resources.state`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fraud_assets.model.known_labels import KnownLabels
from fraud_assets.silver.build import InputDigest
from fraud_assets.silver.labels import LabelsDigest


@dataclass(frozen=True)
class Made:
    """A partition as a stage left it: its rows, and by column what all of them were made of."""

    rows: int
    of: Mapping[str, Any]


@dataclass(frozen=True)
class EvaluationState:
    """The version that was evaluated last, the labels and rows it was evaluated on, and those there are now."""

    model_version: str
    evaluated_on: LabelsDigest
    now: LabelsDigest


@dataclass(frozen=True)
class RankerState:
    """The ranker of alerts and the labels that one could learn from.

    Attributes:
        version: behind `@prod`, as the record of decisions says.
        labels: what is known now.
        last_day: the latest day of Silver.
        learned: the labels of the last attempt to learn, and the latest day then; None where there was none.
    """

    version: str | None
    labels: KnownLabels
    last_day: str = ""
    learned: tuple[KnownLabels, str] | None = None


@dataclass(frozen=True)
class PlatformState:
    """Everything the decision depends on. Partition keys sort in time order.

    Attributes:
        landed: digest of what a partition would be built from now, by partition key.
        made: by name of a stage, the partitions that it made.
        previous_key: the partition before each key that landed or is in Silver.
        prod_version: the model version behind @prod.
        silver_data_digest: of all Silver partitions, as a training would see them.
        refused_on: the same digest when the latest candidate was refused, None where none was.
        rescore_days: the partitions of how many of the latest days move to the present @prod version.
        evaluation: of the latest version that was evaluated and is registered still, None where there is none.
        prod_taken_away: whether a version was behind @prod once, none is, and there are versions to choose from.
        prod_problem: why the version behind @prod cannot score; empty where it can.
        alerts_per_day: how many alerts analysts can look at on a day.
        reviews_read: digest of the review files that were read; empty where there were none.
        reviews_landed: digest of those that landed; empty where there are none.
        ranker: None where alerts are to be ordered by their score alone.
    """

    landed: Mapping[str, InputDigest]
    made: Mapping[str, Mapping[str, Made]]
    previous_key: Mapping[str, str]
    prod_version: str | None
    silver_data_digest: str = ""
    refused_on: str | None = None
    rescore_days: int = 0
    evaluation: EvaluationState | None = None
    prod_taken_away: bool = False
    prod_problem: str = ""
    alerts_per_day: int = 100
    reviews_read: str = ""
    reviews_landed: str = ""
    ranker: RankerState | None = None

    @property
    def silver(self) -> Mapping[str, Made]:
        """The built Silver partitions."""
        return self.made.get("silver", {})

    @property
    def gold(self) -> Mapping[str, Made]:
        """The scored partitions."""
        return self.made.get("gold", {})


@dataclass(frozen=True)
class Due:
    """One thing to do.

    Attributes:
        stage: name of the stage that does it.
        key: the partition; empty where the stage has none.
        why: the reason, in words.
        cause: what of the state makes it due, as text; while that is the same, so is the need.
        model_version: the version that scores or is evaluated. Where one is known before a partition is built, the run
            that builds it scores it, too.
        is_correction: only files landed for a partition that was made before. Nothing waits for it, since a feed may
            correct for ever.
    """

    stage: str
    key: str
    why: str
    cause: str
    model_version: str = ""
    is_correction: bool = False


@dataclass(frozen=True)
class Stage:
    """One kind of work, from what makes it due to the job that does it. Stages may share a job.

    Attributes:
        name: what code and people call it.
        does: the job in a sentence.
        job: name of the Dagster job.
        assets: what of the job this stage materializes, by name.
        due: what is due of it.
        table: address of the table whose partitions it makes; empty where it has no partitions.
        made_of: columns of that table that are constant in a partition and say what it was made of.
        sensor: name of the sensor that requests it.
        waits_for: stages of which nothing but corrections may be due, in flight or open, before a sensor requests this
            one.
        follows: the stage whose runs may go on with this one, for the same partitions.
        goes_on_in: name of the job whose runs go on with the stages that follow; empty where none does.
    """

    name: str
    does: str
    job: str
    assets: tuple[str, ...]
    due: Callable[[PlatformState], Iterable[Due]]
    table: str = ""
    made_of: tuple[str, ...] = ()
    sensor: Literal["landed_partitions_sensor", "unscored_partitions_sensor"] = "unscored_partitions_sensor"
    waits_for: tuple[str, ...] = ()
    follows: str = ""
    goes_on_in: str = ""
