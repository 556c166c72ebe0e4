"""Where a kernel starts: the folder of its notebook, but never outside the gateway's root."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from clouditia.errors import ConfigError, PathNotAllowed

_MAX_PATH_CHARS = 4096


def checked_path(path: object) -> str:
    """A path of a request in normal form: relative, with ``/``, no empty part.

    Raises:
        ConfigError: it is no string, too long, or holds a NUL or broken Unicode.
        PathNotAllowed: a part is ``..``.
    """
    if path is None:
        return ""
    if not isinstance(path, str):
        raise ConfigError(f"path must be a string, got {type(path).__name__}")
    if len(path) > _MAX_PATH_CHARS:
        raise ConfigError(
            f"path has {len(path)} characters, at most {_MAX_PATH_CHARS} are possible"
        )
    if "\0" in path or not _is_unicode(path):
        raise ConfigError("path holds a NUL character or broken Unicode")
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PathNotAllowed(
            "path may not hold '..'", hint="Kernels start in the gateway's root or below it."
        )
    return "/".join(parts)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def working_directory(root: Path, path: str) -> Path:
    """The deepest existing folder of ``path`` below ``root``.

    A laptop's notebook folder often does not exist on the gateway; then the kernel starts in what
    does. Links are followed first and may not lead out.

    Args:
        root: The gateway's root directory.
        path: As :func:`checked_path` returned it.

    Raises:
        PathNotAllowed: a link on the way leads out of the root.
        ConfigError: the root itself does not exist.
    """
    real_root = root.resolve()
    if not real_root.is_dir():
        raise ConfigError("the gateway's root directory for kernels does not exist")
    for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
        candidate = (real_root / folder).resolve()
        if not candidate.is_relative_to(real_root):
            raise PathNotAllowed(f"{path!r} leads out of the gateway's root directory")
        if candidate.is_dir():
            return candidate
    return real_root
