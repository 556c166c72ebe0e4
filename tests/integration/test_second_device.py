"""One kernel, two laptops of one user: who sees what, who is asked, and what ends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.local_server import LocalServer, NotebookClient
from tests.integration.second_laptop import Laptop, second_laptop
from tests.integration.test_reattach import Page

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import LineOracle
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget

LINES = 60
WIDGET = "import ipywidgets; slider = ipywidgets.IntSlider(value=3); slider.value = 5"


@pytest.fixture(scope="module")
def rest(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


@pytest.fixture(scope="module")
def second(module_target: LoggedInTarget, module_gateway: GatewayProcess) -> Iterator[Laptop]:
    with second_laptop(module_gateway) as laptop:
        yield laptop


@pytest.fixture(scope="module")
def servers(module_home: IsolatedHome, second: Laptop) -> Iterator[tuple[LocalServer, LocalServer]]:
    """The local Jupyter servers of both laptops."""
    with LocalServer(module_home) as here, LocalServer(second.home) as there:
        yield here, there


@pytest.fixture
def kernel_id(
    servers: tuple[LocalServer, LocalServer], module_target: LoggedInTarget, rest: GatewayClient
) -> Iterator[str]:
    """A kernel that a notebook of the first laptop has started."""
    session = servers[0].open_session(module_target.kernel_name())
    (kernel,) = rest.list_kernels()
    yield str(kernel["id"])
    servers[0].request("DELETE", f"/api/sessions/{session['id']}")
    assert kernel["id"] not in {each["id"] for each in rest.list_kernels()}


def page_of(server: LocalServer) -> Page:
    """A page on the only session of a server."""
    (session,) = server.request("GET", "/api/sessions")
    return Page(server.channels_url(session["kernel"]["id"]))


def join(laptop: Laptop, server: LocalServer, kernel_id: str) -> str:
    """Open the same notebook on the running kernel; returns the id of the session."""
    spec = laptop.run("kernelspec", "attach", kernel_id)
    return str(server.open_session(spec["name"])["id"])


def printed(page: NotebookClient, msg_id: str, up_to: int) -> LineOracle:
    """What a page hears of a request, up to a line."""
    oracle = LineOracle(LINES)
    while up_to not in oracle.numbers:
        message = page.receive()
        if (message.get("parent_header") or {}).get("msg_id") == msg_id:
            oracle.feed(message)
    return oracle


def question(page: NotebookClient, code: str) -> tuple[str, str]:
    """Run a cell that asks; returns its id and what it asked."""
    msg_id = page.send(code, stdin=True)
    content, _ = page.read_until("input_request", msg_id)
    return msg_id, str(content["prompt"])


def heard_until(page: NotebookClient, msg_id: str) -> list[str]:
    """Types of what a page hears of somebody's request, until its idle."""
    heard: list[str] = []
    while True:
        message = page.receive()
        if (message.get("parent_header") or {}).get("msg_id") == msg_id:
            heard.append(str(message["header"]["msg_type"]))
            if message["content"].get("execution_state") == "idle":
                return heard


def test_a_second_laptop_sees_and_does_what_the_first_one_can(
    servers: tuple[LocalServer, LocalServer], second: Laptop, kernel_id: str, rest: GatewayClient
) -> None:
    go = second.home.directory / "go"
    with page_of(servers[0]) as first_page:
        first_page.run("kept = 'still here'")
        running = first_page.send(
            f"import os, time\nfor i in range({LINES}):\n"
            f"    while i == {LINES // 2} and not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
            "    print(f'#{i}', flush=True)"
        )
        printed(first_page, running, LINES // 2 - 1)
        session = join(second, servers[1], kernel_id)
        with page_of(servers[1]) as page, second.attached(kernel_id) as terminal:
            # From its beginning, although it began before this laptop came; then live.
            assert page.ask_again(running)["found"]
            heard = printed(page, running, LINES // 2 - 1)
            assert heard.numbers == list(range(LINES // 2))
            assert terminal.stdout is not None
            lines = [terminal.stdout.readline() for _ in range(LINES // 2)]
            go.touch()
            heard = printed(page, running, LINES - 1)
            assert heard.numbers == list(range(LINES // 2, LINES))
            lines += terminal.stdout.readlines()
            assert lines == [f"#{i}\n" for i in range(LINES)]
            assert printed(first_page, running, LINES - 1).numbers == heard.numbers

            # Both can execute, each sees the other's output, and only who asks is asked.
            assert page.run("print(kept); added = 2") == ("ok", "still here\n")
            assert first_page.run("print(added)") == ("ok", "2\n")
            for asking, watching in ((page, first_page), (first_page, page)):
                msg_id, prompt = question(asking, "print('hello', input('name? '))")
                assert prompt == "name? "
                asking.answer("Ada", msg_id)
                assert asking.read_until("execute_reply", msg_id)[0]["status"] == "ok"
                heard_types = heard_until(watching, msg_id)
                assert "stream" in heard_types
                assert not {"input_request", "execute_reply"} & set(heard_types)
        servers[1].request("DELETE", f"/api/sessions/{session}")
        assert first_page.run("print(kept)") == ("ok", "still here\n")
    assert [kernel["id"] for kernel in rest.list_kernels()] == [kernel_id]


def test_a_second_laptop_gets_the_state_of_widgets(
    servers: tuple[LocalServer, LocalServer], second: Laptop, kernel_id: str
) -> None:
    with page_of(servers[0]) as first_page:
        assert first_page.run(WIDGET)[0] == "ok"
    session = join(second, servers[1], kernel_id)
    with page_of(servers[1]) as page:
        asked = page.send_message("comm_info_request", {"target_name": "jupyter.widget"})
        comms, _ = page.read_until("comm_info_reply", asked)
        state = widget_states(page)
        assert set(state) == set(comms["comms"])
        assert 5 in [each["state"].get("value") for each in state.values()]
    servers[1].request("DELETE", f"/api/sessions/{session}")


def widget_states(page: NotebookClient) -> dict[str, Any]:
    """Ask for all of them, as the widget manager of a new page does."""
    comm: dict[str, Any] = {"comm_id": "control", "data": {}}
    opened = {**comm, "target_name": "jupyter.widget.control"}
    page.send_message("comm_open", opened, metadata={"version": "1.0.0"})
    asked = page.send_message("comm_msg", {**comm, "data": {"method": "request_states"}})
    content, _ = page.read_until("comm_msg", asked)
    states: dict[str, Any] = content["data"]["states"]
    return states


def test_the_same_notebook_on_another_laptop_begins_with_a_kernel_of_its_own(
    servers: tuple[LocalServer, LocalServer], kernel_id: str, rest: GatewayClient
) -> None:
    session = servers[1].open_session("clouditia-desk-python3")
    others = {kernel["id"] for kernel in rest.list_kernels()} - {kernel_id}
    assert len(others) == 1
    servers[1].request("DELETE", f"/api/sessions/{session['id']}")
    assert [kernel["id"] for kernel in rest.list_kernels()] == [kernel_id]
