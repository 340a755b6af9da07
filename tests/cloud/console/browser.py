"""A real browser, and how long it may take."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

PATIENCE_MS = 60_000
"""How long a page may take for what it shows in a second where nothing else runs."""
_ARGS = [
    *("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def launched():
    """Chromium."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or "/usr/bin/chromium"
        browser = playwright.chromium.launch(executable_path=program, args=_ARGS)
        yield browser
        browser.close()
