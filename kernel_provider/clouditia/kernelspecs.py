"""Kernelspecs for remote kernels: what makes them appear in every front end of this user.

A kernelspec names a target and a kernel, nothing else: no URL and no key, because front ends hand
specs to every client. The rules behind each field are in docs/architecture.md; the strictest reader
is VS Code, which starts ``argv`` itself and hides what looks like a Python it does not know.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from clouditia.errors import ConfigError, RemoteProtocolError
from clouditia.settings import write_private
from clouditia.terminal_text import visible

__all__ = [
    "InstalledSpec",
    "SyncReport",
    "build_spec",
    "installed_specs",
    "kernel_argv",
    "kernels_dir",
    "remote_specs_of",
    "remove_specs",
    "short_title",
    "spec_name",
    "sync_specs",
    "write_spec",
]

PROVISIONER = "clouditia-provisioner"
ATTACH_PROVISIONER = "clouditia-attach-provisioner"
#: Front ends show them in launchers and menus; the names are Jupyter's.
LOGOS = ("logo-svg.svg", "logo-64x64.png", "logo-32x32.png")
_VALID_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
#: What a gateway may make appear in the user's menus.
MAX_SPECS = 200
_MAX_TITLE_CHARS = 120


@dataclass(frozen=True)
class InstalledSpec:
    """One kernelspec in the user's Jupyter folder that Clouditia wrote."""

    name: str
    target: str
    kernel: str
    display_name: str
    path: Path
    argv: tuple[str, ...]
    kernel_id: str | None = None  # of the running kernel that it joins

    @property
    def is_startable(self) -> bool:
        """Whether the program that it starts still exists."""
        return bool(self.argv) and Path(self.argv[0]).is_file()


@dataclass
class SyncReport:
    """What :func:`sync_specs` did: names of kernelspecs, and why some were left out."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def kernels_dir() -> Path:
    """The user's folder of kernelspecs, the one that every front end reads."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "kernels"


def spec_name(target: str, kernel: str) -> str:
    """Name of the kernelspec for ``kernel`` on ``target``."""
    return f"clouditia-{target}-{kernel}".lower()


def bridge_program() -> Path:
    """Absolute path of ``clouditia-kernel``.

    Raises:
        ConfigError: this installation has no such program.
    """
    name = "clouditia-kernel.exe" if os.name == "nt" else "clouditia-kernel"
    folders = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    user_scheme = sysconfig.get_preferred_scheme("user")
    folders.append(Path(sysconfig.get_path("scripts", user_scheme)))
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).absolute()
    found = shutil.which("clouditia-kernel")
    if found:
        return Path(found).absolute()
    raise ConfigError(
        f"the program {name} was not found beside {sys.executable}",
        hint="Install Clouditia with pip, so that its programs are written.",
    )


def kernel_argv(target: str, kernel: str, *, kernel_id: str | None = None) -> list[str]:
    """The command that serves a new ``kernel`` of ``target``, or a running one, to a front end."""
    joining = ["--attach", kernel_id] if kernel_id else []
    # VS Code fills in {connection_file} only, and only where it stands alone.
    ending = [*joining, "-f", "{connection_file}"]
    return [str(bridge_program()), "--target", target, "--kernel", kernel, *ending]


def build_spec(
    target: str,
    kernel: str,
    remote: dict[str, Any],
    *,
    display_name: str | None = None,
    provisioner: bool = True,
    kernel_id: str | None = None,
) -> dict[str, Any]:
    """The content of ``kernel.json``.

    Args:
        target: Name of the target.
        kernel: Name of the kernelspec on the gateway.
        remote: The gateway's own spec of that kernel.
        display_name: What menus show; default: the gateway's name and the target.
        provisioner: Whether jupyter_client shall use our provisioner; False for folders that a
            Python without Clouditia reads, which would hide the spec.
        kernel_id: A running kernel of that name, to be joined instead of starting a new one.
    """
    remote_metadata = remote.get("metadata")
    debugger = isinstance(remote_metadata, dict) and bool(remote_metadata.get("debugger"))
    metadata: dict[str, Any] = {
        "debugger": debugger,
        # The bridge accepts CurveZMQ on its local sockets where the front end wants it.
        "supported_encryption": "curve",
        "clouditia": {"target": target, "kernel": kernel, "managed": True},
    }
    if kernel_id:
        metadata["clouditia"]["kernel_id"] = kernel_id
    if provisioner:
        name = ATTACH_PROVISIONER if kernel_id else PROVISIONER
        metadata["kernel_provisioner"] = {"provisioner_name": name}
    return {
        "argv": kernel_argv(target, kernel, kernel_id=kernel_id),
        "display_name": display_name or f"{short_title(remote, kernel)} · {target}",
        "language": visible(remote.get("language") or "python", limit=_MAX_TITLE_CHARS),
        "interrupt_mode": "message",
        "metadata": metadata,
    }


def sync_specs(target: str, model: dict[str, Any], *, provisioner: bool = True) -> SyncReport:
    """Write a kernelspec for each kernel of a gateway and remove those that are gone.

    Args:
        target: Name of the target.
        model: The gateway's answer to ``GET /api/kernelspecs``.
        provisioner: See :func:`build_spec`.

    Raises:
        ConfigError: the folder cannot be written, or ``clouditia-kernel`` is missing.
    """
    remote_specs = remote_specs_of(model)
    titles = _unique_titles(target, remote_specs)
    report = SyncReport()
    wanted: set[str] = set()
    for kernel, remote in remote_specs.items():
        name = spec_name(target, kernel)
        wanted.add(name)
        spec = build_spec(
            target, kernel, remote, display_name=titles[kernel], provisioner=provisioner
        )
        write_spec(name, spec, report)
    stale = [
        spec
        for spec in installed_specs(target)
        if spec.name not in wanted and spec.kernel_id is None
    ]
    report.removed = remove_specs(stale)
    return report


def remote_specs_of(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Kernel name to spec, as far as the answer to ``GET /api/kernelspecs`` has the right form.

    Specs that Clouditia wrote are left out: a stock server of this user on this machine lists them
    among its own, and a target must not offer itself.
    """
    listed = model.get("kernelspecs")
    found: dict[str, dict[str, Any]] = {}
    for name, entry in (listed if isinstance(listed, dict) else {}).items():
        spec = entry.get("spec") if isinstance(entry, dict) else None
        if isinstance(spec, dict) and _identity(spec) is None:
            found[str(name)] = spec
    if len(found) > MAX_SPECS:
        raise RemoteProtocolError(
            f"the gateway offers {len(found)} kernels, at most {MAX_SPECS} are taken: each would "
            "become a folder of yours"
        )
    return found


def short_title(remote: dict[str, Any], kernel: str) -> str:
    """What a kernel is called on its gateway, without what ipykernel adds."""
    title = str(remote.get("display_name") or kernel).removesuffix(" (ipykernel)")
    return visible(title, limit=_MAX_TITLE_CHARS)


def _unique_titles(target: str, specs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """VS Code drops specs whose title repeats, so equal ones get the kernel's name."""
    short = {kernel: short_title(spec, kernel) for kernel, spec in specs.items()}
    times = Counter(short.values())
    return {
        kernel: f"{title} · {target}" if times[title] == 1 else f"{title} · {target} ({kernel})"
        for kernel, title in short.items()
    }


def write_spec(name: str, spec: dict[str, Any], report: SyncReport) -> None:
    """Write one kernelspec, and into ``report`` what became of it."""
    if not _VALID_NAME.fullmatch(name):
        report.skipped[name] = "Jupyter allows only letters, digits, '.', '_' and '-' in names"
        return
    path = kernels_dir() / name / "kernel.json"
    present = _read_json(path)
    if present is not None and _identity(present) != _identity(spec):
        report.skipped[name] = f"{path} exists and belongs to something else"
    elif not _write_logos(path.parent) and present == spec:
        report.unchanged.append(name)
    else:
        # A folder without kernel.json is no kernelspec, so it appears only when it is whole.
        write_private(path, json.dumps(spec, indent=1, ensure_ascii=False) + "\n")
        report.written.append(name)


def _write_logos(folder: Path) -> bool:
    """Put our mark beside a kernelspec; False if it is there already."""
    is_changed = False
    for name in LOGOS:
        image = resources.files("clouditia").joinpath("logos", name).read_bytes()
        path = folder / name
        if not path.is_file() or path.read_bytes() != image:
            write_private(path, image)
            is_changed = True
    return is_changed


def installed_specs(target: str | None = None) -> list[InstalledSpec]:
    """The kernelspecs that Clouditia wrote, by name.

    Args:
        target: Only those of this target.
    """
    folder = kernels_dir()
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        spec = _read_json(path / "kernel.json")
        identity = _identity(spec)
        if spec is None or identity is None or target not in (None, identity[0]):
            continue
        argv = spec.get("argv")
        found.append(
            InstalledSpec(
                name=path.name,
                target=identity[0],
                kernel=identity[1],
                display_name=str(spec.get("display_name")),
                path=path,
                argv=tuple(map(str, argv)) if isinstance(argv, list) else (),
                kernel_id=identity[2],
            )
        )
    return found


def remove_specs(specs: list[InstalledSpec]) -> list[str]:
    """Remove these kernelspecs; returns their names.

    Raises:
        ConfigError: a folder cannot be removed.
    """
    for spec in specs:
        try:
            # First the file that makes it a kernelspec: it vanishes at once.
            (spec.path / "kernel.json").unlink(missing_ok=True)
            shutil.rmtree(spec.path)
        except OSError as exc:
            raise ConfigError(
                f"the kernelspec {spec.path} cannot be removed: {exc.strerror}"
            ) from exc
    return [spec.name for spec in specs]


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``; an empty one stands for a file that is none of ours."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _identity(spec: dict[str, Any] | None) -> tuple[str, str, str | None] | None:
    """(target, kernel, id of the running kernel) of a spec that Clouditia manages."""
    metadata = (spec or {}).get("metadata")
    ours = metadata.get("clouditia") if isinstance(metadata, dict) else None
    if not isinstance(ours, dict) or ours.get("managed") is not True:
        return None
    kernel_id = ours.get("kernel_id")
    named = str(kernel_id) if kernel_id else None
    return str(ours.get("target")), str(ours.get("kernel")), named
