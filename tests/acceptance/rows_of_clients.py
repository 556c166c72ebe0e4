"""Rows about keys and addresses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.cells import front_end

from clouditia.errors import AuthenticationError
from clouditia.rest import GatewayClient
from clouditia.settings import ENVIRONMENT, Target, load_target
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.targets import log_in

if TYPE_CHECKING:
    from collections.abc import Callable

UNKNOWN_KEY = "ck_0123456789abcdef_" + "A" * 43


def keys_start_with_ck_or_sk(gateway: GatewayProcess) -> None:
    user_key = gateway.create_key("ada")
    admin_key = gateway.create_key("root", admin=True)
    assert (user_key[:3], admin_key[:3]) == ("ck_", "sk_")
    for key in (user_key, admin_key):
        assert GatewayClient(Target("lab", gateway.url), key=key).kernelspecs()
    with pytest.raises(AuthenticationError):
        GatewayClient(Target("lab", gateway.url), key="xx" + user_key[2:]).kernelspecs()


def a_gateway_under_a_path(gateway: GatewayProcess) -> None:
    prefixed = GatewayProcess(
        gateway.home, state_dir=gateway.home.directory / "p", options=("--base-url", "/prefix/")
    )
    with prefixed:
        assert prefixed.url.rstrip("/").endswith("/prefix")
        with front_end(log_in(prefixed, name="prefixed").kernel_name()) as notebook:
            assert notebook.run("6 * 7").result == "42"


def the_key_from_the_environment(gateway: GatewayProcess) -> None:
    os.environ["CLOUDITIA_GATEWAY"] = gateway.url  # the isolated home restores both
    os.environ["CLOUDITIA_API_KEY"] = gateway.create_key("grace")
    client = GatewayClient(load_target(ENVIRONMENT))
    assert "grace" in str(client.me())
    kernel = client.start_kernel("python3", env={}, path="")
    assert [found["id"] for found in client.list_kernels()] == [kernel["id"]]


def an_unknown_key_is_refused(gateway: GatewayProcess) -> None:
    with pytest.raises(AuthenticationError) as refusal:
        GatewayClient(Target("lab", gateway.url), key=UNKNOWN_KEY).kernelspecs()
    assert refusal.value.exit_code == 3
    key_file = gateway.home.directory / "wrong.key"
    key_file.write_text(UNKNOWN_KEY)
    key_file.chmod(0o600)
    with pytest.raises(RuntimeError, match="ended with 3"):
        gateway.run("login", gateway.url, "--name", "lab", "--key-file", str(key_file))
    assert not list(gateway.home.jupyter_data_dir.glob("kernels/clouditia-*"))
    assert not list(gateway.home.config_dir.glob("targets/*"))


CHECKS: dict[str, Callable[[GatewayProcess], None]] = {
    "C6": keys_start_with_ck_or_sk,
    "C8": a_gateway_under_a_path,
    "C11": the_key_from_the_environment,
    "C17": an_unknown_key_is_refused,
}
