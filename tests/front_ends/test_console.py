"""``jupyter console`` on a remote kernel, in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.front_ends.pty_terminal import CTRL_C, CTRL_D, ENTER, TAB, PtyTerminal
from tests.front_ends.typed_commands import (
    WAIT_S,
    typed_command,
    user_environment,
    wait_for_no_kernel,
)

from clouditia.rest import GatewayClient
from clouditia.settings import load_target
from clouditia.testing.chaos import ChaosProxy
from clouditia.testing.gateway_process import GatewayProcess
from clouditia.testing.home import IsolatedHome
from clouditia.testing.targets import LoggedInTarget, log_in
from clouditia.testing.waiting import wait_until

CLEAR_LINE = "\x15"
#: Without it the tests would be a race: see "Over a slow line" in the docs. With it, a cell ends
#: with two empty lines.
ASK_NO_KERNEL = "--ZMQTerminalInteractiveShell.use_kernel_is_complete=False"
CONTINUATION = "   ...:"
LINES = 60
#: Each way: longer than the 50 ms after which jupyter console looks for the cell's first message.
SLOW_S = 0.06


class Console(PtyTerminal):
    """The console of a command of the docs, by default the first, with its numbered prompts."""

    def __init__(self, home: IsolatedHome, *words: str, asks_kernel: bool = False) -> None:
        self._end_of_cell = ENTER if asks_kernel else 3 * ENTER
        words = words or tuple(typed_command("console", "jupyter console --kernel"))
        super().__init__(
            [*words, *(() if asks_kernel or ASK_NO_KERNEL in words else (ASK_NO_KERNEL,))],
            environment=user_environment(home),
            cwd=home.directory,
        )

    def wait_for_prompt(self, after: int = 0) -> int:
        """Wait until the cursor is behind an empty, later prompt; returns the prompt's number."""
        self.wait(lambda: self._prompt() > after, f"prompt after In [{after}]")
        return self._prompt()

    def _prompt(self) -> int:
        prompt = re.fullmatch(r"In \[(\d+)\]: ", self.last_line)
        return int(prompt[1]) if prompt else 0

    def send(self, code: str) -> int:
        """Type a line of code at the prompt and run it; returns the number of the cell."""
        number = self.wait_for_prompt()
        self.type(code + self._end_of_cell)
        return number

    def run(self, code: str) -> str:
        """Run a line of code; returns what the screen shows between it and the next prompt."""
        number = self.send(code)
        following = self.wait_for_prompt(after=number)
        shown = self.text.rpartition(f"]: {code}\n")[2].removesuffix(f"In [{following}]:")
        return shown.replace(CONTINUATION, "").strip()


@pytest.fixture(scope="module")
def console(module_target: LoggedInTarget, module_home: IsolatedHome) -> Iterator[Console]:
    with Console(module_home) as running:
        running.wait_for_prompt()
        yield running


@pytest.fixture
def remote(module_target: LoggedInTarget) -> GatewayClient:
    return GatewayClient(load_target(module_target.name))


def test_the_console_shows_results_text_and_tracebacks_and_nothing_else(console: Console) -> None:
    assert console.wait_for_prompt() == 1
    banner = console.text
    assert console.run("x = 6; x * 7") == "Out[1]: 42"
    assert console.run("print('größer')") == "größer"
    traceback = console.run("1 / 0")
    assert traceback.endswith("ZeroDivisionError: division by zero")
    assert "----> 1 1 / 0" in traceback
    assert console.text.startswith(banner)


def test_the_console_asks_and_hands_the_answer_to_the_remote_cell(console: Console) -> None:
    console.send("print(input('your name? ')[::-1])")
    console.wait_for(r"^your name\?$")
    console.type("Ada" + ENTER)
    console.wait_for(r"^your name\? Ada\nadA$")
    console.wait_for_prompt()


def test_ctrl_c_ends_the_busy_cell_and_the_console_goes_on(console: Console) -> None:
    console.run("kept = 'still here'")
    console.send("print('busy', flush=True); exec('while True: pass')")
    console.wait_for("^busy$")
    console.type(CTRL_C)
    console.wait_for("^KeyboardInterrupt")
    assert console.run("print(kept)") == "still here"


def test_tab_completes_a_name_that_only_the_remote_kernel_knows(console: Console) -> None:
    # jupyter console waits 5 s; jedi's first completion in a new home can take longer than that.
    console.run("remotely_defined = 'yes'; _ = get_ipython().complete('remotely_d')")
    console.wait_for_prompt()
    console.type("remotely_d" + TAB)
    console.wait(lambda: console.last_line.endswith("remotely_defined"), "the completed name")
    console.type(CLEAR_LINE)
    console.wait_for_prompt()


def test_a_second_console_shares_the_kernel_and_leaves_it_running(
    console: Console, module_home: IsolatedHome, remote: GatewayClient
) -> None:
    console.run("shared = 'from the first'")
    with Console(module_home, *typed_command("console", "jupyter console --existing")) as second:
        assert second.run("print(shared)") == "from the first"
        second.run("shared = 'from the second'")
        second.wait_for_prompt()
        second.type(CTRL_D)
        second.wait_for("^Do you really want to exit")
        second.type("y" + ENTER)
        assert second.exit_code() == 0
        assert "keeping kernel alive" in second.text
    assert console.run("print(shared)") == "from the second"
    assert len(remote.list_kernels()) == 1


def test_quit_ends_the_console_and_the_remote_kernel(
    module_target: LoggedInTarget, module_home: IsolatedHome, remote: GatewayClient
) -> None:
    others = {kernel["id"] for kernel in remote.list_kernels()}
    with Console(module_home, asks_kernel=True) as console:
        assert console.run("6 * 7") == "Out[1]: 42"
        assert {kernel["id"] for kernel in remote.list_kernels()} > others
        console.send("quit")
        assert console.exit_code() == 0
    wait_until(
        lambda: {kernel["id"] for kernel in remote.list_kernels()} == others,
        WAIT_S,
        what="only the kernels that were there before",
    )


def test_over_a_slow_line_questions_come_while_the_cell_runs(
    module_target: LoggedInTarget, module_home: IsolatedHome, remote: GatewayClient
) -> None:
    others = {kernel["id"] for kernel in remote.list_kernels()}
    address = urlsplit(module_target.gateway.url)
    words = typed_command("console", f"jupyter console {ASK_NO_KERNEL}")
    with ChaosProxy(str(address.hostname), int(address.port or 0)) as line:
        slow = log_in(
            module_target.gateway, name="slow", url=f"http://{line.host}:{line.port}"
        ).kernel_name()
        line.delay(SLOW_S)
        words = [slow if word == module_target.kernel_name() else word for word in words]
        with Console(module_home, *words) as console:
            console.send("print(input('your name? ')[::-1])")
            console.wait_for(r"^your name\?$")
            console.type("Ada" + ENTER)
            console.wait_for(r"^your name\? Ada\nadA$")
            console.send("quit()")
            assert console.exit_code() == 0
    wait_until(
        lambda: {kernel["id"] for kernel in remote.list_kernels()} == others,
        WAIT_S,
        what="only the kernels that were there before",
    )


def test_closing_the_terminal_window_only_lets_go_of_the_kernel(
    module_target: LoggedInTarget, module_home: IsolatedHome, remote: GatewayClient
) -> None:
    others = {kernel["id"] for kernel in remote.list_kernels()}
    go_on, done = module_home.directory / "go-on", module_home.directory / "done"
    with Console(module_home) as console:
        console.send(_prints_and_waits(go_on, done))
        console.wait_for(f"^#{LINES // 2 - 1}$")
    go_on.touch()
    wait_until(done.exists, WAIT_S, what="the cell goes on to its end")
    (kept,) = {kernel["id"] for kernel in remote.list_kernels()} - others
    remote.shutdown(kept)


def _prints_and_waits(go_on: Path, done: Path) -> str:
    """A line of code that prints numbered lines and waits for a file in the middle of them."""
    code = (
        "import pathlib, time\n"
        f"for i in range({LINES}):\n"
        f"    while i == {LINES // 2} and not pathlib.Path({str(go_on)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "    print(f'#{i}', flush=True)\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )
    return f"exec({code!r})"


def test_a_gateway_killed_and_restarted_costs_no_line_of_the_cell(
    target: LoggedInTarget, clouditia_home: IsolatedHome, gateway: GatewayProcess, tmp_path: Path
) -> None:
    go_on, done = tmp_path / "go", tmp_path / "done"
    with Console(clouditia_home) as console:
        console.send(_prints_and_waits(go_on, done))
        console.wait_for(f"^#{LINES // 2 - 1}$")
        gateway.kill()
        go_on.touch()
        wait_until(done.exists, WAIT_S, what="the cell prints while there is no gateway")
        gateway.start()
        assert console.wait_for_prompt(after=1) == 2
        shown = re.findall(r"^#(\d+)$", console.text, re.MULTILINE)
        assert [int(number) for number in shown] == list(range(LINES))
        console.send("quit()")
        assert console.exit_code() == 0
    wait_for_no_kernel(GatewayClient(load_target(target.name)))
