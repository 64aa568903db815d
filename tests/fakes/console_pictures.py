"""`make console-pictures`: the console of a mesh that is busy and not quite well, light and dark, as PNG.

A mesh of its own is founded and run for it, with somebody who asks, and a worker that is refused a key because it runs
other code. What the pictures show is what the pages show; nothing is drawn in.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Page

from cloister import SyncClient
from cloister.client import save_receipt
from fakes.browser import CHROMIUM, MISSING, browser
from fakes.running_mesh import MODEL, RunningMesh, another_worker, inputs, probe, until

SIZE: Final = {"width": 1280, "height": 900}
BUSY_S: Final = 80.0
COLOURS: Final = 128
OTHER_CODE: Final = "5e" * 32


@contextmanager
def asking(mesh: RunningMesh, receipt: Path) -> Iterator[None]:
    """Somebody who asks all the time, and keeps the first receipt."""
    done = threading.Event()

    def ask() -> None:
        with SyncClient(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
            answer = client.infer(MODEL, {"x": inputs(0)})
            assert answer.receipt is not None
            save_receipt(answer.receipt, receipt)
            seed = 1
            while not done.wait(0.02 if seed % 400 < 300 else 0.005):
                client.infer(MODEL, {"x": inputs(seed)})
                seed += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def take(running: Browser, mesh: RunningMesh, receipt: Path, folder: Path) -> None:
    """Each page, light and dark."""
    link = mesh.cli("console", mesh.folder).strip()
    address = link.partition("/enter")[0]
    context = running.new_context(viewport=SIZE)  # type: ignore[arg-type]  # a TypedDict
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(BUSY_S * 1000)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
        page.goto(f"{address}/")
        page.wait_for_selector("body[data-ready]")
        _shoot(page, folder / f"console-mesh-{scheme}.png", height=1500)
    page.locator(".card h3 a").first.click()
    page.locator("#fields details").first.wait_for()
    _shoot(page, folder / "console-evidence-dark.png", height=2100)
    page.emulate_media(color_scheme="light")
    page.goto(f"{address}/receipt")
    page.set_input_files("#trust", mesh.trust)
    page.set_input_files("#receipt", receipt)
    page.locator("#verdict .steps").wait_for()
    _shoot(page, folder / "console-receipt-light.png", height=1500)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/")
    page.wait_for_selector("body[data-ready]")
    _save(page, folder / "console-phone-light.png")


def _shoot(page: Page, path: Path, height: int) -> None:
    page.set_viewport_size({"width": SIZE["width"], "height": height})
    page.wait_for_timeout(500)
    _save(page, path)


def _save(page: Page, path: Path) -> None:
    """With as many colours as pages of ours have: a third of the bytes."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> int:
    """Take all pictures into the folder that is named."""
    if CHROMIUM is None:
        print(MISSING, file=sys.stderr)
        return 1
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        mesh = RunningMesh(Path(work) / "mesh")
        mesh.found()
        sealed = mesh.seal(probe())
        stack.enter_context(mesh.up(2, "--console"))
        mesh.cli("model", "publish", sealed)
        mesh.allow("--allow-simulated", "--allow-plain")
        mesh.until_serving(2)
        receipt = Path(work) / "answer.receipt"
        stack.enter_context(asking(mesh, receipt))
        stack.enter_context(another_worker(mesh, "--mrenclave", OTHER_CODE))
        until(lambda: "measurement.not_allowed" in mesh.cli("audit", "list"), "the other code was refused")
        take(stack.enter_context(browser()), mesh, receipt, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
