"""Rows about who may do what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from clouditia.errors import KernelNotFound, PermissionDeniedError
from clouditia.rest import GatewayClient
from clouditia.settings import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from clouditia.testing.gateway_process import GatewayProcess


def scoped_keys_isolation_and_audit(gateway: GatewayProcess) -> None:
    state = ("--state-dir", str(gateway.state_dir))
    lab = Target("lab", gateway.url)
    reading = gateway.run("keys", "create", "--user", "ada", "--read-only", *state).strip()
    ada, bob, look, admin = (
        GatewayClient(lab, key=key)
        for key in (
            gateway.create_key("ada"),
            gateway.create_key("bob"),
            reading,
            gateway.admin_key,
        )
    )
    kernel_id = ada.start_kernel("python3", env={}, path="")["id"]
    assert bob.list_kernels() == []
    for forbidden in (bob.get_kernel, bob.interrupt, bob.restart, bob.shutdown):
        with pytest.raises(KernelNotFound):
            forbidden(kernel_id)
    assert [kernel["id"] for kernel in look.list_kernels()] == [kernel_id]
    for refused in (look.interrupt, look.restart, look.shutdown):
        with pytest.raises(PermissionDeniedError):
            refused(kernel_id)
    assert [kernel["id"] for kernel in admin.list_kernels()] == [kernel_id]
    ada.shutdown(kernel_id)

    log = gateway.state_dir / "audit.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    names = [(event["event"], event.get("user")) for event in events]
    for expected in (
        ("kernel_started", "ada"),
        ("permission_refused", "bob"),
        ("permission_refused", "ada"),
        ("kernel_ended", "ada"),
    ):
        assert expected in names
    assert "are as they were written" in gateway.run("audit", "verify", *state)
    before = log.read_text()
    log.write_text(before.replace('"user":"bob"', '"user":"eve"', 1))
    with pytest.raises(RuntimeError, match="ended with 1"):
        gateway.run("audit", "verify", *state)
    log.write_text(before)


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {"G38": scoped_keys_isolation_and_audit}
