"""Draw the PNG logos of the kernelspecs from the SVG one, with an installed Chromium."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

LOGOS = Path(__file__).resolve().parent.parent / "kernel_provider/clouditia/logos"
#: What Jupyter's front ends look for beside ``kernel.json``.
SIZES_PX = (32, 64)


def main() -> int:
    """Write ``logo-32x32.png`` and ``logo-64x64.png``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        for size in SIZES_PX:
            svg = (LOGOS / "logo-svg.svg").read_text("utf-8")
            page.set_viewport_size({"width": size, "height": size})
            page.set_content(f"<style>*{{margin:0}}svg{{width:100vw;height:100vh}}</style>{svg}")
            page.screenshot(path=LOGOS / f"logo-{size}x{size}.png", omit_background=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
