"""Drives a Qt console without a screen and prints what its window showed, as JSON.

A process of its own, because Qt wants the main thread and stays for the life of a process:
``python qtconsole_script.py KERNEL``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from qtconsole.client import QtKernelClient  # type: ignore[import-untyped]  # no annotations
from qtconsole.manager import QtKernelManager  # type: ignore[import-untyped]
from qtconsole.rich_jupyter_widget import RichJupyterWidget  # type: ignore[import-untyped]
from qtpy import QtWidgets

WAIT_S = 60.0
PLOT = (
    "%matplotlib inline\n"
    "import matplotlib.pyplot as plt\n"
    "plt.figure(figsize=(2, 1))\n"
    "_ = plt.plot([1, 3, 2])\n"
    "plt.show()"
)


class Window:
    """The window of ``jupyter qtconsole --kernel KERNEL``."""

    def __init__(self, kernel_name: str) -> None:
        self.application = QtWidgets.QApplication([])
        self.manager = QtKernelManager(kernel_name=kernel_name, autorestart=True)
        self.manager.start_kernel()
        client: QtKernelClient = self.manager.client()
        client.start_channels()
        self.widget = RichJupyterWidget(confirm_restart=False)
        self.widget.kernel_manager, self.widget.kernel_client = self.manager, client
        self.prompts = 0
        self.widget.executed.connect(self._count)
        self.widget.resize(700, 500)
        self.widget.show()

    def _count(self, _reply: object) -> None:
        self.prompts += 1

    @property
    def text(self) -> str:
        return str(self.widget._control.toPlainText())

    def wait(self, predicate: Callable[[], object], what: str) -> None:
        """Serve the window until ``predicate`` holds."""
        deadline = time.monotonic() + WAIT_S
        while not predicate():
            assert time.monotonic() < deadline, f"no {what} in {WAIT_S:g} s:\n{self.text}"
            self.application.processEvents()

    def run(self, code: str) -> str:
        """Execute code as if it were typed; returns what the window shows from then on."""
        before, prompts = len(self.text), self.prompts
        self.widget.execute(code)
        self.wait(lambda: self.prompts > prompts, f"end of {code!r}")
        return self.text[before:]

    def run_until(self, code: str, shown: str) -> str:
        """As ``run``, by what is shown: after a restart the window has no word for the end."""
        before = len(self.text)
        self.widget.execute(code)
        self.wait(lambda: shown in self.text[before:], shown)
        return self.text[before:]

    def images(self) -> int:
        """How many pictures are in the text."""
        block, count = self.widget._control.document().begin(), 0
        while block.isValid():
            fragments = block.begin()
            while not fragments.atEnd():
                count += fragments.fragment().charFormat().isImageFormat()
                fragments += 1
            block = block.next()
        return count

    def interrupt(self) -> str:
        """Interrupt a busy cell with the window's own action."""
        before, prompts = len(self.text), self.prompts
        self.widget.execute("print('busy', flush=True)\nwhile True: pass")
        self.wait(lambda: "\nbusy\n" in self.text[before:], "busy")
        self.widget.request_interrupt_kernel()
        self.wait(lambda: self.prompts > prompts, "end of the interrupted cell")
        return self.text[before:]

    def restart(self) -> None:
        """Restart the kernel with the window's own action, without its question."""
        self.widget.restart_kernel("restarting", now=False)
        self.wait(lambda: "Restarting kernel..." in self.text, "word of the restart")

    def close(self) -> None:
        """What the window does when it closes and the user has said yes."""
        self.widget.close()
        self.widget.kernel_client.stop_channels()
        self.manager.shutdown_kernel()


def look(window: Window, screenshot: str) -> dict[str, str | int]:
    """Go through everything; returns what was seen."""
    window.wait(lambda: "In [1]" in window.text, "the first prompt")
    seen: dict[str, str | int] = {
        "text": window.run("kept = 6 * 7\nprint('größer')\nkept"),
        "plot": window.run(PLOT),
        "images": window.images(),
        "error": window.run("1 / 0"),
        "interrupted": window.interrupt(),
        "after_interrupt": window.run("print('kept is', kept)"),
    }
    if screenshot:
        window.widget.grab().save(screenshot)
    window.restart()
    seen["after_restart"] = window.run_until("print('kept' in globals())", "\nIn [2]: ")
    return seen


def main(kernel_name: str, screenshot: str = "") -> None:
    """Open a window, look at it, close it, and print what was seen."""
    window = Window(kernel_name)
    try:
        seen = look(window, screenshot)
    finally:
        window.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
