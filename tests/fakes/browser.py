"""A real headless Chromium, and a page whose every complaint is kept: what the console is shown in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "needs Chromium: 'sudo apt-get install chromium'"


@dataclass
class Heard:
    """What a page complained of, and what it asked for.

    Attributes:
        complaints: Errors and warnings of scripts, and violations of the content security policy.
        requests: Method and URL of everything that left the page.
    """

    complaints: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Request) -> None:
        self.requests.append((request.method, request.url))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser as Debian has it, for the length of the block."""
    with sync_playwright() as playwright:
        # Chromium's sandbox needs privileges that a container's root has not; it opens nothing but our own pages.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-lcd-text"])
        try:
            yield running
        finally:
            running.close()


def page_of(context: BrowserContext) -> tuple[Page, Heard]:
    """A new page, with someone who listens."""
    page, heard = context.new_page(), Heard()
    heard.listen(page)
    return page, heard
