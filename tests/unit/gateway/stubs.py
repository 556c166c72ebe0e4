"""An engine and a hub that do what a test tells them, and a registry over a real store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clouditia.errors import GatewayUnreachable, LaunchTimeout
from clouditia_gateway.config import GatewayConfig
from clouditia_gateway.engines.base import HostHealth, HostRef, HostSpec, HostStatus
from clouditia_gateway.kernelspecs import KernelSpecs
from clouditia_gateway.launcher import HostLauncher
from clouditia_gateway.records import HostState, KernelRecord, Principal
from clouditia_gateway.registry import KernelRegistry
from clouditia_gateway.sessions import SessionRegistry
from clouditia_gateway.state_dir import StateDir
from clouditia_gateway.store import Store
from clouditia_gateway.undertaker import Undertaker

ADA = Principal("ada", "a" * 12)
BOB = Principal("bob", "b" * 12)
ROOT = Principal("root", "c" * 12, is_admin=True)


class StubEngine:
    """Hosts are names of directories; a test kills them by hand."""

    def __init__(self) -> None:
        self.launched: list[HostSpec] = []
        self.alive: set[str] = set()
        self.stopped: list[str] = []
        self.refuses: Exception | None = None

    async def launch(self, spec: HostSpec) -> HostRef:
        if self.refuses is not None:
            raise self.refuses
        self.launched.append(spec)
        self.alive.add(spec.directory.name)
        return HostRef(spec.directory, f'{{"launch": {len(self.launched)}}}')

    async def status(self, ref: HostRef) -> HostStatus:
        if ref.directory.name in self.alive:
            return HostStatus(HostHealth.ALIVE)
        return HostStatus(HostHealth.DEAD, "the kernel host died")

    async def stop(self, ref: HostRef) -> None:
        self.stopped.append(ref.directory.name)
        self.alive.discard(ref.directory.name)


class StubHub:
    """Hosts are connected when the test says so; each request is written down."""

    def __init__(self, engine: StubEngine) -> None:
        self.engine = engine
        self.connected: dict[str, str] = {}
        self.connects_at_once: KernelRegistry | None = None
        self.requests: list[tuple[str, str]] = []

    def connect(self, registry: KernelRegistry, record: KernelRecord, **state: Any) -> None:
        self.connected[record.kernel_id] = Path(record.directory).name
        registry.host_connected(record.kernel_id, HostState(**{"epoch": 1, **state}))

    def disconnect(self, registry: KernelRegistry, record: KernelRecord) -> None:
        self.connected.pop(record.kernel_id, None)
        registry.host_lost(record.kernel_id)

    def is_connected(self, kernel_id: str) -> bool:
        return kernel_id in self.connected

    async def wait_connected(self, kernel_id: str, timeout_s: float) -> None:
        if kernel_id in self.connected:
            return
        if self.connects_at_once is None:
            raise LaunchTimeout(f"not within {timeout_s} s")
        self.connected[kernel_id] = ""
        self.connects_at_once.host_connected(kernel_id, HostState(epoch=1))

    async def request(
        self, kernel_id: str, method: str, params: Mapping[str, Any], *, timeout_s: float
    ) -> dict[str, Any]:
        if kernel_id not in self.connected:
            raise GatewayUnreachable("away")
        self.requests.append((kernel_id, method))
        if method == "shutdown":
            self.engine.alive.discard(self.connected.pop(kernel_id))
        return {}

    def forget(self, kernel_id: str) -> None:
        self.connected.pop(kernel_id, None)


class Site:
    """A registry and sessions over a real store, with the stubs."""

    def __init__(self, directory: Path, *, kernels_per_user: int = 5) -> None:
        self.state = StateDir(directory / "state")
        self.state.prepare()
        self.root = directory / "root"
        self.root.mkdir(exist_ok=True)
        self.kernels_per_user = kernels_per_user
        self.engine = StubEngine()
        self.open()

    def open(self) -> None:
        """As a gateway does at its start; again for the next gateway on the same directory."""
        self.store = Store(self.state.database)
        self.hub = StubHub(self.engine)
        launcher = HostLauncher(
            engine=self.engine,
            store=self.store,
            state=self.state,
            specs=KernelSpecs(),
            config=GatewayConfig(self.state.path, root_dir=self.root),
            environment={"PATH": "/usr/bin:/bin", "AWS_SECRET": "canary", "HOME": "/h"},
        )
        self.registry = KernelRegistry(
            store=self.store,
            hub=self.hub,  # type: ignore[arg-type]  # as much of a hub as the registry uses
            launcher=launcher,
            undertaker=Undertaker(self.store, self.hub, self.engine),  # type: ignore[arg-type]  # likewise
            kernels_per_user=self.kernels_per_user,
        )
        self.sessions = SessionRegistry(self.store, self.registry)

    async def start(self) -> KernelRecord:
        """A kernel of ada's whose host is connected."""
        record = await self.registry.start_kernel(ADA)
        self.hub.connect(self.registry, record, execution_state="idle")
        return record

    async def aclose(self) -> None:
        await self.registry.aclose()
        self.store.close()
