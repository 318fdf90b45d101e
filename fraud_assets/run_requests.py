"""What is due becomes runs: contiguous ranges of partitions of one stage, each with its cause.

What is due, and why, is `fraud_assets.staleness`; which of the runs are asked for now, `fraud_assets.automation`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fraud_assets.digests import digest_lines
from fraud_assets.staleness import Due


@dataclass(frozen=True)
class Request:
    """One Dagster run: a contiguous range of partitions of one stage, by one model version.

    Where the stage has no partitions, the only key is empty.
    """

    stage: str
    keys: tuple[str, ...]
    whys: tuple[str, ...] = field(compare=False)
    cause: str = field(compare=False)
    model_version: str = ""

    @property
    def label(self) -> str:
        """What a person calls it."""
        first, last = self.keys[0], self.keys[-1]
        return " ".join(filter(None, (self.stage, first if first == last else f"{first}...{last}")))


def requests(due: Iterable[Due], *, all_keys: Sequence[str]) -> tuple[Request, ...]:
    """Group what is due into runs: contiguous ranges of `all_keys`, each of one stage and one model version.

    Stages come in the order in which they first occur. What is not among `all_keys` (a partition in the future, say)
    is left out.
    """
    position = {key: index for index, key in enumerate(all_keys)} | {"": -1}
    known = [item for item in due if item.key in position]
    order = list(dict.fromkeys(item.stage for item in known))
    known.sort(key=lambda item: (order.index(item.stage), item.model_version, item.key))
    ranges = groupby(
        enumerate(known), key=lambda pair: (pair[1].stage, pair[1].model_version, position[pair[1].key] - pair[0])
    )
    return tuple(_request([item for _, item in members]) for _, members in ranges)


def _request(items: Sequence[Due]) -> Request:
    stage, version = items[0].stage, items[0].model_version
    return Request(
        stage=stage,
        keys=tuple(item.key for item in items),
        whys=tuple(item.why for item in items),
        cause=digest_lines([stage, version, *(f"{item.key} {item.cause}" for item in items)]),
        model_version=version,
    )
