"""Makes the pictures of the README from the running product: `make pictures`.

Runs the demo in a temporary folder, serves both UIs and looks at them with Debian's chromium. What the pictures show is
chosen here; nothing is drawn or changed by hand.
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import dagster as dg
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from fraud_assets.definitions import defs
from fraud_assets_tests.end_to_end.browser import CHROMIUM, open_browser
from fraud_assets_tests.end_to_end.servers import a_free_port, serve
from fraud_assets_tests.end_to_end.shell import ROOT, copy_of_the_project

FOLDER: Final = Path(__file__).resolve().parent

DAY: Final = "2026-01-30"
"""The partition that is shown: the last of the demo."""

COLOURS: Final = 256
"""Of a picture's palette: the pages are flat, and fewer would turn their links grey."""

MOST_BYTES: Final = 200_000
"""Of a picture: a clone carries every version of it."""

ENVIRONMENT: Final = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "MLFLOW_", "DAGSTER_"))},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "USER": "you",
}


def main() -> None:
    """Make every picture anew."""
    if CHROMIUM is None:
        sys.exit("There is no chromium: apt-get install chromium.")
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        folder = copy_of_the_project(Path(scratch))
        environment = ENVIRONMENT | {"DAGSTER_HOME": str(folder / "dagster_home")}
        for command in ("simulate --days 30 --dirt", "run"):
            subprocess.run(["fraud-assets", *command.split()], cwd=folder, env=environment, check=True)

        report(open_page(browser, width=1200, height=1500), folder / "data/simulated/reports")

        port = a_free_port()
        dagster = f"http://127.0.0.1:{port}"
        command = ["dagster-webserver", "--host", "127.0.0.1", "--port", str(port)]
        with serve(command, f"{dagster}/server_info", folder=folder, environment=environment):
            lineage(open_page(browser, width=5200, height=2600), dagster)  # of a smaller one only groups are seen
            partition(open_page(browser, width=1900, height=1000), dagster)

        port = a_free_port()
        mlflow = f"http://127.0.0.1:{port}"
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{folder}/data/simulated/mlflow/mlflow.db"]
        with serve([*command, *store], f"{mlflow}/health", folder=folder, environment=environment):
            training(open_page(browser, width=1300, height=830), mlflow)


def open_page(browser: Browser, *, width: int, height: int) -> Page:
    """Return a page of that size, in pixels."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(60_000)
    # MLflow opens its assistant beside the page that a user sees first.
    page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    return page


def report(page: Page, folder: Path) -> None:
    """The page of the last day, from its head to its first cards."""
    page.goto((folder / f"{DAY}.html").as_uri())
    save("report", settled(page))


def lineage(page: Page, address: str) -> None:
    """All assets in their groups, large enough to read."""
    specs = defs.resolve_all_asset_specs()
    groups = ",".join(f"global@global:{group}" for group in sorted({spec.group_name or "" for spec in specs}))
    page.goto(f"{address}/asset-groups?expanded={groups}")
    for spec in specs:
        name = dg.AssetKey(spec.key.path).to_user_string()
        expect(page.locator("svg foreignObject").get_by_text(name, exact=True)).to_be_visible()
    settled(page)
    boxes = [box for group in page.locator("svg foreignObject.group").all() if (box := group.bounding_box())]
    margin = 16
    left, top = min(box["x"] for box in boxes) - margin, min(box["y"] for box in boxes) - margin
    right = max(box["x"] + box["width"] for box in boxes) + margin
    bottom = max(box["y"] + box["height"] for box in boxes) + margin
    save("lineage", settled(page, clip={"x": left, "y": top, "width": right - left, "height": bottom - top}))


def partition(page: Page, address: str) -> None:
    """One partition of Gold: its most suspicious rows, and what scored it."""
    page.goto(f"{address}/assets/fraud_predictions?view=partitions&partition={DAY}")
    expect(page.get_by_text("dagster/partition_row_count")).to_be_visible()
    save("partition", settled(page))


def training(page: Page, address: str) -> None:
    """The run of the first training, in MLflow."""
    found = page.request.get(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=fraud_assets").json()
    experiment = found["experiment"]["experiment_id"]
    runs = page.request.post(f"{address}/api/2.0/mlflow/runs/search", data={"experiment_ids": [experiment]}).json()
    run = runs["runs"][0]["info"]["run_id"]
    page.goto(f"{address}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning")
    expect(page.get_by_text("forest/roc_auc", exact=True)).to_be_attached()
    save("training", settled(page))


def settled(page: Page, **options: Any) -> bytes:
    """Return a screenshot of the page once nothing on it moves any more."""
    before = b""
    for _ in range(60):
        page.wait_for_timeout(1000)
        now = page.screenshot(**options)
        if now == before:
            return now
        before = now
    sys.exit(f"{page.url} does not come to rest")


def save(name: str, screenshot: bytes) -> None:
    """Write a small PNG; one that is too large is an error."""
    path = FOLDER / f"{name}.png"
    with Image.open(io.BytesIO(screenshot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        size = image.size
    written = path.stat().st_size
    assert written < MOST_BYTES, f"{path} has {written:,} bytes"
    sys.stdout.write(f"{path.relative_to(ROOT)}: {size[0]} x {size[1]}, {written // 1000} KB\n")


if __name__ == "__main__":
    main()
