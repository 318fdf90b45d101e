"""The service of `benchmarks.serving`, with two endpoints more.

/echo reads a body and sends it back; /durable does so once the body is on the disk.
"""

import os
import sys
import tempfile
from typing import Any, Final

from fraud_assets.serve import server
from fraud_assets.serve.application import Application, Receive, Scope, Send
from fraud_assets.settings import load_settings


class Echoing(Application):
    """What the same HTTP server does without any of our work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Echo, or answer as ever."""
        if scope.get("path") not in ("/echo", "/durable"):
            await super().__call__(scope, receive, send)
            return
        body: Any = (await receive())["body"]
        if scope["path"] == "/durable":
            os.write(_FILE.fileno(), body)
            os.fdatasync(_FILE.fileno())
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


_FILE: Final = tempfile.TemporaryFile(dir=load_settings().data_dir)  # noqa: SIM115 - as long as the process

if __name__ == "__main__":
    server.Application = Echoing
    server.Server(load_settings(), "127.0.0.1", int(sys.argv[1]), land=True).run()
