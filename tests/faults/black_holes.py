"""Links whose network goes silent in one direction or both, on an idle and on a busy kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.bare_link import BareLink, bare_link, remote_kernel
from tests.faults.storms import WAIT_S

from clouditia.rest import GatewayClient
from clouditia.settings import Target, load_target
from clouditia.testing.chaos import ChaosProxy, Direction, LineOracle, NumberedLines
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import log_in
from clouditia.testing.waiting import wait_until

DIRECTIONS: tuple[Direction, ...] = ("both", "up", "down")
#: Both sides of a silent connection have to give it up this soon.
NOTICED_S = 25.0
#: Many more lines than fit into the time; the last one waits for its file.
LINES = NumberedLines(1300, every_s=0.02, display=True, state="comm")


@dataclass
class Victim:
    """One link behind a network of its own.

    Attributes:
        link: The link.
        proxy: Its network.
        noticed_s: How long it took the link to give the silent connection up.
        resumed_s: From the heal to the first output, or on an idle kernel to being online.
    """

    link: BareLink
    proxy: ChaosProxy
    noticed_s: float = 0.0
    resumed_s: float = 0.0


@dataclass
class Silence:
    """A kernel, three victims, and what was measured.

    Attributes:
        is_busy: Whether a cell prints all the time.
        victims: By direction of the black hole.
        noticed_by_gateway_s: How long it took the other side to give all of them up.
        oracles: What the cell looks like to each victim, if there is one.
    """

    is_busy: bool
    victims: dict[Direction, Victim] = field(default_factory=dict)
    noticed_by_gateway_s: float = 0.0
    oracles: dict[Direction, LineOracle] = field(default_factory=dict)


def fall_silent(gateway: GatewayProcess, folder: Path, *, is_busy: bool) -> Silence:
    """Let three links fall silent at once, wait until both sides notice, heal, and see the end."""
    silence = Silence(is_busy)
    over = folder / f"silence-over-{is_busy}"
    lines = replace(LINES, until=str(over))
    target = load_target(log_in(gateway, name=f"s-{is_busy}".lower(), user="sam").name)
    rest = GatewayClient(target)
    with ExitStack() as stack:
        kernel_id = stack.enter_context(remote_kernel(target))
        direct = stack.enter_context(bare_link(target, kernel_id))
        for direction in DIRECTIONS:
            silence.victims[direction] = stack.enter_context(_victim(target, kernel_id))
        msg_id = direct.execute(lines.code if is_busy else "pass")
        if is_busy:
            wait_until(lambda: direct.arrivals, WAIT_S, what="lines")
        else:
            direct.wait_done(msg_id)
        connections = _connections(rest, kernel_id, len(DIRECTIONS) + 1)
        began = time.monotonic()
        for direction, victim in silence.victims.items():
            victim.proxy.black_hole(direction)
        wait_until(lambda: _connections(rest, kernel_id) == 1, WAIT_S, what="the gateway noticed")
        silence.noticed_by_gateway_s = time.monotonic() - began
        assert connections == len(DIRECTIONS) + 1
        for victim in silence.victims.values():
            _heal(victim, began)
        over.touch()
        for direction, victim in silence.victims.items():
            if is_busy:
                victim.link.wait_done(msg_id)
                silence.oracles[direction] = victim.link.judge(lines, msg_id)
            else:
                assert victim.link.run("print('still here')") == "still here\n"
    return silence


@contextmanager
def _victim(target: Target, kernel_id: str) -> Iterator[Victim]:
    address = urlsplit(target.url)
    with ChaosProxy(str(address.hostname), int(address.port or 0)) as proxy:
        behind = replace(target, url=f"http://{proxy.host}:{proxy.port}")
        with bare_link(behind, kernel_id) as link:
            yield Victim(link, proxy)
            proxy.heal()


def _connections(rest: GatewayClient, kernel_id: str, wanted: int | None = None) -> int:
    def found() -> int:
        return int(rest.get_kernel(kernel_id)["connections"])

    if wanted is not None:
        wait_until(lambda: found() == wanted, WAIT_S, what=f"{wanted} connections")
    return found()


def _heal(victim: Victim, began: float) -> None:
    wait_until(lambda: victim.link.downs, WAIT_S, what="the client noticed")
    victim.noticed_s = victim.link.downs[0] - began
    ups, healed = len(victim.link.ups), time.monotonic()
    lines = len(victim.link.arrivals)
    is_busy = bool(lines)
    victim.proxy.heal()
    wait_until(
        lambda: victim.link.arrivals[lines:] if is_busy else victim.link.ups[ups:],
        WAIT_S,
        what="it goes on",
        interval_s=0.005,
    )
    came = victim.link.arrivals[lines] if is_busy else victim.link.ups[ups]
    victim.resumed_s = came - healed
