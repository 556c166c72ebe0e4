"""After ``make demo``: where the notebook ran, how well it did, and what to try next."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

NEXT_STEPS = """\
What to try next
  the executed notebook, with its plot    {notebook}
  a notebook of your own                  .venv/bin/clouditia run YOUR.ipynb --target embedded
  the kernel in JupyterLab and VS Code    .venv/bin/clouditia kernelspec sync --target embedded
  a gateway on a machine with GPUs        README.md, "Run your own gateway"
"""


def main() -> None:
    """Print the summary of one executed notebook."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    notebook: Path = parser.parse_args().notebook
    text = printed_text(json.loads(notebook.read_text(encoding="utf-8")))
    accuracy = re.search(r"^accuracy: ([\d.]+)", text, re.MULTILINE)
    if accuracy is None:
        sys.exit(f"{notebook} holds no line `accuracy: …`: did its last cell run?")
    where = [line for line in text.splitlines() if line.startswith(("Kernel process", "PyTorch"))]
    print("\nWhere it ran", *where, sep="\n  ")
    print(f"\nAccuracy\n  {float(accuracy[1]):.1%} of the digits that it had never seen\n")
    print(NEXT_STEPS.format(notebook=notebook), end="")


def printed_text(notebook: dict[str, Any]) -> str:
    """Everything that the cells of a notebook wrote to standard output."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


if __name__ == "__main__":
    main()
