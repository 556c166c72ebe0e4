"""The user's own JupyterLab, which a test can kill and start again at the same address."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests import needs

from clouditia.testing import jupyter_server
from clouditia.testing.home import IsolatedHome
from clouditia.testing.jupyter_server import JupyterServer
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
EXTENSION = needs.ROOT / "labextension" / "clouditia_lab" / "labextension"


class LocalJupyter:
    """Serves JupyterLab and Notebook 7 with the extension as it is in this tree."""

    def __init__(self, home: IsolatedHome, root: Path) -> None:
        self._home, self._root = home, root
        self._port, self._token = jupyter_server._free_port(), secrets.token_hex(16)
        self._share = home.directory / f"share-{self._port}"
        (self._share / "labextensions").mkdir(parents=True)
        (self._share / "labextensions" / "clouditia-lab").symlink_to(EXTENSION)
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)

    @property
    def server(self) -> JupyterServer:
        """Where it listens; the same after a start."""
        return JupyterServer(self._port, self._token, self._process)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser"]
        command += [f"--port={self._port}", "--ServerApp.port_retries=0"]
        command += [f"--ServerApp.root_dir={self._root}", "--LabApp.expose_app_in_browser=True"]
        # Before what is installed in the environment.
        variables = {"JUPYTER_TOKEN": self._token, "JUPYTER_PATH": str(self._share)}
        with (self._home.directory / f"jupyter-{self._port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._home.environment() | variables,
                cwd=self._home.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self.server.is_up, WAIT_S, what="JupyterLab answers")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self._process.kill()
        self._process.wait()
