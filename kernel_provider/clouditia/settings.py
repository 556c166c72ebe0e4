"""Targets: which gateways this user knows, and where their keys lie.

One JSON file per target in ``<config>/targets``, its key in a file of its own in ``<config>/keys``,
both readable by the user only. A target file holds no key, a kernelspec holds neither.

====================== =====================================================================
environment variable   meaning
====================== =====================================================================
CLOUDITIA_CONFIG_DIR   folder of targets and keys; default: the user's configuration folder
CLOUDITIA_STATE_DIR    folder of state (embedded gateway); default: the user's state folder
CLOUDITIA_GATEWAY      URL of the unnamed target ``env``
CLOUDITIA_API_KEY      key of ``env``, and of saved targets that have no key file
====================== =====================================================================
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

from clouditia import atomic_files
from clouditia.errors import AuthenticationError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "EMBEDDED",
    "ENVIRONMENT",
    "KEY_PREFIXES",
    "Kind",
    "Target",
    "authorization",
    "check_key",
    "check_target_name",
    "config_dir",
    "list_targets",
    "load_target",
    "normalize_url",
    "read_key_file",
    "remove_target",
    "save_target",
    "state_dir",
    "store_key",
    "write_private",
]

Kind = Literal["clouditia", "plain"]
OnClose = Literal["shutdown", "detach"]

#: The gateway that Clouditia starts on this machine when it is needed.
EMBEDDED = "embedded"
#: The target made of ``CLOUDITIA_GATEWAY`` and ``CLOUDITIA_API_KEY``.
ENVIRONMENT = "env"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: How keys of Clouditia gateways begin: users' and admins'.
KEY_PREFIXES = ("ck_", "sk_")
_MAX_KEY_FILE_BYTES = 4096


def config_dir() -> Path:
    """Folder of targets and keys."""
    given = os.environ.get("CLOUDITIA_CONFIG_DIR")
    if given:
        return Path(given).expanduser()
    import platformdirs  # not needed by most starts of the bridge

    return platformdirs.user_config_path("clouditia", appauthor=False)


def state_dir() -> Path:
    """Folder of state that can be lost without losing access to anything."""
    given = os.environ.get("CLOUDITIA_STATE_DIR")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return platformdirs.user_state_path("clouditia", appauthor=False)


@dataclass(frozen=True)
class Target:
    """One gateway as this user knows it.

    Attributes:
        name: How kernelspecs and commands call it; lower case.
        url: ``http(s)://host[:port][/prefix]``, without a slash at the end.
        key_file: File with the API key; None means ``CLOUDITIA_API_KEY``.
        ca_file: PEM file of the only authorities to trust; default: the system's.
        pin: SHA-256 of the only certificate to trust.
        kind: ``clouditia``, or ``plain`` for a stock Jupyter server or Enterprise Gateway; found
            out at login and never changed by what a server says later.
        on_close: What SIGTERM to a bridge means: end the kernel, or let go of it.
    """

    name: str
    url: str
    key_file: Path | None = None
    ca_file: Path | None = None
    pin: str | None = None
    kind: Kind = "clouditia"
    on_close: OnClose = "shutdown"

    def __post_init__(self) -> None:
        """Check every field, so that no wrong target exists.

        Raises:
            ConfigError: a field is wrong.
        """
        object.__setattr__(self, "name", check_target_name(self.name))
        object.__setattr__(self, "url", normalize_url(self.url))
        for field, allowed in (("kind", get_args(Kind)), ("on_close", get_args(OnClose))):
            if getattr(self, field) not in allowed:
                raise ConfigError(
                    f"{field} of target {self.name!r} must be one of {', '.join(allowed)}, "
                    f"not {getattr(self, field)!r}"
                )

    def read_key(self) -> str:
        """The API key of this target; of a stock server its token, empty where it wants none.

        Raises:
            AuthenticationError: there is no key, or it is none of ours.
            ConfigError: the key file cannot be read, or everybody can read it.
        """
        if self.key_file is not None:
            return read_key_file(self.key_file, kind=self.kind)
        if self.kind == "plain":
            return ""
        key = os.environ.get("CLOUDITIA_API_KEY", "")
        if not key:
            raise AuthenticationError(
                f"there is no key for target {self.name!r}: it has no key file and "
                "CLOUDITIA_API_KEY is not set",
                hint="Set CLOUDITIA_API_KEY, or run: clouditia login URL --name NAME",
            )
        return check_key(key, "CLOUDITIA_API_KEY")

    def authorization(self) -> dict[str, str]:
        """The request header that carries the key; none where there is no key. Errors as above."""
        return authorization(self.read_key())


def authorization(key: str) -> dict[str, str]:
    """The request header that carries ``key``."""
    # "token" is the word that every Jupyter server of the last ten years understands.
    return {"Authorization": f"token {key}"} if key else {}


# --- names, URLs, keys --------------------------------------------------------------------------


def check_target_name(name: str) -> str:
    """The name in lower case.

    Raises:
        ConfigError: it is no name for a target.
    """
    lowered = name.lower()
    if not _NAME.fullmatch(lowered):
        raise ConfigError(
            f"{name!r} is no name for a target: 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return lowered


def normalize_url(url: str) -> str:
    """``url`` without slashes at its end.

    Raises:
        ConfigError: it is not ``http(s)://host[:port][/prefix]``.
    """
    try:
        parts = urlsplit(url.strip())
        port_is_possible = parts.port != 0
    except ValueError:
        parts, port_is_possible = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_possible:
        raise ConfigError(
            f"{_without_secrets(url)!r} is not the URL of a gateway",
            hint="It looks like https://host:port or https://host/prefix.",
        )
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"the URL {_without_secrets(url)!r} carries more than an address",
            hint="Leave out '?token=…' and 'user:password@': keys come from a file, "
            "CLOUDITIA_API_KEY or a prompt.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", re.split(r"[?#]", url, maxsplit=1)[0])


def check_key(key: str, source: str, *, kind: Kind = "clouditia") -> str:
    """The key without blanks around it.

    Args:
        key: What was read.
        source: Where it was read, for the message; the key itself is never shown.
        kind: A stock server's token has any beginning.

    Raises:
        AuthenticationError: it is not one printable word that starts with ``ck_`` or ``sk_``.
    """
    key = key.strip()
    if kind == "plain":
        if not re.fullmatch(r"[!-~]+", key):
            raise AuthenticationError(f"the token from {source} is not one printable word")
        return key
    if not key.startswith(KEY_PREFIXES) or not re.fullmatch(r"[!-~]+", key):
        raise AuthenticationError(
            f"the key from {source} is no Clouditia key: keys start with ck_ (users) or "
            "sk_ (admins)",
            hint="Ask the gateway's admin for one: clouditia keys create --user NAME",
        )
    return key


def read_key_file(path: Path, *, kind: Kind = "clouditia") -> str:
    """The key in ``path``.

    Args:
        path: The file.
        kind: See :func:`check_key`.

    Raises:
        AuthenticationError: its content is no key.
        ConfigError: it cannot be read, or other users of this machine can read it.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                raise ConfigError(
                    f"the key file {path} is open to every user of this machine",
                    hint=f"Close it with: chmod 600 {path}",
                )
            content = file.read(_MAX_KEY_FILE_BYTES)
    except OSError as exc:
        raise ConfigError(f"the key file {path} cannot be read: {exc.strerror}") from exc
    return check_key(content.decode("ascii", "replace"), f"the file {path}", kind=kind)


def store_key(name: str, key: str, *, kind: Kind = "clouditia") -> Path:
    """Keep ``key`` as the one of target ``name``; returns the file (0600)."""
    path = config_dir() / "keys" / f"{check_target_name(name)}.key"
    write_private(path, check_key(key, "login", kind=kind) + "\n")
    return path


# --- target files -------------------------------------------------------------------------------


def load_target(name: str) -> Target:
    """The saved target ``name``, or the one that the environment defines (``env``).

    Raises:
        ConfigError: there is no such target, or its file is damaged.
    """
    name = check_target_name(name)
    if name == ENVIRONMENT:
        return _target_from_environment()
    path = _target_file(name)
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(target.name for target in list_targets()) or "none"
        raise ConfigError(
            f"there is no target {name!r} (known: {known}; {EMBEDDED} always exists)",
            hint=f"Add it with: clouditia login URL --name {name}",
        ) from None
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"the target file {path} cannot be read: {exc}") from exc
    return _target_from_fields(name, fields, path)


def _target_from_environment() -> Target:
    url = os.environ.get("CLOUDITIA_GATEWAY", "")
    if not url:
        raise ConfigError(
            f"the target {ENVIRONMENT!r} needs the environment variable CLOUDITIA_GATEWAY",
            hint="Set it to the gateway's URL, and CLOUDITIA_API_KEY to your key.",
        )
    return Target(ENVIRONMENT, url)


def _target_from_fields(name: str, fields: object, path: Path) -> Target:
    if not isinstance(fields, dict) or not isinstance(fields.get("url"), str):
        raise ConfigError(f"the target file {path} is damaged: it must be an object with a 'url'")
    known = {field.name for field in dataclasses.fields(Target)} - {"name"}
    values = {key: value for key, value in fields.items() if key in known and value is not None}
    if not all(isinstance(value, str) for value in values.values()):
        raise ConfigError(f"the target file {path} is damaged: every value must be a string")
    for key in ("key_file", "ca_file"):
        if key in values:
            values[key] = Path(values[key])
    return Target(name, **values)


def save_target(target: Target) -> Path:
    """Write the target's file, replacing an older one at once or not at all.

    Raises:
        ConfigError: the name is reserved, or the folder cannot be written.
    """
    if target.name in (EMBEDDED, ENVIRONMENT):
        raise ConfigError(f"the name {target.name!r} is reserved", hint="Choose another --name.")
    fields = {
        key: str(value)
        for key, value in dataclasses.asdict(target).items()
        if value is not None and key != "name"
    }
    path = _target_file(target.name)
    write_private(path, json.dumps(fields, indent=2) + "\n")
    return path


def list_targets() -> list[Target]:
    """All saved targets, by name.

    Raises:
        ConfigError: one of the files is damaged.
    """
    folder = config_dir() / "targets"
    if not folder.is_dir():
        return []
    names = sorted(path.stem for path in folder.glob("*.json"))
    return [load_target(name) for name in names]


def remove_target(name: str) -> None:
    """Forget the target and the key that was stored for it.

    Raises:
        ConfigError: there is no such target.
    """
    name = check_target_name(name)
    try:
        _target_file(name).unlink()
    except FileNotFoundError:
        raise ConfigError(f"there is no target {name!r}") from None
    (config_dir() / "keys" / f"{name}.key").unlink(missing_ok=True)


def _target_file(name: str) -> Path:
    return config_dir() / "targets" / f"{name}.json"


# --- private files ------------------------------------------------------------------------------


def write_private(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``, for this user only, at once or not at all.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    with _reported(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_files.write_private(path, content)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"{path} cannot be written: {exc.strerror}",
            hint="Check who owns the folder and how much space is left.",
        ) from exc
