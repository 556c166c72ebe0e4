"""``clouditia gateway start|stop``; the other two stand in ``commands/backup.py``."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clouditia.errors import (
    ConfigError,
    GatewayUnreachable,
    TimeoutError,
    error_from_wire,
)
from clouditia_gateway.commands.backup import add_backup, add_restore
from clouditia_gateway.config import (
    DEFAULT_CONNECTIONS_PER_ADDRESS,
    DEFAULT_KERNELS_PER_USER,
    GatewayConfig,
    default_state_dir,
    normal_base_url,
)
from clouditia_gateway.host.lifespan import Policy
from clouditia_gateway.state_dir import StateDir

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]  # noqa: SLF001  (argparse names it in no other way)

_STOP_TIMEOUT_S = 30.0
_DRAIN_TIMEOUT_S = 300.0
_POLL_S = 0.05


def command(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "gateway",
        help="start, stop, back up or restore a gateway on this machine",
        description="A gateway serves the kernels of this machine to its users.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_start(actions)
    _add_stop(actions)
    add_backup(actions)
    add_restore(actions)


def _add_start(actions: Subparsers) -> None:
    start = actions.add_parser(
        "start", help="run a gateway in the foreground; prints `ready URL` when it accepts"
    )
    start.add_argument("--host", default="127.0.0.1", help="address to listen on")
    start.add_argument(
        "--port", type=int, default=0, help="TCP port; 0 chooses one once and keeps it"
    )
    _add_state_dir(start)
    start.add_argument("--tls-cert", type=Path, help="PEM certificate chain; needed off loopback")
    start.add_argument("--tls-key", type=Path, help="PEM private key of the certificate")
    start.add_argument("--base-url", default="/", help="URL prefix")
    start.add_argument("--root-dir", type=Path, help="kernels start here or below; default: home")
    start.add_argument(
        "--simulate-gpus", default="", metavar="SPEC", help="such as 2xH100:80GiB; for trying out"
    )
    start.add_argument(
        "--kernels-per-user",
        type=int,
        default=DEFAULT_KERNELS_PER_USER,
        metavar="N",
        help="how many kernels one user may have (default: %(default)s)",
    )
    start.add_argument(
        "--connections-per-address",
        type=int,
        default=DEFAULT_CONNECTIONS_PER_ADDRESS,
        metavar="N",
        help="how many connections another machine may hold (default: %(default)s)",
    )
    _add_limits(start)
    start.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)
    start.set_defaults(run=_start)


def _add_limits(start: argparse.ArgumentParser) -> None:
    for name, text in (
        ("cull-idle-timeout", "end kernels that had no work and no client for so long"),
        ("detached-ttl", "the same for kernels that ask for no other time by KERNEL_DETACHED_TTL"),
        ("max-detached-ttl", "the longest time that a kernel may ask for"),
    ):
        start.add_argument(
            f"--{name}", type=float, default=0.0, metavar="SECONDS", help=f"{text}; 0: no limit"
        )
    start.add_argument(
        "--cull-connected",
        action="store_true",
        help="--cull-idle-timeout counts only work: a client that does nothing keeps no kernel",
    )


def _add_stop(actions: Subparsers) -> None:
    stop = actions.add_parser("stop", help="stop a gateway; its kernels run on unless --drain")
    stop.add_argument("--drain", action="store_true", help="end all its kernels first")
    _add_state_dir(stop)
    stop.set_defaults(run=_stop)


def _add_state_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", type=Path, help="directory of keys, database and kernels")


def _start(args: argparse.Namespace) -> int:
    config = GatewayConfig(
        state_dir=args.state_dir or default_state_dir(),
        host=args.host,
        port=args.port,
        base_url=normal_base_url(args.base_url),
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        simulate_gpus=args.simulate_gpus,
        is_embedded=args.embedded,
        root_dir=args.root_dir,
        kernels_per_user=args.kernels_per_user,
        connections_per_address=args.connections_per_address,
        limits=Policy(
            args.cull_idle_timeout, args.cull_connected, args.detached_ttl, args.max_detached_ttl
        ),
    )
    from clouditia_gateway.extension import run_gateway  # slow to import; --help is not

    run_gateway(config)
    return 0


def _stop(args: argparse.Namespace) -> int:
    state = StateDir(args.state_dir or default_state_dir())
    running = state.read_gateway_file()
    if running is None or not state.is_locked_by_another():
        raise ConfigError(
            f"no gateway runs on the state directory {state.path}",
            hint="--state-dir names another one.",
        )
    ended = _drain(state, running) if args.drain else None
    os.kill(running["pid"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    pause = Event()
    while state.is_locked_by_another():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the gateway (pid {running['pid']}) did not end within {_STOP_TIMEOUT_S:g} s"
            )
        pause.wait(_POLL_S)
    if args.json:
        print(json.dumps({"stopped": running["pid"], "ended_kernels": ended}))
    else:
        kernels = "its kernels run on" if ended is None else f"{ended} kernels ended"
        print(f"The gateway has stopped; {kernels}.", file=sys.stderr)
    return 0


def _drain(state: StateDir, running: dict[str, Any]) -> int:
    """Have the gateway end all kernels; returns how many."""
    try:
        key = state.admin_key.read_text("ascii").strip()
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"--drain needs the admin key in {state.admin_key}: {exc}",
            hint="Make a new one: clouditia keys create --user admin --admin, and put it there.",
        ) from exc
    url = urlsplit(running.get("host_url") or running["url"])
    connection = _connection(url.hostname or "", url.port, is_tls=url.scheme == "https")
    try:
        connection.request(
            "POST", f"{url.path}/clouditia/api/v1/drain", headers={"Authorization": f"Bearer {key}"}
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as exc:
        raise GatewayUnreachable(f"the gateway at {running['url']} does not answer: {exc}") from exc
    finally:
        connection.close()
    if response.status != 200:
        raise error_from_wire(answer)
    return int(answer["ended"])


def _connection(host: str, port: int | None, *, is_tls: bool) -> http.client.HTTPConnection:
    if not is_tls:
        return http.client.HTTPConnection(host, port, timeout=_DRAIN_TIMEOUT_S)
    # The pid in our own state directory holds this port: whose certificate it shows is no question.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_DRAIN_TIMEOUT_S, context=context)
