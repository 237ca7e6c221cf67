"""Pictures of `tokenwire demo`: eight states at two sizes in two colour schemes, and an animation.

Usage: ``python benchmarks/demo_pictures.py DIRECTORY`` writes the screenshots and a sheet of each
size and scheme there, to be looked at. ``--animation FILE`` writes the animation that the
documentation shows, in place of them. Needs Chromium, Playwright and Pillow.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {"phone": (390, 844), "laptop": (1280, 800)}
SCHEMES = ("light", "dark")
MOST_FRAMES = 90
FRAME_MS = 180
STORY = "A story"


@contextmanager
def demo(pace: float) -> Generator[str]:
    """Run the command; give the page's address."""
    command = [sys.executable, "-m", "tokenwire_adapters.cli", "demo", "--no-browser"]
    options = ["--port", "0", "--pace", str(pace)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if address := re.search(r"http://127\S+/", line):
                    yield address[0]
                    break
        finally:
            process.terminate()


def press(page: Page, name: str, place: int = 0) -> None:
    page.get_by_role("button", name=name).nth(place).click()


def see(page: Page, state: str) -> None:
    page.locator(f".answer[data-state={state}]").first.wait_for(timeout=60_000)
    if state == "streaming":
        page.wait_for_function(
            "() => [...document.querySelectorAll('.parts')].some((a) => a.textContent.length > 500)"
        )


def streaming(page: Page) -> None:
    press(page, STORY)
    see(page, "streaming")


def cut_off(page: Page) -> None:
    streaming(page)
    press(page, "Cut my connection", 1)


def stopped(page: Page) -> None:
    streaming(page)
    press(page, "Stop")
    see(page, "cancelled")
    page.locator(".provider[data-outcome]").last.wait_for()


def complete(page: Page) -> None:
    press(page, "Call a tool")
    see(page, "complete")


def thinking(page: Page) -> None:
    press(page, "Think first")
    page.locator(".reasoning").first.wait_for()
    page.wait_for_function("() => document.querySelector('.reasoning').textContent.length > 60")


def wall(page: Page) -> None:
    press(page, "Start all six")
    see(page, "streaming")


def code(page: Page) -> None:
    if page.locator("#code").is_hidden():
        press(page, "Code")


# What each state is called, its view, and how one gets there.
STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "1-empty": ("two", lambda page: None),
    "2-streaming": ("two", streaming),
    "3-cut-off": ("two", cut_off),
    "4-stopped": ("two", stopped),
    "5-tool": ("one", complete),
    "6-thinking": ("one", thinking),
    "7-wall": ("wall", wall),
    "8-code": ("two", code),
}


def open_page(browser: Browser, address: str, size: str, scheme: str) -> Page:
    width, height = SIZES[size]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(address)
    page.locator(".pane[data-status=live]").last.wait_for()
    return page


def write_screenshots(browser: Browser, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with demo(pace=90) as address:
        for size in SIZES:
            for scheme in SCHEMES:
                pictures: list[Image.Image] = []
                for name, (view, reach) in STATES.items():
                    page = open_page(browser, f"{address}?view={view}", size, scheme)
                    reach(page)
                    pictures.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
                    pictures[-1].save(directory / f"{size}-{scheme}-{name}.png")
                    page.close()
                sheet(pictures).save(directory / f"{size}-{scheme}.png")


def sheet(pictures: list[Image.Image], columns: int = 4) -> Image.Image:
    """All states on one picture."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", ((width + 8) * columns, (height + 8) * rows), "#888")
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % columns * (width + 8), i // columns * (height + 8)))
    return whole


def write_animation(browser: Browser, file: Path) -> None:
    """A question, one device cut off, and how it catches up."""
    frames: list[Image.Image] = []

    def record(page: Page, until: Callable[[], bool], rest: int = 0) -> None:
        while len(frames) < MOST_FRAMES and (rest or not until()):
            picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
            frames.append(picture.resize((880, 513), Image.Resampling.LANCZOS))
            page.wait_for_timeout(FRAME_MS)
            rest -= bool(rest)

    with demo(pace=14) as address:
        page = browser.new_page(viewport={"width": 1200, "height": 700}, color_scheme="light")
        page.goto(f"{address}#animation")
        page.locator(".pane[data-status=live]").last.wait_for()
        record(page, lambda: True, rest=4)
        press(page, STORY)
        shown = page.locator(".log").first
        record(page, lambda: len(shown.inner_text()) > 420)
        press(page, "Cut my connection", 1)
        phone = page.locator(".pane").nth(1)
        record(page, lambda: phone.locator(".resumed").inner_text() != "")
        record(page, lambda: True, rest=12)
    frames[0].save(
        file,
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME_MS] * (len(frames) - 1) + [3000],
        loop=0,
        quality=60,
        method=6,
    )
    print(f"{file}: {len(frames)} frames, {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", help="where screenshots go")
    parser.add_argument("--animation", type=Path, metavar="FILE", help="a .webp file")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        if args.directory:
            write_screenshots(browser, args.directory)
        if args.animation:
            write_animation(browser, args.animation)
        browser.close()


if __name__ == "__main__":
    main()
