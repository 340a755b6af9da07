"""A real browser, and how long it may take."""

from __future__ import annotations

from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

from tests.conftest import find_service

PATIENCE_MS = 60_000
"""How long a page may take for what it shows in a second where nothing else runs."""
_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def launched():
    """Chromium; its shell without windows where it is installed, which costs two thirds of the CPU."""
    program = find_service("chromium") or "chromium"
    window = [] if program.endswith("-shell") else ["--headless=new"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_ARGS, *window])
        yield browser
        browser.close()
