"""What the service counts for Prometheus. One registry per application; nothing is counted by card or id."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Around the milliseconds that an answer takes."""

_SCORES: Final = tuple(round(-0.3 + 0.05 * step, 2) for step in range(16))
"""All that a forest's score can be: it lies within half a unit of the boundary."""


class Metrics:
    """The counters of one running service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("fraud_requests", "Requests to /score, by status.", ["status"], registry=self.registry)
        self.seconds = Histogram(
            "fraud_request_seconds", "From request to answer.", buckets=_SECONDS, registry=self.registry
        )
        self.scored = Counter("fraud_scored", "Transactions answered.", registry=self.registry)
        self.anomalies = Counter("fraud_anomalies", "Of those, scores above the threshold.", registry=self.registry)
        self.scores = Histogram("fraud_score", "Scores answered.", buckets=_SCORES, registry=self.registry)
        self.refused = Counter("fraud_refused", "Faults of posted records.", ["reason"], registry=self.registry)
        self.commits = Histogram(
            "fraud_commit_seconds", "From write to durable, per group.", buckets=_SECONDS, registry=self.registry
        )

        self._of_status: dict[int, Counter] = {}

    def request(self, status: int) -> Counter:
        """Return the counter of requests that end with a status; looking for it by its label takes longer."""
        if status not in self._of_status:
            self._of_status[status] = self.requests.labels(str(status))
        return self._of_status[status]

    def observe(self, score: float, is_anomaly: bool) -> None:
        """Count a score."""
        self.scores.observe(score)
        if is_anomaly:
            self.anomalies.inc()

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number as it is when asked for."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)
