"""The web console of a running mesh, in a real Chromium: what it shows is true, live, inert and checked by itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from cloister import SyncClient
from cloister.client import save_receipt
from fakes.browser import CHROMIUM, MISSING, Heard, browser, page_of
from fakes.running_mesh import BIN, MODEL, RunningMesh, another_worker, inputs, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

OTHER_MRENCLAVE = "ac" * 32
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
READY = "body[data-ready]"


@pytest.fixture(scope="module")
def console(mesh: RunningMesh) -> Iterator[str]:
    """The console of the mesh, as `cloister up` would run it; yields its address."""
    log = mesh.folder / "logs" / "console.log"
    with log.open("wb") as out:
        command = [BIN / "cloister", "console", mesh.folder]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"})
        try:
            until(lambda: "https.listening" in log.read_text(), "the console listens")
            yield link(mesh).partition("/enter")[0]
        finally:
            process.terminate()
            assert process.wait(20) == 0
    assert "link=" not in log.read_text()


def link(mesh: RunningMesh) -> str:
    return mesh.cli("console", mesh.folder).strip()


@pytest.fixture(scope="module")
def window(mesh: RunningMesh, console: str) -> Iterator[Any]:
    """A browser that has come in by the link."""
    with browser() as running:
        context = running.new_context(viewport={"width": 1280, "height": 900})
        first = context.new_page()
        first.goto(link(mesh))
        assert first.url == f"{console}/"
        first.close()
        yield context


@pytest.fixture
def opened(window: Any, console: str) -> Iterator[tuple[Any, Heard]]:
    """The mesh's page; whatever a test does on it, nothing may complain, and nothing may go elsewhere."""
    page, heard = page_of(window)
    page.goto(f"{console}/")
    page.wait_for_selector(READY)
    yield page, heard
    page.close()
    assert heard.complaints == []
    assert {method for method, _ in heard.requests} == {"GET"}
    assert all(url.startswith(f"{console}/") for _, url in heard.requests)


def test_the_page_shows_the_mesh_as_the_status_has_it(mesh: RunningMesh, opened: tuple[Any, Heard]) -> None:
    page, _ = opened
    for worker in mesh.serving():
        card = page.locator(".card", has_text=worker["instance"][:8])
        said = card.inner_text()
        assert {"serving", "simulated: protects nothing", "evidence believed"} <= set(said.splitlines())
        assert f"{MODEL}@1" in said
        assert worker["mrenclave"][:16] in said
        assert worker["tcb_status"] in said
        assert worker["endpoint"] in said
    assert page.locator("#simulated").is_visible()
    assert page.locator("#models").inner_text().count(f"{MODEL}@1") == 1
    assert "Key of probe@1 released" in page.locator("#events").inner_text()


def test_answers_are_counted_as_they_come(mesh: RunningMesh, opened: tuple[Any, Heard]) -> None:
    page, _ = opened
    with SyncClient(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        for seed in range(30):
            client.infer(MODEL, {"x": inputs(seed)})
    rate, median = (page.locator("#models .figure").nth(at) for at in (0, 1))
    expect(rate).not_to_have_text("0", timeout=15_000)
    expect(median).to_contain_text(" ms", timeout=15_000)


def test_a_refusal_and_a_release_appear_as_they_happen(mesh: RunningMesh, opened: tuple[Any, Heard]) -> None:
    page, _ = opened
    refused = page.locator("#events > .bad", has_text="names neither its code")
    released = page.locator("#events > .good", has_text="Key of probe@1 released")
    before = refused.count()  # other tests had workers refused in this mesh
    with another_worker(mesh, "--mrenclave", OTHER_MRENCLAVE):
        expect(refused).not_to_have_count(before, timeout=45_000)
        expect(page.locator("#alarms > .bad", has_text="names neither its code")).to_have_count(1)
    before = released.count()
    with another_worker(mesh):
        expect(released).not_to_have_count(before, timeout=45_000)
    mesh.until_serving(2)


def test_the_evidence_of_a_worker_is_explained_to_its_last_byte(mesh: RunningMesh, opened: tuple[Any, Heard]) -> None:
    page, _ = opened
    worker = mesh.serving()[0]
    page.locator(".card h3 a", has_text=worker["instance"][:8]).click()
    page.locator("#fields details").first.wait_for()
    assert "believes the evidence" in page.locator("#decision").inner_text()
    assert page.locator("#steps > .good").count() == 8
    measured = page.locator("details", has=page.locator("summary", has_text="MRENCLAVE"))
    assert worker["mrenclave"] in measured.inner_text().replace(" ", "")
    places = re.findall(r"bytes (\d+) to (\d+)", page.locator("#fields").text_content())
    size = int(re.sub(r"\D", "", page.locator("#size").inner_text()))
    assert [int(begin) for begin, _ in places] == [0, *(int(end) + 1 for _, end in places[:-1])]
    assert int(places[-1][1]) == size - 1
    page.locator("summary", has_text="CPUSVN").press("Enter")
    assert "microcode" in page.locator("details[open]", has_text="CPUSVN").inner_text()


@pytest.mark.attack("J12")
def test_a_receipt_is_checked_in_the_browser_and_a_changed_bit_is_found(
    mesh: RunningMesh, opened: tuple[Any, Heard], console: str, tmp_path: Path
) -> None:
    page, heard = opened
    with SyncClient(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        answer = client.infer(MODEL, {"x": np.ones((1, 8), np.float32)})
    assert answer.receipt is not None
    kept = tmp_path / "answer.receipt"
    save_receipt(answer.receipt, kept)
    page.goto(f"{console}/receipt")
    heard.requests.clear()
    page.set_input_files("#trust", mesh.trust)
    page.set_input_files("#receipt", kept)
    page.locator("#verdict .steps").wait_for()
    assert "The receipt holds." in page.locator("#verdict").inner_text()
    assert "simulated" in page.locator("#verdict").inner_text()
    assert page.locator("#verdict .steps > .good").count() == 8
    raw = bytearray(kept.read_bytes())
    changed = raw.index(answer.receipt.response)
    raw[changed + len(answer.receipt.response) - 1] ^= 1
    page.set_input_files("#receipt", {"name": "changed.receipt", "mimeType": "", "buffer": bytes(raw)})
    page.locator("#verdict .verdict.bad").wait_for()
    assert "NOT hold" in page.locator("#verdict").inner_text()
    failed = page.locator("#verdict .steps > .bad")
    assert failed.count() == 1
    assert "the answer is not the one that was signed" in failed.inner_text()
    assert all("/static/" in url for _, url in heard.requests)  # neither file went anywhere


@pytest.mark.attack("J02")
def test_names_that_are_markup_stay_text(mesh: RunningMesh, opened: tuple[Any, Heard], console: str) -> None:
    page, _ = opened
    worker = mesh.serving()[0]["instance"]

    def spoiled(value: Any) -> Any:
        """Every text of the mesh, as somebody hostile would have chosen it; what the page computes with stays."""
        if isinstance(value, dict):
            kept = {"tone", "state", "time", "attested_until", "until", "answered_at", "asked_at", "outcome", "event"}
            return {name: each if name in kept else spoiled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [spoiled(each) for each in value]
        return HOSTILE if isinstance(value, str) else value

    def answer(route: Any) -> None:
        route.fulfill(json=spoiled(json.loads(route.fetch().body())))

    page.route("**/api/**", answer)
    for path, place in ((f"/worker#{worker}", "#fields"), ("/", "#events")):
        page.goto(f"{console}{path}")
        page.wait_for_selector(READY)
        assert HOSTILE in page.locator(place).inner_text()
        assert page.locator("main img, main script").count() == 0
        assert page.title() != "1"
    assert HOSTILE in page.locator("#workers").inner_text()
    page.unroute("**/api/**")


@pytest.mark.attack("J04")
def test_without_the_link_there_is_nothing(console: str) -> None:
    with httpx.Client(base_url=console, trust_env=False) as stranger:
        for path in ("/", "/api/mesh", "/static/mesh.mjs"):
            assert stranger.get(path).status_code == 403
        assert stranger.get("/enter?link=guess").status_code == 403


@pytest.mark.parametrize("path", ["/", "/receipt", "/worker"])
def test_everybody_can_use_it(mesh: RunningMesh, opened: tuple[Any, Heard], console: str, path: str) -> None:
    """By axe-core's rules, light and dark; and at the width of a phone nothing sticks out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page, _ = opened
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{console}{path}" + (f"#{mesh.serving()[0]['instance']}" if path == "/worker" else ""))
        if path != "/receipt":
            page.wait_for_selector(READY)
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
