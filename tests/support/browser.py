"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.needs import missing, needs

needs("playwright.sync_api")

from playwright.sync_api import Browser, expect, sync_playwright

__all__ = ["ARGUMENTS", "launched"]

expect.set_options(timeout=45_000)  # by itself, it gives a page five seconds

_PREFERRED = ("chromium-headless-shell", "chromium", "chromium-browser")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def launched(*arguments: str, keeps_pages: bool = False) -> Iterator[Browser]:
    """Start a browser with an empty profile; skip the test where there is none, but on CI fail.

    :param arguments: more of the browser's own.
    :param keeps_pages: whether it has its back/forward cache, which Playwright switches off: it
        waits in vain for the `load` of a page that comes from there. The headless shell, which
        takes a third less of the processor and is preferred, has no such cache.
    """
    names = ("chromium", "chromium-browser") if keeps_pages else _PREFERRED
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[*ARGUMENTS, *arguments],
            headless=True,
            ignore_default_args=["--disable-back-forward-cache"] if keeps_pages else [],
        )
        try:
            yield browser
        finally:
            browser.close()
