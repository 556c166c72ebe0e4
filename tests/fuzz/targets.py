"""What is fuzzed: per decoder a function of bytes, and the modules that atheris watches.

A function may raise the errors that its decoder documents; anything else is a find. Each is made
by a factory that imports what it needs, so that atheris can instrument those modules and no others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

#: For decoders that read files; used again by each run, one run at a time.
SCRATCH = Path(__file__).parents[2] / "build" / "fuzz" / "scratch"

Check = Callable[[bytes], None]


class Target(NamedTuple):
    """One decoder."""

    make: Callable[[], Check]
    modules: tuple[str, ...]


def v1_frames() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia.protocol import messages

    def check(data: bytes) -> None:
        with suppress(ClouditiaError):
            messages.peek_channel(data)
        with suppress(ClouditiaError):
            message = messages.decode_v1(data)
            assert b"".join(messages.encode_v1(message)) == data
            with suppress(ClouditiaError):
                messages.encode_legacy(message)

    return check


def legacy_frames() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia.protocol import messages
    from clouditia_gateway.channels.stock_forms import LegacyForm, V1Form

    legacy, v1 = LegacyForm(), V1Form()

    def check(data: bytes) -> None:
        for form in (data, data.decode("utf-8", "replace")):
            with suppress(ClouditiaError):
                message = messages.decode_legacy(form)
                again = messages.decode_legacy(messages.encode_legacy(message))
                assert again.buffers == message.buffers
            with suppress(ClouditiaError):
                legacy.read(form)
            with suppress(ClouditiaError):
                v1.read(form)

    return check


def link_frames() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia.protocol import frames, link
    from clouditia.protocol.handshake import Hello, Welcome

    def a_link(role: link.Role) -> link.Link:
        hello = Hello("client") if role is link.Role.CLIENT else None
        made = link.Link(role, link.Outbox(), hello=hello)
        made.connection_made(0.0)
        welcome = Welcome("k", 1, 0, 1, 1 << 20, {})
        peer = Hello("peer") if role is link.Role.HOST else welcome
        made.receive(peer.encode(), 0.0)
        if role is link.Role.HOST:
            made.accept(welcome, 0.0)
        made.events()
        return made

    def check(data: bytes) -> None:
        with suppress(ClouditiaError):
            for frame in frames.unbundle(data):
                frames.parse(frame)
        for role in link.Role:
            machine = a_link(role)
            machine.receive(data, 1.0)  # a peer's input never raises
            for event in machine.events():
                assert not isinstance(event, link.Failed) or event.error.message
            machine.tick(2.0)
            machine.data_to_send()

    return check


def handshakes() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia.protocol import handshake

    def check(data: bytes) -> None:
        for kind in (b"\x01", b"\x02"):
            with suppress(ClouditiaError):
                hello = handshake.parse_hello(kind + data)
                handshake.choose_protocol(hello.protocol)
                facts = {"first_seq": 1, "next_seq": 5, "unfinished": 2}
                handshake.resume_point(hello, remembered=None, **facts)
        with suppress(ClouditiaError, ValueError, RecursionError):
            fields = json.loads(data)
            if isinstance(fields, dict):
                handshake.welcome_from_fields(fields)

    return check


def journals() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia.protocol.journal import RecordReader
    from clouditia.protocol.journal_index import JournalIndex
    from clouditia.protocol.journal_retention import Level, compact_records
    from clouditia.protocol.journal_salvage import SalvageReader, with_markers

    def check(data: bytes) -> None:
        index = JournalIndex()
        reader = SalvageReader(data)
        good = []
        with suppress(ClouditiaError):
            for frame in reader:
                good.append(frame.record)
                with suppress(ClouditiaError):
                    index.add(frame.record, 1, frame.offset, frame.length)
            assert reader.end <= len(data)
        with suppress(ClouditiaError):
            plain = list(RecordReader(data))
            assert [frame.record for frame in plain] == good[: len(plain)]
        for seq in range(1, min(index.next_seq, 20)):
            index.find(seq)
        with suppress(ClouditiaError):
            list(compact_records(with_markers(good), Level.ALL_BUT_OUTCOMES))

    return check


def request_bodies() -> Check:
    from clouditia.errors import ClouditiaError
    from clouditia_gateway.handlers.base import json_object
    from clouditia_gateway.handlers.kernels import optional_text
    from clouditia_gateway.kernel_env import build_env, checked_request_env
    from clouditia_gateway.launcher import checked_kernel_id
    from clouditia_gateway.records import HostState
    from clouditia_gateway.sessions import SessionRequest
    from clouditia_gateway.workdir import checked_path, working_directory

    def check(data: bytes) -> None:
        try:
            body = json_object(data)
        except ClouditiaError:
            return
        HostState.from_wire(body)
        with suppress(ClouditiaError):
            SessionRequest.from_body(body)
        with suppress(ClouditiaError):
            env = checked_request_env(body.get("env"))
            built = build_env({}, {}, env, user="ada").variables
            assert built["KERNEL_USERNAME"] == "ada"
        with suppress(ClouditiaError):
            path = working_directory(Path("/tmp"), checked_path(body.get("path")))
            assert path.is_relative_to("/tmp")
        with suppress(ClouditiaError):
            checked_kernel_id(optional_text(body.get("kernel_id"), "kernel_id"))

    return check


def _in_a_file(name: str, read: Callable[[Path], object], *errors: type[Exception]) -> Check:
    path = SCRATCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(*errors):
            read(path)

    return check


def target_files() -> Check:
    folder = SCRATCH / "config"
    os.environ["CLOUDITIA_CONFIG_DIR"] = os.environ["CLOUDITIA_STATE_DIR"] = str(folder)
    from clouditia import notebook_kernels, settings
    from clouditia.errors import ClouditiaError

    notebook = notebook_kernels.NotebookKey("lab", "python3", "/a.ipynb")

    def read(path: Path) -> None:
        with suppress(ClouditiaError):
            settings.load_target("lab")
        with suppress(ClouditiaError):
            settings.read_key_file(path)
        notebook.recall()

    check = _in_a_file("lab.json", read, ClouditiaError)

    def everywhere(data: bytes) -> None:
        for place in (folder / "targets" / "lab.json", notebook._path):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        check(data)

    return everywhere


def connection_files() -> Check:
    from clouditia.bridge.connection_file import read_connection_file
    from clouditia.errors import ClouditiaError
    from clouditia_gateway.host.connection_file import remove_sockets

    def read(path: Path) -> None:
        with suppress(ClouditiaError):
            read_connection_file(path)
        remove_sockets(path)

    return _in_a_file("kernel.json", read)


def launch_files() -> Check:
    from clouditia_gateway.host.launch import read_launch

    def read(path: Path) -> None:
        read_launch(path).command()

    return _in_a_file("launch.json", read, ValueError)


def kernelspecs() -> Check:
    from jupyter_client.kernelspec import KernelSpecManager

    from clouditia.errors import ClouditiaError
    from clouditia_gateway.kernelspecs import KernelSpecs, check_executable

    def read(path: Path) -> None:
        manager = KernelSpecManager(kernel_dirs=[str(path.parent.parent)])
        manager.ensure_native_kernel = False
        found = KernelSpecs(manager)
        for spec in found.all().values():
            found.model(spec, "/")
            with suppress(ClouditiaError):
                check_executable(spec, "")

    return _in_a_file("kernels/fuzzed/kernel.json", read)


TARGETS = {
    "v1_frames": Target(v1_frames, ("clouditia.protocol.messages",)),
    "legacy_frames": Target(
        legacy_frames, ("clouditia.protocol.messages", "clouditia_gateway.channels.stock_forms")
    ),
    "link_frames": Target(
        link_frames,
        (
            "clouditia.protocol.frames", "clouditia.protocol.link",
            "clouditia.protocol.link_receiver", "clouditia.protocol.link_sender",
        ),
    ),
    "handshakes": Target(handshakes, ("clouditia.protocol.handshake",)),
    "journals": Target(
        journals,
        (
            "clouditia.protocol.journal", "clouditia.protocol.journal_index",
            "clouditia.protocol.journal_requests", "clouditia.protocol.journal_salvage",
        ),
    ),
    "request_bodies": Target(
        request_bodies,
        (
            "clouditia_gateway.sessions", "clouditia_gateway.kernel_env",
            "clouditia_gateway.workdir", "clouditia_gateway.records",
        ),
    ),
    "target_files": Target(target_files, ("clouditia.settings", "clouditia.notebook_kernels")),
    "connection_files": Target(
        connection_files,
        ("clouditia.bridge.connection_file", "clouditia_gateway.host.connection_file"),
    ),
    "launch_files": Target(launch_files, ("clouditia_gateway.host.launch",)),
    "kernelspecs": Target(kernelspecs, ("clouditia_gateway.kernelspecs",)),
}  # fmt: skip
