"""Make the environments of other people's gateways and kernels that the peer tests talk to.

``peers.py FOLDER`` makes below FOLDER: ``eg``, Enterprise Gateway 3.3 with the old clients that it
pins; ``ipykernel6`` and ``ipykernel7``, one kernel each; ``jupyter``, a ``JUPYTER_PATH`` with a
kernelspec for both. None of them may share an environment with Clouditia's own. Each folder has a
stamp of its pins and is made again only when they change.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

STAMP = "stamp.txt"


@dataclass(frozen=True)
class Peer:
    """One environment: its folder, its pins, and what a person wants to know before a download."""

    folder: str
    pins: tuple[str, ...]
    what: str
    kernel_name: str = ""


PEERS = (
    Peer(
        "eg",
        (
            "jupyter_enterprise_gateway==3.3.0",
            "jupyter_client==6.1.12",
            "jupyter_server==1.24.0",
            "pyzmq==24.0.1",
            "tornado==6.6.1",
            "traitlets==5.16.1",
            "nbconvert==7.17.2",
            "kubernetes==37.0.2",
            "websocket-client==1.9.2",  # of its own Python client
            "requests==2.34.2",
            # It imports distutils, which left Python in 3.12 and setuptools in 81.
            "setuptools==80.9.0; python_version >= '3.12'",
        ),
        "Enterprise Gateway 3.3.0 (about 31 MB)",
    ),
    Peer(
        "ipykernel6",
        ("ipykernel==6.31.0", "jupyter_client==8.10.0", "ipywidgets==8.1.9"),
        "a kernel with ipykernel 6.31 (about 16 MB)",
        "python3_6",
    ),
    Peer(
        "ipykernel7",
        ("ipykernel==7.4.0", "jupyter_client==8.10.0", "ipywidgets==8.1.9"),
        "a kernel with ipykernel 7.4 (about 16 MB)",
        "python3_7",
    ),
)


def main(arguments: list[str]) -> int:
    """Make what is missing."""
    if len(arguments) != 1:
        print("usage: peers.py FOLDER", file=sys.stderr)
        return 2
    root = Path(arguments[0]).absolute()
    for peer in PEERS:
        if not _is_made(root, peer):
            _make(root, peer)
    return 0


def _stamp(peer: Peer) -> str:
    version = "python %d.%d" % sys.version_info[:2]
    return "\n".join([version, *peer.pins, peer.kernel_name]) + "\n"


def _is_made(root: Path, peer: Peer) -> bool:
    path = root / peer.folder / STAMP
    return path.is_file() and path.read_text("utf-8") == _stamp(peer)


def _make(root: Path, peer: Peer) -> None:
    folder = root / peer.folder
    print(f"Installing {peer.what} into {folder}.", flush=True)
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *peer.pins], check=True)
    if peer.kernel_name:
        _write_kernelspec(root, peer, python)
    # The stamp comes last: an interrupted installation has none and is made again.
    (folder / STAMP).write_text(_stamp(peer), "utf-8")
    print(f"  done in {time.monotonic() - began:.0f} s", flush=True)


def _write_kernelspec(root: Path, peer: Peer, python: Path) -> None:
    kernel = root / "jupyter" / "kernels" / peer.kernel_name
    kernel.mkdir(parents=True, exist_ok=True)
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"Python 3 ({peer.folder})",
        "language": "python",
        "metadata": {"debugger": True},
    }
    (kernel / "kernel.json").write_text(json.dumps(spec, indent=1), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
