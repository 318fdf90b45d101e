"""A service of the tests' own feed, on a real journal, with a small real model; and a client of its application."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.model.scorer import Scorer
from fraud_assets.serve.application import Application, Limits
from fraud_assets.serve.journal import Journal
from fraud_assets.serve.metrics import Metrics
from fraud_assets.serve.service import Model, Service
from fraud_assets.silver.contract import FEATURE_NAMES
from fraud_assets_tests.silver.feed import make_source

NOW_US = 1_767_700_800_000_000  # 2026-01-06 12:00


def transaction(**changes: Any) -> dict[str, Any]:
    return {
        "TransactionID": "T1",
        "event_timestamp": "2026-01-05T12:00:00Z",
        "card_id": "card-1",
        "TransactionAmt": 10.5,
        "ProductCD": "W",
        "is_international_txn": False,
    } | changes


def make_model(version: str = "1", seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    pipeline = make_pipeline(StandardScaler(), IsolationForest(n_estimators=10, random_state=seed))
    pipeline.fit(rng.lognormal(size=(500, len(FEATURE_NAMES))))
    scorer = Scorer.from_pipeline(pipeline)
    return Model.of(version, replace(scorer, feature_names=FEATURE_NAMES))


@pytest.fixture(scope="session")
def model() -> Model:
    return make_model()


@pytest.fixture
def make_service(tmp_path: Path, model: Model) -> Iterator[Callable[..., Service]]:
    journals: list[Journal] = []

    def make(lateness: timedelta = timedelta(minutes=10), **sections: Any) -> Service:
        while journals:
            journals.pop().__exit__()
        journals.append(Journal(tmp_path / "serve" / "8080", durable=True))
        service = Service.of(make_source(**sections), journals[0], lateness=lateness, now_us=lambda: NOW_US)
        service.model = model
        return service

    yield make
    for journal in journals:
        journal.__exit__()


class Client:
    """Calls an ASGI application as a server does, without sockets."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def post(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.posts([body], **headers)[0]

    def posts(self, bodies: list[Any], **headers: str) -> list[tuple[int, Any]]:
        """Post several bodies in one turn of the loop."""

        async def all_of_them() -> list[tuple[int, bytes]]:
            return list(await asyncio.gather(*(self.call("POST", "/score", body, headers) for body in bodies)))

        return [(status, json.loads(answer)) for status, answer in asyncio.run(all_of_them())]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return asyncio.run(self.call("GET", path, b"", headers))

    async def call(
        self, method: str, path: str, body: Any, headers: dict[str, str], receiving: Any = None
    ) -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[dict[str, Any]] = []
        given = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), text.encode()) for name, text in given.items()],
        }
        await self.application(scope, receiving or receive, send)
        return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def make_client(make_service: Callable[..., Service]) -> Iterator[Callable[..., Client]]:
    made: list[Application] = []

    def make(service: Service | None = None, **limits: Any) -> Client:
        application = Application(service or make_service(), Limits(**limits), Metrics(), dict)
        application.is_filled = True
        made.append(application)
        return Client(application)

    yield make
    for application in made:
        application.close()
