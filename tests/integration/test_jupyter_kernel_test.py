"""The suite of ``jupyter_kernel_test`` for a Python kernel, run on a remote kernelspec."""

from __future__ import annotations

from typing import Any, ClassVar

import jupyter_kernel_test
import pytest

from clouditia.testing.targets import LoggedInTarget
from clouditia.testing.waiting import wait_until


@pytest.fixture(scope="module", autouse=True)
def remote_kernel_name(module_target: LoggedInTarget) -> None:
    """The suite takes the name of the kernelspec from the class."""
    RemotePythonTests.kernel_name = module_target.kernel_name()
    RemoteWelcomeTests.kernel_name = module_target.kernel_name()


def close_sockets(suite: Any) -> None:
    """What the suite leaves to the garbage collector, where pyzmq warns about it."""
    suite.kc.context.destroy(linger=0)
    suite.km.context.destroy(linger=0)


class RemotePythonTests(jupyter_kernel_test.KernelTests):  # type: ignore[misc]  # it has no annotations
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [
        {"text": "isinstan", "matches": {"isinstance"}},
        {"text": "import zipf", "matches": {"zipfile"}},
    ]
    complete_code_samples: ClassVar[list[str]] = [
        "1",
        "print('hello, world')",
        "def f(x):\n    return x * 2\n\n\n",
    ]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n    x * 2"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q", "1 = 2"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('on purpose')"
    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n * n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
            "mime": "text/latex",
        },
    ]
    code_history_pattern = "1?2*"
    # No range: ipykernel calls the current session 0 there, where the suite expects its number.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        close_sockets(cls)


class RemoteWelcomeTests(jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    support_iopub_welcome = True

    def tearDown(self) -> None:
        # A heartbeat thread that is stopped before it has begun makes sockets without end.
        wait_until(self.kc.hb_channel.is_beating, 10)
        self.kc.stop_channels()  # the suite does so only after the class, too late for us

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        close_sockets(cls)
