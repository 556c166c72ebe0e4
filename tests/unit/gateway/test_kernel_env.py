from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouditia.errors import ConfigError
from clouditia_gateway.kernel_env import (
    MAX_VALUE_CHARS,
    MAX_VARIABLES,
    build_env,
    checked_request_env,
    is_allowed,
)

GATEWAY = {"PATH": "/bin", "HOME": "/home/g", "LC_ALL": "C", "AWS_SECRET": "canary", "FOO": "x"}


def test_only_the_allow_list_of_the_gateways_environment_reaches_a_kernel() -> None:
    built = build_env(GATEWAY, {}, {}, user="ada")
    assert built.variables == {
        "PATH": "/bin",
        "HOME": "/home/g",
        "LC_ALL": "C",
        "KERNEL_USERNAME": "ada",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def test_the_request_beats_the_spec_which_beats_the_gateway() -> None:
    built = build_env(GATEWAY, {"LANG": "spec", "A": "spec"}, {"A": "request"}, user="ada")
    assert built.variables["A"] == "request"
    assert built.variables["LANG"] == "spec"


def test_a_spec_may_extend_inherited_variables_but_not_read_others() -> None:
    spec = {"PATH": "/opt/bin:${PATH}", "LEAK": "${AWS_SECRET}"}
    variables = build_env(GATEWAY, spec, {}, user="ada").variables
    assert variables["PATH"] == "/opt/bin:/bin"
    assert variables["LEAK"] == "${AWS_SECRET}"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONSTARTUP",
        "PYTHONHOME", "PATH", "HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "KERNEL_USERNAME", "CLOUDITIA_API_KEY",
        "JPY_PARENT_PID", "BASH_ENV", "ld_preload",
    ],
)  # fmt: skip
def test_a_request_cannot_set_what_steers_loading_devices_or_identity(name: str) -> None:
    built = build_env(GATEWAY, {}, {name: "evil", "MINE": "ok"}, user="ada")
    assert "evil" not in built.variables.values()
    assert built.ignored == (name,)
    assert built.variables["MINE"] == "ok"


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), st.text()))
def test_whatever_is_asked_nothing_of_the_gateway_changes_except_by_the_rule(
    request: dict[str, str],
) -> None:
    built = build_env(GATEWAY, {}, request, user="ada")
    assert built.variables["KERNEL_USERNAME"] == "ada"
    assert built.variables["PATH"] == "/bin"
    for name, value in request.items():
        assert (built.variables.get(name) == value) or not is_allowed(name)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ([], "object of strings"),
        ({"A": 1}, "A must be a string, got int"),
        ({"A": None}, "A must be a string"),
        ({"A=B": "x"}, "not a variable name"),
        ({"": "x"}, "not a variable name"),
        ({"A": "x" * (MAX_VALUE_CHARS + 1)}, "4097 characters, at most 4096"),
        ({"A": "x\0y"}, "NUL"),
        ({"A": "\ud800"}, "Unicode"),
        ({f"A{i}": "" for i in range(MAX_VARIABLES + 1)}, "257 variables, at most 256"),
    ],
)
def test_a_bad_env_is_refused_with_its_reason(env: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_request_env(env)


def test_the_longest_value_passes() -> None:
    assert checked_request_env({"A": "x" * MAX_VALUE_CHARS})
    assert checked_request_env(None) == {}
