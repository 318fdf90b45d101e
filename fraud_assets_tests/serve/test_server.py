"""What is set reaches what obeys it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fraud_assets.serve.application import Limits
from fraud_assets.serve.companion import arguments
from fraud_assets.serve.server import Server, limits_of
from fraud_assets.settings import load_settings
from fraud_assets_tests.serve.conftest import Client


def test_each_limit_has_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TOKEN": "a token of sixteen",
        "CARD_HEADER": "X-Card",
        "MAX_ROWS": "3",
        "MAX_BYTES": "5000",
        "MAX_REQUESTS": "7",
        "ROWS_PER_SECOND": "11",
    }.items():
        monkeypatch.setenv(f"FRAUD_SERVE_{name}", value)

    assert limits_of(load_settings()) == Limits("a token of sixteen", "X-Card", 3, 5000, 7, 11)


def test_the_companion_is_told_how_late_a_transaction_may_be_and_how_long_answers_are_kept(
    monkeypatch: pytest.MonkeyPatch, make_client: Callable[..., Client], tmp_path: Path
) -> None:
    monkeypatch.setenv("FRAUD_SERVE_LATENESS_MINUTES", "2")
    monkeypatch.setenv("FRAUD_SERVE_KEEP_DAYS", "3")
    server = Server(load_settings(), "127.0.0.1", 8080, land=True)

    _, _, module, *options = server._companion(make_client().application, tmp_path)

    assert module == "fraud_assets.serve.companion"
    assert vars(arguments(options)) == {
        "journal": tmp_path, "lateness_seconds": 120, "keep_days": 3, "land": True, "filled": True,
    }  # fmt: skip
