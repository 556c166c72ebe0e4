"""The environment of a kernel: an allow-list of the gateway's, the kernelspec's, the request's.

Never the gateway's whole environment, which may hold secrets. A request may not set what decides
which programs or libraries are loaded, which devices are seen, or who the user is.
"""

from __future__ import annotations

import re
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from clouditia.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Taken from the gateway's own environment where set.
INHERITED = frozenset(
    ("PATH", "HOME", "LANG", "TZ", "USER", "SHELL", "VIRTUAL_ENV", "CONDA_PREFIX")
)
#: Unless the kernelspec or the request says otherwise. A kernel's first words reach every client
#: here, where a local front end comes too late to see them: debugpy's are of no use to anybody.
DEFAULTS = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
#: Never taken from a request.
FORBIDDEN = INHERITED | {
    "BASH_ENV",
    "ENV",
    "IFS",
    "IPYTHONDIR",
    "JPY_PARENT_PID",
    "JPY_API_TOKEN",
    "KERNEL_USERNAME",
    "LOGNAME",
    "PWD",
    "SHELLOPTS",
}
FORBIDDEN_PREFIXES = (
    "CLOUDITIA_",
    "CUDA_",
    "DYLD_",
    "GCONV_",
    "HIP_",
    "JUPYTER_",
    "LD_",
    "MALLOC_",
    "NVIDIA_",
    "PYTHON",
    "ROCR_",
    "XDG_",
)
#: Although the rule above would drop them: they change formats, nothing else.
ALLOWED = frozenset(
    ("TZ", "LANG", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONWARNINGS", "CUDA_LAUNCH_BLOCKING")
)

MAX_VARIABLES = 256
MAX_VALUE_CHARS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class KernelEnv(NamedTuple):
    """A complete environment, and which names of the request were not taken over."""

    variables: dict[str, str]
    ignored: tuple[str, ...]


def build_env(
    gateway: Mapping[str, str], spec: Mapping[str, str], request: Mapping[str, str], *, user: str
) -> KernelEnv:
    """The environment of a new kernel.

    Args:
        gateway: The gateway's own environment; only :data:`INHERITED` and ``LC_*`` are used.
        spec: ``env`` of the kernelspec; ``${NAME}`` stands for an inherited variable.
        request: ``env`` of the request body, checked by :func:`checked_request_env`.
        user: Owner of the kernel, shown to it as ``KERNEL_USERNAME``.
    """
    inherited = {
        name: value
        for name, value in gateway.items()
        if name in INHERITED or name.startswith("LC_")
    }
    variables = DEFAULTS | inherited
    for name, value in spec.items():
        variables[name] = Template(value).safe_substitute(inherited)
    ignored = tuple(sorted(name for name in request if not is_allowed(name)))
    variables.update((name, value) for name, value in request.items() if is_allowed(name))
    variables["KERNEL_USERNAME"] = user
    return KernelEnv(variables, ignored)


def is_allowed(name: str) -> bool:
    """Whether a request may set this variable."""
    if name in ALLOWED or name.startswith("LC_"):
        return True
    upper = name.upper()
    return upper not in FORBIDDEN and not upper.startswith(FORBIDDEN_PREFIXES)


def checked_request_env(env: object) -> dict[str, str]:
    """The ``env`` of a request body as a dictionary.

    Raises:
        ConfigError: it is no object of strings, a name is no variable name, a value is too long
            or holds a NUL, or there are too many.
    """
    if env is None:
        return {}
    if not isinstance(env, dict):
        raise ConfigError(f"env must be an object of strings, got {type(env).__name__}")
    if len(env) > MAX_VARIABLES:
        raise ConfigError(f"env has {len(env)} variables, at most {MAX_VARIABLES} are possible")
    for name, value in env.items():
        _check_variable(name, value)
    return dict(env)


def _check_variable(name: str, value: object) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"env: {name[:80]!r} is not a variable name")
    if not isinstance(value, str):
        raise ConfigError(f"env: {name} must be a string, got {type(value).__name__}")
    if len(value) > MAX_VALUE_CHARS:
        raise ConfigError(
            f"env: {name} has {len(value)} characters, at most {MAX_VALUE_CHARS} are possible"
        )
    if "\0" in value:
        raise ConfigError(f"env: {name} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"env: {name} is not valid Unicode") from None
