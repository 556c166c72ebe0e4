"""Uses a gateway through jupyter-kernel-client and prints what came back, as JSON.

A process of its own, because the client leaves sockets to the garbage collector and keeps an
IPython shell for the life of its process: ``CK=KEY python kernel_client_script.py URL FOLDER``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_kernel_client import (  # type: ignore[import-untyped]  # no annotations
    JupyterKernelClient,
)

from clouditia.testing.chaos import ChaosProxy, LineOracle
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
LINES = 60


class Gateway:
    """Makes clients of one gateway."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    @contextmanager
    def client(self, url: str = "", **options: Any) -> Iterator[JupyterKernelClient]:
        """A client that starts a kernel and ends it."""
        with JupyterKernelClient(
            server_url=url or self.url, token=self.key, client_kwargs=options
        ) as kernel:
            yield kernel

    @contextmanager
    def guest(self, kernel_id: str) -> Iterator[JupyterKernelClient]:
        """A client that joins a kernel."""
        with JupyterKernelClient(
            kernel_id=kernel_id, server_url=self.url, token=self.key
        ) as kernel:
            yield kernel


def run(kernel: JupyterKernelClient, code: str, **options: Any) -> dict[str, Any]:
    reply: dict[str, Any] = kernel.execute(code, timeout=WAIT_S, **options)
    return reply


def printed(reply: dict[str, Any]) -> list[str]:
    return [output["text"] for output in reply["outputs"] if output["output_type"] == "stream"]


def cells(kernel: JupyterKernelClient) -> dict[str, Any]:
    """Results, errors, questions."""
    client = kernel._manager.client
    return {
        "result": run(kernel, "print('größer')\n6 * 7")["outputs"],
        "error": run(kernel, "1 / 0"),
        "answered": printed(
            run(
                kernel,
                "print(input('name? ')[::-1])",
                allow_stdin=True,
                stdin_hook=lambda _question: client.input("Ada"),
            )
        ),
    }


def variables(kernel: JupyterKernelClient) -> dict[str, Any]:
    """There and back."""
    kernel.set_variable("sent", {"a": [1, 2.5, None]})
    run(kernel, "text = 'here' + str(sent['a'][1])")
    return {
        "names": [variable["name"] for variable in kernel.list_variables()],
        "text": kernel.get_variable("text"),
        "sent": kernel.get_variable("sent"),
    }


def interrupt_and_restart(kernel: JupyterKernelClient) -> dict[str, Any]:
    """Of a busy cell, then of the kernel."""

    def interrupt(message: dict[str, Any]) -> None:
        if message["header"]["msg_type"] == "stream":
            kernel.interrupt()

    busy = "print('on', flush=True)\nwhile True: pass"
    reply = kernel.execute_interactive(busy, output_hook=interrupt, timeout=WAIT_S)
    kept = printed(run(kernel, "print(text)"))
    kernel.restart()
    return {
        "ename": reply["content"]["ename"],
        "kept": kept,
        "after_restart": printed(run(kernel, "print('text' in globals())")),
    }


def join(gateway: Gateway, kernel: JupyterKernelClient) -> dict[str, Any]:
    """A second client comes and goes."""
    run(kernel, "from_owner = 'seen'")
    with gateway.guest(str(kernel.id)) as guest:
        seen = printed(run(guest, "print(from_owner)"))
    return {"seen": seen, "is_alive": kernel.is_alive()}


def cut(gateway: Gateway, folder: Path) -> dict[str, Any]:
    """The network goes while a cell prints, and comes back when the cell is done."""
    go_on, done, lines = folder / "go-on", folder / "done", LineOracle(LINES)
    address = urlsplit(gateway.url)
    code = (
        "import pathlib, time\n"
        f"for i in range({LINES}):\n"
        f"    while i == {LINES // 2} and not pathlib.Path({str(go_on)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "    print(f'#{i}', flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )

    def cut_in_the_middle(message: dict[str, Any]) -> None:
        lines.feed(message)
        if len(lines.numbers) == LINES // 2 and not go_on.exists():
            proxy.cut()
            go_on.touch()
            wait_until(done.exists, WAIT_S, what="the cell prints while nobody listens")
            proxy.heal()

    with ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy:
        url = f"http://{proxy.host}:{proxy.port}"
        with gateway.client(url, reconnect_interval=1) as kernel:
            lines.feed(
                kernel.execute_interactive(code, output_hook=cut_in_the_middle, timeout=WAIT_S)
            )
    return {"half": LINES // 2, "numbers": lines.numbers, "verdict": lines.verdict()}


def use(gateway: Gateway) -> dict[str, Any]:
    """Everything without a cut."""
    with gateway.client() as kernel:
        return {
            "cells": cells(kernel),
            "variables": variables(kernel),
            "life": interrupt_and_restart(kernel),
            "joined": join(gateway, kernel),
        }


def main(url: str, folder: str) -> None:
    """Go through everything and print what was seen."""
    gateway = Gateway(url, os.environ["CK"])
    # At once, because each client that stops may wait for 10 s.
    with ThreadPoolExecutor() as pool:
        used, was_cut = pool.submit(use, gateway), pool.submit(cut, gateway, Path(folder))
        print(json.dumps(used.result() | {"cut": was_cut.result()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
