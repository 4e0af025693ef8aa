"""Pages in a browser: Chromium without a window, and what a page said and asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


def chromium_path() -> str:
    """An installed Chromium; where there is none the test is skipped, but on CI it fails."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    path = next(filter(None, found), None)
    if path is not None:
        return path
    reason = "no Chromium is installed; install the system's package chromium"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Chromium without a window, until the block ends."""
    path = chromium_path()
    with sync_playwright() as playwright:
        # Where tests run as root there is no sandbox, and in containers /dev/shm is small.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page that was opened, and what it said since."""

    page: Page
    console: list[str] = field(default_factory=list)
    """Errors and warnings on its console, as ``kind: text``."""
    errors: list[str] = field(default_factory=list)
    """Errors that no script caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses that it asked for, its own first; ``data:`` and ``blob:``, which ask nobody, are left out."""

    @property
    def complaints(self) -> list[str]:
        """All that went wrong in it."""
        return self.console + self.errors

    def close(self) -> None:
        """Closes the page and forgets its storage."""
        self.page.context.close()


def open_page(browser: Browser, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> Opened:
    """Opens an address in a fresh profile, in the light or the dark colour scheme; what it loads is loaded then."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(45_000)
    opened = Opened(page)
    page.on(
        "console",
        lambda said: opened.console.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on(
        "request",
        lambda asked: opened.requests.append(asked.url) if not asked.url.startswith(("data:", "blob:")) else None,
    )
    page.goto(url)
    return opened


def is_wider_than_window(page: Page) -> bool:
    """Whether a page scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
