"""The browser of the tests: Chromium, as Playwright controls it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from contract.running import Service
from waiting import A_LONG_TIME

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

expect.set_options(timeout=A_LONG_TIME * 1000)


def require_chromium(what: str) -> None:
    """Skip the module that calls this if there is no browser. With REQUIRE_BROWSER, which CI sets, its tests fail.

    :param what: what remains untested.
    """
    if CHROMIUM is None and not os.environ.get("REQUIRE_BROWSER"):
        pytest.skip(f"NO BROWSER, SO NOT TESTED: {what}; apt-get install chromium", allow_module_level=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser; it takes a second to start."""
    assert CHROMIUM, "there is no Chromium"
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--disable-quic"]  # beside those that Playwright sets
        patience = A_LONG_TIME * 1000
        with playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=patience) as launched:
            yield launched


def address(service: Service) -> str:
    """Return the address at which a browser finds a service."""
    return f"http://127.0.0.1:{service.port}"
