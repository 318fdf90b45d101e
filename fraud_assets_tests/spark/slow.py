"""Tasks that take long or fail, sent to executors by value: they do not have the tests."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn


def after_a_second(batches: Iterator[Any], task: Callable) -> Iterator[Any]:
    import time

    time.sleep(1)
    yield from task(batches)


def fail(batches: Iterator[Any]) -> NoReturn:
    raise OSError("the disk of this executor is full")
