"""The small parts of a kernel host, each on its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clouditia.errors import GatewayUnreachable, RemoteProtocolError
from clouditia.protocol.answers import Cause
from clouditia.protocol.journal_requests import RequestState
from clouditia.protocol.messages import IOPUB, SHELL, Message, decode_json, encode_json
from clouditia_gateway.host import proc
from clouditia_gateway.host.activity import BUSY, DEAD, IDLE, Activity
from clouditia_gateway.host.connection_file import (
    MAX_SOCKET_PATH_BYTES,
    new_connection,
    remove_sockets,
    write_connection_file,
)
from clouditia_gateway.host.control import read_address
from clouditia_gateway.host.exit_facts import ExitFacts
from clouditia_gateway.host.kernel_process import OutputTail
from clouditia_gateway.host.launch import LaunchSpec, end_leftovers, read_launch, take_lock
from clouditia_gateway.host.memory_watch import OutOfMemory
from clouditia_gateway.host.notices import MAX_SIZE_BYTES, MessageFactory
from clouditia_gateway.host.requests import Answers, read_request

# --- launch and connection files ----------------------------------------------------------------


def launch_fields(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "kernel_id": "k",
        "fence": 1,
        "token": "t",
        "gateway_file": "/g",
        "directory": str(directory),
        "kernel_name": "python3",
        "display_name": "Python 3",
        "language": "python",
        "argv": ["python", "-m", "x", "-f", "{connection_file}"],
        "env": {"A": "b"},
        "cwd": "/",
        "interrupt_mode": "signal",
        "supports_ipc": True,
        "retention": {"max_bytes": 1, "max_age_s": 2},
        **changes,
    }


def launch_spec(directory: Path, **changes: Any) -> LaunchSpec:
    path = directory / "launch.json"
    path.write_text(json.dumps(launch_fields(directory, **changes)))
    return read_launch(path)


def test_the_command_line_names_the_connection_file_and_the_right_python(tmp_path: Path) -> None:
    command = launch_spec(tmp_path).command()
    assert command.argv == [sys.executable, "-m", "x", "-f", str(tmp_path / "kernel.json")]
    assert command.env == {"A": "b"}
    other = launch_spec(tmp_path, argv=["/usr/bin/python", "x"]).command()
    assert other.argv == ["/usr/bin/python", "x"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"format": 2}, "format 2"), ({"argv": []}, "argv"), ({"retention": None}, "TypeError")],
)
def test_a_launch_file_with_a_wrong_field_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        launch_spec(tmp_path, **changes)


def test_each_epoch_has_its_own_sockets_and_key(tmp_path: Path) -> None:
    spec = launch_spec(tmp_path)
    first = spec.connection(1)
    Path(first.url("shell_port").removeprefix("ipc://")).touch()
    second = spec.connection(2)
    assert first.key != second.key
    assert first.url("shell_port") != second.url("shell_port")
    assert not Path(first.url("shell_port").removeprefix("ipc://")).exists()
    assert stat.S_IMODE(spec.connection_file.stat().st_mode) == 0o600
    assert json.loads(spec.connection_file.read_bytes())["key"] == second.key


def test_without_ipc_the_ports_are_on_loopback_and_differ(tmp_path: Path) -> None:
    info = new_connection(tmp_path, 1, supports_ipc=False, kernel_name="x")
    assert info.url("shell_port").startswith("tcp://127.0.0.1:")
    assert len(set(info.ports)) == 5


def test_long_directories_get_a_short_private_socket_directory(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 120)
    directory.mkdir()
    info = new_connection(directory, 7, supports_ipc=True, kernel_name="x")
    sockets = Path(info.ip).parent
    assert len(info.url("control_port").removeprefix("ipc://")) <= MAX_SOCKET_PATH_BYTES
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    write_connection_file(tmp_path / "kernel.json", info)
    Path(info.url("hb_port").removeprefix("ipc://")).touch()
    remove_sockets(tmp_path / "kernel.json")
    assert not sockets.exists()


def test_a_directory_is_locked_by_one_host(tmp_path: Path) -> None:
    lock = take_lock(tmp_path / "host.lock")
    with pytest.raises(OSError, match="another kernel host"):
        take_lock(tmp_path / "host.lock")
    os.close(lock)
    os.close(take_lock(tmp_path / "host.lock"))


def test_leftovers_are_killed_only_when_pid_and_start_time_match(tmp_path: Path) -> None:
    spec = launch_spec(tmp_path)
    kernel = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        started = proc.start_time(kernel.pid)
        fields = {"kernel_pid": kernel.pid, "kernel_pgid": kernel.pid}
        spec.host_file.write_text(json.dumps({**fields, "kernel_start_time": started + 1}))
        end_leftovers(spec)
        assert kernel.poll() is None
        spec.host_file.write_text(json.dumps({**fields, "kernel_start_time": started}))
        end_leftovers(spec)
        assert kernel.wait(5) == -9
    finally:
        kernel.kill()
        kernel.wait()


def test_a_process_is_known_by_pid_and_start_time() -> None:
    pid = os.getpid()
    assert proc.is_alive(pid, proc.start_time(pid))
    assert not proc.is_alive(pid, proc.start_time(pid) + 1)
    assert proc.read_stat(2**22 + 1) is None
    child = subprocess.Popen(["sleep", "60"])
    assert child.pid in proc.descendants(pid)
    child.kill()
    child.wait()
    assert child.pid not in proc.descendants(pid)


def test_the_fast_start_imports_nothing_heavy() -> None:
    code = (
        "import sys; import clouditia_gateway.host.launch; "
        "print([name for name in ('asyncio', 'zmq', 'websockets', 'logging', 'socket', "
        "'subprocess', 'ssl', 'traitlets', 'tornado') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_host_never_imports_the_jupyter_stack() -> None:
    code = (
        "import sys; import clouditia_gateway.host.host; "
        "print([name for name in ('jupyter_client', 'jupyter_server', 'tornado', 'traitlets', "
        "'zmq.asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- where the gateway is -----------------------------------------------------------------------


def test_the_gateway_is_found_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({"host_url": "http://127.0.0.1:1/base/", "tls_pin": None}))
    assert read_address(file).url == "http://127.0.0.1:1/base"
    assert read_address(file).context is None
    file.write_text(json.dumps({"host_url": "https://127.0.0.1:1", "tls_pin": "ab" * 32}))
    assert read_address(file).context is not None


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "null"])
def test_without_a_usable_gateway_file_the_gateway_is_unreachable(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "gateway.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(GatewayUnreachable):
        read_address(file)


# --- what is said -------------------------------------------------------------------------------


def request(msg_type: str, channel: str = SHELL) -> Message:
    header = encode_json({"msg_id": "q", "msg_type": msg_type, "session": "s"})
    return Message(channel, header, b"{}", b"{}", b"{}")


def types(messages: list[Message]) -> list[str]:
    return [decode_json(message.header)["msg_type"] for message in messages]


def state(msg_type: str, **changes: Any) -> RequestState:
    return RequestState("q", msg_type, SHELL, "c", 1, 1, 1, **changes)


def test_a_failure_says_what_is_missing_and_no_more() -> None:
    answers = Answers(MessageFactory(), list)
    answers.remember(read_request(request("execute_request")))
    cause = Cause("KernelDied", "the kernel exited with code 3.", "last words")
    whole = answers.failure(state("execute_request"), cause)
    assert types(whole) == ["error", "execute_reply", "status"]
    assert all(decode_json(item.parent_header)["session"] == "s" for item in whole)
    assert "last words" in decode_json(whole[0].content)["traceback"]
    assert types(answers.failure(state("execute_request", replied=True), cause)) == ["status"]
    assert types(answers.failure(state("execute_request", idle_seen=True), cause)) == [
        "error",
        "execute_reply",
    ]
    assert types(answers.failure(state("complete_request"), cause)) == ["complete_reply", "status"]


def test_headers_of_finished_requests_are_forgotten() -> None:
    unfinished = [RequestState("0", "execute_request", SHELL, "c", 1, 1, 1)]
    answers = Answers(MessageFactory(), lambda: unfinished)
    for number in range(2000):
        header = encode_json({"msg_id": str(number), "msg_type": "execute_request", "session": "s"})
        answers.remember(read_request(Message(SHELL, header, b"{}", b"{}", b"{}")))
    assert len(answers._headers) < 600
    assert b"session" in answers.header_of(unfinished[0])


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"msg_id": 1, "msg_type": "x"}', b"nonsense"])
def test_a_request_without_a_usable_header_is_a_protocol_error(header: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_request(Message(SHELL, header, b"{}", b"{}", b"{}"))


def test_messages_that_no_link_can_carry_are_replaced_by_a_sentence() -> None:
    factory = MessageFactory()
    small = request("execute_reply")
    assert factory.fitting(small) is small
    too_many = small._replace(buffers=(b"",) * 5000)
    reply = factory.fitting(too_many)
    assert decode_json(reply.content)["ename"] == "MessageTooLarge"
    assert reply.buffers == ()
    large = memoryview(bytes(1)).cast("B")
    output = request("display_data", IOPUB)._replace(buffers=(large,) * 5000)
    said = decode_json(factory.fitting(output).content)
    assert str(MAX_SIZE_BYTES) in said["text"]


def test_exit_codes_become_sentences() -> None:
    assert ExitFacts.from_exit_code(3) == (3, None, "the kernel exited with code 3", "exit")
    assert ExitFacts.from_exit_code(-99).signal == "signal 99"
    segfault = ExitFacts.from_exit_code(-11)
    assert (segfault.signal, segfault.cause) == ("SIGSEGV", "signal")
    assert "native code" in segfault.reason


def test_a_sigkill_says_whether_memory_was_the_reason_and_whether_that_is_known() -> None:
    killed = ExitFacts.from_exit_code(-9)
    assert killed.cause == "signal"
    assert "not for lack of memory" in killed.reason
    assert "does not tell" in ExitFacts.from_exit_code(-9, is_counted=False).reason
    limited = ExitFacts.from_exit_code(-9, OutOfMemory(512 * 2**20, is_of_group=True))
    assert limited.cause == "oom"
    assert "memory limit of 512 MiB was reached" in limited.reason
    full = ExitFacts.from_exit_code(-9, OutOfMemory(None, is_of_group=True))
    assert "no memory left" in full.reason
    # A segfault stays one, whatever else was killed at that moment.
    assert ExitFacts.from_exit_code(-11, OutOfMemory(1, is_of_group=True)).cause == "signal"


def test_the_tail_of_the_output_is_bounded_and_decoded() -> None:
    tail = OutputTail()
    for number in range(100_000):
        tail.add(b"line %d \xff\n" % number)
    assert len(tail._data) <= 128 * 1024
    assert tail.last_lines().splitlines()[-1] == "line 99999 \ufffd"
    assert len(tail.last_lines().splitlines()) == 20
    tail.clear()
    tail.add(b"x" * 10_000)
    assert len(tail.last_lines()) == 4000


def test_a_kernel_is_busy_while_any_of_its_requests_is() -> None:
    activity = Activity()
    activity.enter(IDLE)
    activity.status(BUSY, "a")
    activity.status(BUSY, "b")
    activity.status(IDLE, "a")
    assert activity.execution_state == BUSY
    activity.status(IDLE, "b")
    assert activity.execution_state == IDLE
    activity.status(BUSY, "c")
    activity.enter(DEAD)
    assert activity.execution_state == DEAD
    activity.enter(IDLE)
    assert activity.execution_state == IDLE


def test_last_activity_has_the_form_of_the_gateways_own_times() -> None:
    activity = Activity()
    activity.touch(1_700_000_000_000_000_000)
    assert activity.last_activity == "2023-11-14T22:13:20.000000Z"


def test_the_log_is_rotated_and_keeps_one_old_file(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from pathlib import Path\n"
        "from clouditia_gateway.host.logs import HostLog\n"
        "log = HostLog(Path(sys.argv[1]), max_bytes=1000)\n"
        "for number in range(100):\n"
        "    log.emit(logging.LogRecord('x', 20, '', 0, f'line {number} ' + 'y' * 50, (), None))\n"
        "sys.stderr.write('crash')\n"
    )
    path = tmp_path / "host.log"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.stat().st_size < 1100
    assert path.read_text().endswith("crash")
    assert "line 99" in path.read_text() + (tmp_path / "host.log.1").read_text()
    assert len(list(tmp_path.iterdir())) == 2
