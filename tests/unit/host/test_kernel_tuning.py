"""Which kernels are changed at their start, and that the change fails silently."""

from __future__ import annotations

from clouditia_gateway.host.kernel_tuning import tuning_request


def test_only_ipython_is_asked() -> None:
    assert tuning_request({"implementation": "PySpark", "language": "python"}) is None
    assert tuning_request({}) is None


def test_the_request_leaves_no_name_and_no_history_and_survives_a_kernel_without_the_socket() -> (
    None
):
    content = tuning_request({"implementation": "ipython"})
    assert content is not None
    assert content["silent"]
    assert not content["store_history"]
    names: dict[str, object] = {}
    exec(str(content["code"]), names)  # no kernel here
    assert set(names) == {"__builtins__"}
