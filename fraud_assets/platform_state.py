"""What `fraud_assets.staleness` decides from: everything that is on disk, at one moment, as values.

Read by `fraud_assets.resources.state`. Decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        last_day: the latest day of Silver; empty where it has no row.
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
        foreign: digest of the files of each Silver partition that something else wrote and that is not adopted since.
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
    foreign: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """All partitions that there are in whatever form, in time order."""
        return sorted({*self.landed, *self.foreign, *(key for made in self.made.values() for key in made)})

    @property
    def silver(self) -> Mapping[str, Made]:
        """The built and the adopted Silver partitions."""
        return self.made.get("silver", {})

    @property
    def gold(self) -> Mapping[str, Made]:
        """The scored partitions."""
        return self.made.get("gold", {})
