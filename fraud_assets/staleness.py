"""What is due, and why: one pure function from what is on disk to what should be done.

`fraud-assets status` shows its answer, `fraud-assets run` does it now and the sensors do it for ever. It compares
states, never events, so that nothing depends on having seen something happen. No clock, no tables, no Dagster.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from fraud_assets.silver.features import EMPTY_TAIL

Layer = Literal["silver", "model", "gold", "evaluation"]

_LAYERS: Final[tuple[Layer, ...]] = ("silver", "model", "gold", "evaluation")
"""The order in which things are done. Nothing waits for the evaluation of a version that scores already."""

PROD_TAKEN_AWAY: Final = (
    "@prod was taken away, so that nothing trains or scores by itself: `fraud-assets promote VERSION` or "
    "`fraud-assets rollback` puts a version there"
)
"""What a person is told who took `@prod` away in MLflow: a training would put a version there that nobody chose."""

_DAY_OF_KEY: Final = len("2026-01-05")
"""A daily key is its day, and an hourly one begins with it."""


@dataclass(frozen=True)
class SilverState:
    """What a Silver partition was built from and what it holds; constant within the partition."""

    input_version: str
    lookback_version: str
    tail_version: str
    silver_version: str
    rows: int


@dataclass(frozen=True)
class GoldState:
    """What a Gold partition was made of."""

    silver_version: str
    model_version: str
    rows: int


@dataclass(frozen=True)
class EvaluationState:
    """What a version was evaluated on, and what its evaluation would be of now.

    See `fraud_assets.silver.labels.labels_digest`.
    """

    model_version: str
    evaluated_on: str
    labels_version: str


@dataclass(frozen=True)
class PlatformState:
    """Everything the decision depends on. Partition keys sort in time order.

    Attributes:
        landed: input version of what lies in landing now, by partition key.
        silver: state of each built Silver partition.
        gold: state of each scored partition.
        previous_key: the partition before each key that occurs above.
        prod_version: the model version behind @prod.
        refused_on: digest of the Silver data that the latest refused candidate was trained on.
        rescore_days: the partitions of how many of the latest days move to the present @prod version.
        evaluation: of the latest version that was evaluated and is registered still, None where there is none.
        prod_taken_away: whether a version was behind @prod once, none is, and there are versions to choose from.
    """

    landed: Mapping[str, str]
    silver: Mapping[str, SilverState]
    gold: Mapping[str, GoldState]
    previous_key: Mapping[str, str]
    prod_version: str | None
    silver_data_version: str = ""
    refused_on: str | None = None
    rescore_days: int = 0
    evaluation: EvaluationState | None = None
    prod_taken_away: bool = False


@dataclass(frozen=True)
class Due:
    """One thing to do. `model_version` scores (Gold) or is evaluated; `key` is empty where nothing is partitioned."""

    layer: Layer
    key: str
    why: str
    model_version: str = ""


@dataclass(frozen=True)
class Plan:
    """All that is due, in the order in which it is done, and what waits for a person."""

    silver: tuple[Due, ...] = ()
    model: tuple[Due, ...] = ()
    gold: tuple[Due, ...] = ()
    evaluation: tuple[Due, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def everything(self) -> tuple[Due, ...]:
        """Silver, then the model, then Gold, then the evaluation."""
        return (*self.silver, *self.model, *self.gold, *self.evaluation)


@dataclass(frozen=True)
class Request:
    """One Dagster run: a contiguous range of partitions of one layer, scored by one model version.

    For the model and its evaluation, which have no partitions, the only key is empty.
    """

    layer: Layer
    keys: tuple[str, ...]
    whys: tuple[str, ...]
    model_version: str = ""

    @property
    def first(self) -> str:
        """First partition of the range."""
        return self.keys[0]

    @property
    def last(self) -> str:
        """Last partition of the range."""
        return self.keys[-1]

    @property
    def label(self) -> str:
        """What a person calls it."""
        if not self.first:
            return self.layer
        return f"{self.layer} {self.first}" + (f"...{self.last}" if self.last != self.first else "")


def decide(state: PlatformState) -> Plan:
    """Return all that is due for `state`, with the reason of each; the same state always gives the same plan."""
    model = _due_model(state)
    return Plan(
        silver=_due_silver(state),
        model=model,
        gold=_due_gold(state),
        evaluation=() if model else _due_evaluation(state),  # A training evaluates what it trained.
        notes=(PROD_TAKEN_AWAY,) if state.prod_taken_away else (),
    )


def requests(due: Iterable[Due], *, all_keys: Sequence[str]) -> tuple[Request, ...]:
    """Group what is due into runs: contiguous ranges of `all_keys`, each of one layer and one model version.

    What is not among `all_keys` (a partition in the future, say) is left out.
    """
    position = {key: index for index, key in enumerate(all_keys)} | {"": -1}
    ordered = sorted(
        (item for item in due if item.key in position),
        key=lambda item: (_LAYERS.index(item.layer), item.model_version, item.key),
    )
    ranges = groupby(
        enumerate(ordered),
        key=lambda pair: (pair[1].layer, pair[1].model_version, position[pair[1].key] - pair[0]),
    )
    made = (tuple(item for _, item in members) for _, members in ranges)
    return tuple(
        Request(
            layer=items[0].layer,
            keys=tuple(item.key for item in items),
            whys=tuple(item.why for item in items),
            model_version=items[0].model_version,
        )
        for items in made
    )


def _due_silver(state: PlatformState) -> tuple[Due, ...]:
    return tuple(
        Due("silver", key, why)
        for key, landed in sorted(state.landed.items())
        if (why := _why_silver(state, key, landed)) is not None
    )


def _why_silver(state: PlatformState, key: str, landed: str) -> str | None:
    built = state.silver.get(key)
    if built is None:
        return "landed, not built yet"
    if built.input_version != landed:
        return _what_changed(built.input_version, landed)
    before = state.silver.get(state.previous_key[key])
    if built.lookback_version != (EMPTY_TAIL if before is None else before.tail_version):
        return "the last five minutes of the partition before changed"
    return None


def _what_changed(before: str, now: str) -> str:
    """Name the part of the input version that differs; see `fraud_assets.silver.build.input_digest`."""
    words = ("landed files", "source file", "feature contract")
    parts = zip(words, before.split("-"), now.split("-"), strict=True)
    return " and ".join(word for word, old, new in parts if old != new) + " changed"


def _due_model(state: PlatformState) -> tuple[Due, ...]:
    if state.prod_version is not None or not any(silver.rows for silver in state.silver.values()):
        return ()
    if state.prod_taken_away or state.refused_on == state.silver_data_version:
        return ()
    why = (
        "no model version is behind @prod"
        if state.refused_on is None
        else "Silver changed since a candidate was refused"
    )
    return (Due("model", "", why),)


def _due_gold(state: PlatformState) -> tuple[Due, ...]:
    if state.prod_version is None:
        return ()
    days = sorted({key[:_DAY_OF_KEY] for key in state.silver}, reverse=True)
    moving = set(days[: state.rescore_days])
    due = []
    for key, silver in sorted(state.silver.items()):
        gold = state.gold.get(key)
        if gold is None:
            if silver.rows:
                due.append(Due("gold", key, "built, not scored yet", state.prod_version))
        elif key[:_DAY_OF_KEY] in moving and gold.model_version != state.prod_version:
            why = f"@prod moved from version {gold.model_version} to {state.prod_version}"
            due.append(Due("gold", key, why, state.prod_version))
        elif gold.silver_version != silver.silver_version:
            due.append(Due("gold", key, "its Silver rows changed", gold.model_version))
    return tuple(due)


def _due_evaluation(state: PlatformState) -> tuple[Due, ...]:
    found = state.evaluation
    if found is None or found.evaluated_on == found.labels_version:
        return ()
    words = ("labels landed or changed", "evaluated partitions changed")
    parts = zip(words, found.evaluated_on.split("-"), found.labels_version.split("-"), strict=True)
    what = " and ".join(word for word, old, new in parts if old != new)
    return (Due("evaluation", "", f"{what} since version {found.model_version} was evaluated", found.model_version),)
