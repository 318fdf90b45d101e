"""A real receiver of notifications: a web server on this machine that keeps what is posted to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


@dataclass
class Receiver:
    """Takes messages at `address`, in Apprise's form; while it is `deaf` it answers with an error."""

    address: str = ""
    deaf: bool = False
    posted: list[dict[str, str]] = field(default_factory=list)

    def take(self) -> list[str]:
        """Return the titles that came since the last call."""
        titles = [message["title"] for message in self.posted]
        self.posted.clear()
        return titles


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not receiver.deaf:
                receiver.posted.append(json.loads(content))
            self.send_response(500 if receiver.deaf else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's parameter
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            receiver.address = f"json://somebody:sesame@127.0.0.1:{server.server_port}"
            yield receiver
        finally:
            server.shutdown()
            thread.join()
