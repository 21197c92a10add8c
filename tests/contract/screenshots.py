"""``make screenshots``: the pictures of the page that the README shows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from playwright.sync_api import Page

from contract.chromium import address, chromium
from contract.running import running

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"


def _shop(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("User name").fill("johndoe")
    page.get_by_role("button", name="Sign in").click()
    for name in "Spotify", "Childcare voucher":
        page.get_by_role("button", name=f"Add {name}").click()
    page.evaluate("document.activeElement.blur()")


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as folder,
        running(Path(folder, "benefits.db"), workers=1) as service,
        chromium() as browser,
    ):
        service.order("johndoe", "netflix", "flu-vaccination")
        for name, width, height, scroll in ("catalogue", 1180, 720, 0), ("phone", 390, 720, 330):
            page = browser.new_page(
                color_scheme="dark" if name == "phone" else "light",
                device_scale_factor=2 if name == "phone" else 1,
                locale="en-GB",
                reduced_motion="reduce",
                viewport={"width": width, "height": height},
            )
            _shop(page, address(service))
            page.evaluate("y => scrollTo(0, y)", scroll)
            page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
