"""The checks of ``clouditia doctor``; each yields findings and raises nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal

from clouditia import __version__
from clouditia.embedded import running_gateway
from clouditia.errors import ClouditiaError
from clouditia.kernelspecs import installed_specs, kernels_dir, remote_specs_of, spec_name
from clouditia.rest import GatewayClient
from clouditia.settings import (
    EMBEDDED,
    ENVIRONMENT,
    Target,
    config_dir,
    list_targets,
    load_target,
    state_dir,
)

__all__ = ["Finding", "all_findings"]

Status = Literal["ok", "warn", "fail"]

#: Functions that take nothing and give findings as (subject, status, text, next step).
ENTRY_POINTS = "clouditia.checks"
_MAX_CLOCK_OFFSET_S = 60.0
_TIMEOUT_S = 10.0
#: Package and the major version from which on everything works.
_PACKAGES = (("jupyter_client", 8), ("pyzmq", 25), ("websockets", 14))


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    status: Status
    text: str
    next_step: str = ""


def all_findings() -> list[Finding]:
    """Run every check."""
    findings = [*_software(), *_machine(), *_folders()]
    targets, failures = _targets()
    findings += failures
    for target in targets:
        findings += _target(target)
    findings += _kernelspecs({target.name for target in targets})
    findings += _of_other_packages()
    return findings


def _of_other_packages() -> Iterator[Finding]:
    """Checks of packages that this one does not know, such as the gateway's."""
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            check: Callable[[], Iterator[tuple[str, Status, str, str]]] = entry_point.load()
            for found in check():
                yield Finding(*found)
        except ImportError:
            continue  # its package is installed without what it needs: no gateway runs here
        except Exception as exc:  # noqa: BLE001  (a border: what a check raises is its finding)
            yield Finding(entry_point.name, "fail", f"the check failed: {exc!r}")


def _software() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("clouditia", "ok", f"{__version__} on Python {python}, {sys.platform}")
    for package, major in _PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(package, "fail", "not installed", f"pip install {package}")
            continue
        if int(found.split(".")[0]) < major:
            yield Finding(
                package,
                "warn",
                f"{found}; some things need {major} or newer",
                f"pip install -U {package}",
            )
        else:
            yield Finding(package, "ok", found)
    if importlib.util.find_spec("websockets.speedups") is None:
        yield Finding(
            "websockets speed",
            "warn",
            "its C part is missing: large outputs arrive slowly",
            "reinstall websockets from a wheel for this platform",
        )


def _machine() -> Iterator[Finding]:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        yield Finding(
            "container",
            "warn",
            "this is a container: kernels of a gateway in it end with its PID 1",
            "keep the container running, and put state directories on a volume",
        )


def _folders() -> Iterator[Finding]:
    for subject, folder in (("configuration", config_dir()), ("state", state_dir())):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as exc:
            yield Finding(subject, "fail", f"{folder}: {exc.strerror}", "check who owns the folder")
        else:
            yield Finding(subject, "ok", str(folder))


def _targets() -> tuple[list[Target], list[Finding]]:
    targets: list[Target] = []
    failures: list[Finding] = []
    try:
        targets = list_targets()
        if os.environ.get("CLOUDITIA_GATEWAY"):
            targets.append(load_target(ENVIRONMENT))
        running = running_gateway()
        if running is not None:
            targets.append(running)
    except ClouditiaError as exc:
        failures.append(Finding("targets", "fail", exc.message, exc.hint))
    if not targets and not failures:
        failures.append(
            Finding("targets", "warn", "none is known", "clouditia login URL --name NAME")
        )
    return targets, failures


def _target(target: Target) -> Iterator[Finding]:
    subject = f"target {target.name}"
    try:
        client = GatewayClient(target, _TIMEOUT_S)
        answers = _stock_server(client) if target.kind == "plain" else _gateway(client)
        remote = remote_specs_of(client.kernelspecs())
        is_outgrown = target.kind == "plain" and client.find_kind() == "clouditia"
    except ClouditiaError as exc:
        yield Finding(subject, "fail", exc.message, exc.hint)
        return
    yield Finding(subject, "ok", f"{target.url} answers, {answers}")
    if is_outgrown:
        yield Finding(
            subject,
            "warn",
            "it is used as a stock server, but has become a Clouditia gateway",
            f"clouditia login {target.url} --name {target.name}",
        )
    offset = client.clock_offset_s
    if offset is not None and abs(offset) > _MAX_CLOCK_OFFSET_S:
        yield Finding(
            f"{subject}, clock",
            "warn",
            f"the gateway's clock differs from this one by {offset:+.0f} s",
            "set the clocks of both machines (NTP)",
        )
    yield from _staleness(target, list(remote))


def _gateway(client: GatewayClient) -> str:
    version = client.info().get("version")
    client.me()
    return f"version {version}, key good"


def _stock_server(client: GatewayClient) -> str:
    return f"a stock server ({client.stock_version()}): no resume, see docs/front-ends"


def _staleness(target: Target, kernels: list[str]) -> Iterator[Finding]:
    wanted = {spec_name(target.name, kernel) for kernel in kernels}
    present = {spec.name for spec in installed_specs(target.name)}
    if target.name in (EMBEDDED, ENVIRONMENT) and not present:
        return
    if wanted != present:
        yield Finding(
            f"target {target.name}, kernelspecs",
            "warn",
            f"{len(wanted - present)} missing, {len(present - wanted)} no longer on the gateway",
            f"clouditia kernelspec sync --target {target.name}",
        )


def _kernelspecs(targets: set[str]) -> Iterator[Finding]:
    specs = installed_specs()
    for spec in specs:
        if not spec.is_startable:
            yield Finding(
                f"kernelspec {spec.name}",
                "fail",
                f"its program {' '.join(spec.argv[:1])} is gone",
                f"clouditia kernelspec sync --target {spec.target}",
            )
        elif spec.target not in targets | {EMBEDDED}:
            yield Finding(
                f"kernelspec {spec.name}",
                "warn",
                f"its target {spec.target} is gone",
                f"clouditia kernelspec remove --name {spec.name}",
            )
    yield Finding("kernelspecs", "ok", f"{len(specs)} in {kernels_dir()}")
