"""A user's desk: the local Jupyter server that serves JupyterLab and Notebook, and what it runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_notebook

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.jupyter_server import JupyterServer, jupyter_server
from clouditia.testing.processes import processes_under
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until

WAIT_S = 60.0
LOCAL_KERNEL = "python3"


@dataclass(frozen=True)
class Desk:
    """One user with a target ``lab``, and the server that both programs talk to."""

    home: IsolatedHome
    lab: LoggedInTarget
    server: JupyterServer

    @property
    def notebooks(self) -> Path:
        return self.home.directory / "w"

    @property
    def server_log(self) -> Path:
        return self.home.directory / f"jupyter-{self.server.port}.log"

    def url(self, path: str, **query: str) -> str:
        """Address of a page, with the token."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return f"{self.server.url}{path}?token={self.server.token}&{words}"

    def write_notebook(self, kernel: str) -> str:
        """Write an empty notebook that names this kernelspec; returns its path."""
        path = f"{uuid.uuid4().hex[:8]}.ipynb"
        metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
        content = new_notebook(cells=[new_code_cell()], metadata=metadata)
        body = {"type": "notebook", "format": "json", "content": content}
        self.server.call("PUT", f"/api/contents/{path}", body)
        return path

    def saved_text(self, path: str) -> str:
        """The file of a notebook."""
        return (self.notebooks / path).read_text()

    def session_of(self, path: str) -> dict[str, Any] | None:
        """The local server's session of a notebook, if it has one."""
        sessions: list[dict[str, Any]] = self.server.call("GET", "/api/sessions")
        return next((each for each in sessions if each["path"] == path), None)

    def is_connected(self, path: str) -> bool:
        """Whether a page is connected to the kernel of this notebook."""
        session = self.session_of(path)
        return bool(session and session["kernel"] and session["kernel"]["connections"])

    @contextmanager
    def another_gateway(self, name: str) -> Iterator[LoggedInTarget]:
        """One more gateway and target, for one test."""
        state_dir = self.home.directory / f"g{uuid.uuid4().hex[:6]}"
        with GatewayProcess(self.home, state_dir=state_dir) as gateway:
            target = log_in(gateway, name=name)
            yield target
            self.end_all_kernels()
            wait_until(lambda: not remote_kernels(target), WAIT_S, what="no kernel there")
            gateway.run("target", "remove", name)

    def end_all_kernels(self) -> None:
        """Shut down whatever a test has started, local and remote."""
        for session in self.server.call("GET", "/api/sessions"):
            self.server.call("DELETE", f"/api/sessions/{session['id']}")
        for kernel in self.server.call("GET", "/api/kernels"):
            self.server.call("DELETE", f"/api/kernels/{kernel['id']}")
        wait_until(lambda: not remote_kernels(self.lab), WAIT_S, what="no remote kernel")


def remote_kernels(target: LoggedInTarget) -> list[dict[str, Any]]:
    """The user's kernels, as the gateway itself lists them."""
    return GatewayClient(load_target(target.name)).list_kernels()


def runs_on(target: LoggedInTarget, pid: int) -> bool:
    """Whether the process is one of the gateway's, and no child of the local server."""
    return any(process.pid == pid for process in processes_under(target.gateway.state_dir))


@contextmanager
def served_desk(home: IsolatedHome, lab: LoggedInTarget) -> Iterator[Desk]:
    """Serve JupyterLab and Notebook 7, which is a server extension, from one local server."""
    _write_settings(home)
    notebooks = home.directory / "w"
    notebooks.mkdir()
    root = f"--ServerApp.root_dir={notebooks}"
    with jupyter_server(home, root, command=("-m", "jupyterlab")) as server:
        yield Desk(home, lab, server)


def _write_settings(home: IsolatedHome) -> None:
    """Both programs as they come, without our extension, and without news and update checks."""
    config = Path(home.variables()["JUPYTER_CONFIG_DIR"])
    stock = {"disabledExtensions": {"clouditia-lab": True}}
    _write(config / "labconfig" / "page_config.json", stock)
    folder = config / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    quiet = {"checkForUpdates": False, "fetchNews": "false"}
    _write(folder / "notification.jupyterlab-settings", quiet)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
