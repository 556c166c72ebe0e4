"""A user's home that knows nothing of the machine's real one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Variables of the outer environment that would reach through the isolation.
_HIDDEN = (
    "CLOUDITIA_GATEWAY",
    "CLOUDITIA_API_KEY",
    "JPY_PARENT_PID",
    "JPY_SESSION_NAME",
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_PATH",
    "JUPYTER_TOKEN",
    "PYTHONSTARTUP",
)


@dataclass(frozen=True)
class IsolatedHome:
    """One temporary user: where things lie and the environment that says so."""

    directory: Path

    @property
    def config_dir(self) -> Path:
        """``CLOUDITIA_CONFIG_DIR``: targets and keys."""
        return self.directory / "c"

    @property
    def state_dir(self) -> Path:
        """``CLOUDITIA_STATE_DIR``: the embedded gateway and what the local side remembers."""
        return self.directory / "s"

    @property
    def jupyter_data_dir(self) -> Path:
        """``JUPYTER_DATA_DIR``: kernelspecs are in ``kernels`` below it."""
        return self.directory / "j"

    @property
    def runtime_dir(self) -> Path:
        """``JUPYTER_RUNTIME_DIR``: connection files."""
        return self.directory / "jr"

    def variables(self) -> dict[str, str]:
        """The variables that make this the home of a process."""
        root = self.directory
        return {
            "HOME": str(root),
            "USERPROFILE": str(root),
            "XDG_CONFIG_HOME": str(root / "xc"),
            "XDG_DATA_HOME": str(root / "xd"),
            "XDG_STATE_HOME": str(root / "xs"),
            "XDG_CACHE_HOME": str(root / "xk"),
            "XDG_RUNTIME_DIR": str(root / "xr"),
            "JUPYTER_CONFIG_DIR": str(root / "jc"),
            "JUPYTER_DATA_DIR": str(self.jupyter_data_dir),
            "JUPYTER_RUNTIME_DIR": str(self.runtime_dir),
            "JUPYTER_PLATFORM_DIRS": "1",
            "IPYTHONDIR": str(root / "ip"),
            "MPLCONFIGDIR": str(root / "mpl"),
            "CLOUDITIA_CONFIG_DIR": str(self.config_dir),
            "CLOUDITIA_STATE_DIR": str(self.state_dir),
            "CLOUDITIA_POOL": str(root / "pool"),
        }

    def environment(self) -> dict[str, str]:
        """This process's environment with the home swapped: for ``subprocess`` calls."""
        outer = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
        return outer | self.variables()


@contextmanager
def isolated_home() -> Iterator[IsolatedHome]:
    """Make a temporary home, point this process's environment at it, and remove it afterwards.

    The path is short on purpose: Unix sockets below it must fit in 107 bytes.
    """
    directory = Path(tempfile.mkdtemp(prefix="cl", dir=_short_temporary_directory()))
    home = IsolatedHome(directory)
    for path in home.variables().values():
        if path.startswith(str(directory)):
            Path(path).mkdir(mode=0o700, exist_ok=True)
    before = dict(os.environ)
    os.environ.update(home.variables())
    for name in _HIDDEN:
        os.environ.pop(name, None)
    try:
        yield home
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(directory, ignore_errors=True)


def _short_temporary_directory() -> str | None:
    short = Path("/tmp")  # noqa: S108  (the directory itself is made by mkdtemp, 0700)
    return str(short) if os.access(short, os.W_OK) else None
