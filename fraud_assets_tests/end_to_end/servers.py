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


@contextmanager
def serve(
    command: list[str], address: str | None, *, folder: Path, environment: Mapping[str, str], log: str = "server.log"
) -> Iterator[Path]:
    """Run a server until the block ends; give its log once the address, if it has one, answers."""
    path = folder / log
    with path.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=out, stderr=out, start_new_session=True
        )
        try:
            if address:
                wait_until(lambda: server.poll() is not None or _answers(address), f"{command} to answer", log=path)
                assert server.poll() is None, f"{command} ended\n{path.read_text()[-3000:]}"
            yield path
        finally:
            with suppress(ProcessLookupError):  # it ended by itself, and the failure says why
                os.killpg(server.pid, signal.SIGTERM)  # gRPC waits a minute for calls that do not end
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], bool], what: str, *, log: Path, seconds: int = 480, pause: float = 2.0) -> None:
    """Wait for what a server does in its own time; its log goes into the failure."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}\n{log.read_text()[-3000:]}"
        time.sleep(pause)


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as response:
        return response.status == 200
    return False
