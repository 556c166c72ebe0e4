"""The commands of the pages in docs/front-ends, as a user of an isolated home would type them."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from tests.needs import ROOT

from clouditia.rest import GatewayClient
from clouditia.testing.home import IsolatedHome
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0


def code_blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language on a page of docs/front-ends."""
    text = (ROOT / "docs" / "front-ends" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed_command(page: str, beginning: str) -> list[str]:
    """The words of the first command of a page that begins like this."""
    lines = [line for block in code_blocks(page, "sh") for line in block.splitlines()]
    found = [line for line in lines if line.startswith(beginning)]
    assert found, f"docs/front-ends/{page}.md has no command `{beginning} …`: {lines}"
    return shlex.split(found[0], comments=True)


def user_environment(home: IsolatedHome) -> dict[str, str]:
    """Of a shell in which the tests' Python environment is activated."""
    programs = str(Path(sys.executable).parent)
    return home.environment() | {"PATH": os.pathsep.join((programs, os.environ["PATH"]))}


def wait_for_no_kernel(remote: GatewayClient) -> None:
    """Wait until the user has no kernel at the gateway."""
    wait_until(lambda: not remote.list_kernels(), WAIT_S, what="no kernel is left at the gateway")
