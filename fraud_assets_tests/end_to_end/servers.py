"""Servers that a test starts: in a process group of their own, on 127.0.0.1, ended with the test."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve(command: list[str], address: str, *, folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Run a server until the block ends; give its log once the address answers."""
    path = folder / "server.log"
    with path.open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until(lambda: _answers(address), f"{command} to answer", log=path)
            yield path
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_until(condition: Callable[[], bool], what: str, *, log: Path, seconds: int = 240) -> None:
    """Wait for what a server does in its own time; its log goes into the failure."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}\n{log.read_text()[-3000:]}"
        time.sleep(2)


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as response:
        return response.status == 200
    return False
