"""A file has its old or its new content, whole, whatever stops the one who writes it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.host.test_journal_files import files_limited_to

from clouditia.atomic_files import write_atomically, write_private

#: Replaces a file for ever, in turns by 200,000 times "a" and "b"; says when it has begun.
WRITER = """
import sys
from pathlib import Path
from clouditia.atomic_files import write_private
path, turn = Path(sys.argv[1]), 0
while True:
    write_private(path, "ab"[turn % 2] * 200_000)
    turn += 1
    if turn == int(sys.argv[2]):
        print("go", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for turns in range(1, 9):
        arguments = [sys.executable, "-c", WRITER, str(path), str(turns)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"go\n"
            writer.send_signal(signal.SIGKILL)
        content = path.read_text()
        assert len(content) == 200_000
        assert content in ("a" * 200_000, "b" * 200_000)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_private(path, "old")
    with files_limited_to(1000), pytest.raises(OSError, match="large"):
        write_private(path, "x" * 2000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("open to all")
    path.chmod(0o644)
    write_private(path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_other_files_keep_their_mode_and_links_stay_links(tmp_path: Path) -> None:
    path, link = tmp_path / "f", tmp_path / "link"
    umask = os.umask(0o022)
    try:
        write_atomically(path, "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o640)
    link.symlink_to(path)
    write_atomically(link, "again")
    assert (link.is_symlink(), path.read_text()) == (True, "again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
