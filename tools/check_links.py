"""Check that every relative link and anchor in the project's pages leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Print every broken link; exit 1 when there is one."""
    pages = tracked_pages()
    broken = [problem for page in pages for problem in broken_links(page)]
    for problem in broken:
        print(problem)
    print(f"{len(pages)} pages, {len(broken)} broken links")
    return 1 if broken else 0


def tracked_pages() -> list[Path]:
    """All Markdown files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


def broken_links(page: Path) -> list[str]:
    """One sentence per link of this page that leads nowhere."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    problems = []
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        goal = (page.parent / path).resolve() if path else page
        name = page.relative_to(ROOT)
        if not goal.exists():
            problems.append(f"{name}: {link} leads to no file")
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            problems.append(f"{name}: {link} leads to no heading")
    return problems


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes from the headings of a page."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    sys.exit(main())
