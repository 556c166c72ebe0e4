"""The kernelspecs that this gateway offers: those installed here, except our own bridges."""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from traitlets import TraitError

from clouditia.errors import ConfigError
from clouditia_gateway.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFERRED = "python3"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_RESOURCES = ("kernel.js", "kernel.css")
_MAX_RESOURCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Spec:
    """One kernelspec, as far as launching and showing it goes."""

    name: str
    display_name: str
    language: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    interrupt_mode: str
    metadata: Mapping[str, Any]
    resource_dir: Path

    @property
    def supports_ipc(self) -> bool:
        """Whether the kernel takes ``ipc`` as transport; a spec can say no in its metadata."""
        ours = self.metadata.get("clouditia")
        return not (isinstance(ours, dict) and ours.get("supports_ipc") is False)


class KernelSpecs:
    """Finds kernelspecs on disk; a new one is seen at the next call."""

    def __init__(self, manager: KernelSpecManager | None = None) -> None:
        self._manager = manager or KernelSpecManager()

    @property
    def default_name(self) -> str:
        """The kernelspec that is used when a client names none."""
        if self._read(_PREFERRED) is not None:
            return _PREFERRED
        return min(self.all(), default=_PREFERRED)

    def warm_up(self) -> None:
        """Load what the first look needs."""
        self.all()

    def all(self) -> dict[str, Spec]:
        """All offered kernelspecs by name. One that cannot be read is left out."""
        specs = {}
        for name, found in self._manager.get_all_specs().items():
            spec = _spec(name, found["spec"], found["resource_dir"])
            if spec is not None:
                specs[name] = spec
        return specs

    def get(self, name: str) -> Spec:
        """The kernelspec of that name (in any case).

        Raises:
            NotFoundError: there is none; the message lists those there are.
        """
        found = self._read(name)
        if found is not None:
            return found
        known = ", ".join(sorted(self.all())) or "none at all"
        raise NotFoundError(
            f"this gateway has no kernelspec {name[:80]!r}; it has: {known}",
            hint="clouditia kernelspec sync writes the right ones on your machine.",
        )

    def _read(self, name: str) -> Spec | None:
        """One kernelspec, in any case of its name; None where it is absent, broken, or a bridge."""
        if not _NAME.fullmatch(name):
            return None
        try:
            found = self._manager.get_kernel_spec(name.lower())
        except (NoSuchKernel, TraitError, ValueError, OSError):
            return None
        return _spec(name.lower(), found.to_dict(), found.resource_dir)

    def resource(self, name: str, file_name: str) -> tuple[bytes, str]:
        """Content and media type of a logo (or kernel.js, kernel.css) of a kernelspec.

        Raises:
            NotFoundError: no such kernelspec or file.
        """
        for path in _resource_files(self.get(name).resource_dir):
            if path.name == file_name and path.stat().st_size <= _MAX_RESOURCE_BYTES:
                media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                return path.read_bytes(), media_type
        raise NotFoundError(f"the kernelspec {name!r} has no file {file_name[:80]!r}")

    def model(self, spec: Spec, base_url: str) -> dict[str, Any]:
        """Jupyter's kernelspec model, without environment and without paths of this machine."""
        return {
            "name": spec.name,
            "spec": {
                "argv": [_without_folder(part) for part in spec.argv],
                "env": {},
                "display_name": spec.display_name,
                "language": spec.language,
                "interrupt_mode": spec.interrupt_mode,
                "metadata": dict(spec.metadata),
            },
            "resources": {
                path.stem if path.name.startswith("logo-") else path.name: (
                    f"{base_url}kernelspecs/{spec.name}/{path.name}"
                )
                for path in _resource_files(spec.resource_dir)
            },
        }


#: jupyter_client's rule: these names mean the Python that runs Jupyter.
_OWN_PYTHON = re.compile(r"python(3(\.[0-9]+)?)?")


def check_executable(spec: Spec, search_path: str) -> None:
    """Refuse a kernelspec whose program is not there, before anything is started.

    Raises:
        ConfigError: argv is empty or its program cannot be found.
    """
    program = spec.argv[0] if spec.argv else ""
    if _OWN_PYTHON.fullmatch(program):
        return
    if not program or shutil.which(program, path=search_path) is None:
        raise ConfigError(
            f"the kernelspec {spec.name!r} names the program {Path(program).name!r}, "
            "which the gateway cannot find or run",
            hint="Install that kernel again on the gateway's machine.",
        )


def _spec(name: str, fields: Mapping[str, Any], resource_dir: str) -> Spec | None:
    metadata = fields.get("metadata") or {}
    ours = metadata.get("clouditia")
    # A spec of ours stands for a kernel on some gateway: offered again it could lead in a circle.
    if isinstance(ours, dict) and "target" in ours:
        return None
    env = fields.get("env") or {}
    return Spec(
        name=name,
        display_name=str(fields.get("display_name") or name),
        language=str(fields.get("language") or ""),
        argv=tuple(str(part) for part in fields.get("argv") or ()),
        env={str(key): str(value) for key, value in env.items()},
        interrupt_mode=str(fields.get("interrupt_mode") or "signal"),
        metadata=metadata,
        resource_dir=Path(resource_dir),
    )


def _resource_files(resource_dir: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(resource_dir))  # noqa: PTH208  (names only)
    except OSError:
        return []
    wanted = [name for name in names if name in _RESOURCES or name.startswith("logo-")]
    return [path for path in (resource_dir / name for name in wanted) if path.is_file()]


def _without_folder(part: str) -> str:
    return Path(part).name if part.startswith("/") else part
