"""A notebook that is opened again has its kernel again, and the output that was missed."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.local_server import LocalServer, NotebookClient

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import HEALTHY, LineOracle
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until

WAIT_S = 30.0


@pytest.fixture
def remote(module_target: LoggedInTarget) -> Iterator[GatewayClient]:
    client = GatewayClient(load_target(module_target.name))
    yield client
    for kernel in client.list_kernels():
        client.shutdown(kernel["id"])


class Page(NotebookClient):
    """A page that asks for the messages of a request of an earlier page."""

    def ask_again(self, msg_id: str) -> dict[str, Any]:
        asked = self.send_message("clouditia_replay_request", {"msg_id": msg_id}, "control")
        content, _ = self.read_until("clouditia_replay_reply", asked)
        return content

    def read_all(self, msg_ids: set[str], count: int) -> dict[str, LineOracle]:
        """Every message of these requests until all are done."""
        oracles = {msg_id: LineOracle(count) for msg_id in msg_ids}
        while not all(oracle.is_done for oracle in oracles.values()):
            message = self.receive()
            oracle = oracles.get((message.get("parent_header") or {}).get("msg_id", ""))
            if oracle is not None:
                oracle.feed(message)
        return oracles


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cell_goes_on_in_the_page_of_another_server_with_all_that_was_missed(
    module_home: IsolatedHome,
    module_target: LoggedInTarget,
    remote: GatewayClient,
    number: signal.Signals,
) -> None:
    code = LineOracle.code(60, every_s=0.05)
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as notebook:
            notebook.run("kept = 'still here'")
            first, second = notebook.send(code), notebook.send(code)
            notebook.read_until("stream", first)
        (before,) = remote.list_kernels()
        server.stop(number)
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        (after,) = remote.list_kernels()
        assert after["id"] == before["id"]
        with Page(server.channels_url(session["kernel"]["id"])) as page:
            assert page.ask_again(first) == {"status": "ok", "found": True}
            assert page.ask_again(second) == {"status": "ok", "found": True}
            for oracle in page.read_all({first, second}, 60).values():
                assert oracle.verdict() == HEALTHY
            # Done long ago by now, and there for whoever comes late.
            assert page.ask_again(first)["found"]
            assert page.read_all({first}, 60)[first].verdict() == HEALTHY
            assert page.run("print(kept)") == ("ok", "still here\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")
        wait_until(lambda: not remote.list_kernels(), WAIT_S, what="the kernel is ended")
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as page:
            assert page.run("print('kept' in globals())") == ("ok", "False\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")


def test_a_question_is_asked_again_only_while_it_is_open(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        with server.client(session["kernel"]["id"]) as notebook:
            msg_id = notebook.send("print(input('one? ')); print(input('two? '))", stdin=True)
            notebook.read_until("input_request", msg_id)
            notebook.answer("1", msg_id)
            notebook.read_until("input_request", msg_id)
        with Page(server.channels_url(session["kernel"]["id"])) as page:
            assert page.ask_again(msg_id)["found"]
            asked, before = page.read_until("input_request", msg_id)
            assert asked["prompt"] == "two? "
            page.answer("2", msg_id)
            while (message := page.receive())["header"]["msg_type"] != "stream" or (
                "2\n" not in message["content"]["text"]
            ):
                before += message["content"].get("text", "")
            assert before + message["content"]["text"] == "1\n2\n"
        server.request("DELETE", f"/api/sessions/{session['id']}")


def test_a_request_that_the_kernel_never_got_is_not_found(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        session = server.open_session(module_target.kernel_name())
        with Page(server.channels_url(session["kernel"]["id"])) as page:
            answer = page.ask_again(uuid.uuid4().hex)
            assert answer["found"] is False
            assert "never asked" in answer["reason"]
            assert page.run("print(1)") == ("ok", "1\n")
        server.request("DELETE", f"/api/sessions/{session['id']}")


def test_notebooks_of_the_same_name_in_other_folders_have_other_kernels(
    module_home: IsolatedHome, module_target: LoggedInTarget, remote: GatewayClient
) -> None:
    with LocalServer(module_home) as server:
        for folder in ("one", "two"):
            (module_home.directory / folder).mkdir()
            server.open_session(module_target.kernel_name(), f"{folder}/a.ipynb")
        assert len(remote.list_kernels()) == 2
        notes = (module_home.state_dir / "notebooks").iterdir()
        notebooks = {json.loads(note.read_text())["notebook"] for note in notes}
        assert len(notebooks) == 2
        server.stop(signal.SIGKILL)
