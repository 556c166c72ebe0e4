"""Running a notebook through nbclient on a kernelspec that exists only in memory."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import logging
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from clouditia.cli.progress import Progress
from clouditia.errors import (
    ClouditiaError,
    ConfigError,
    ExecutionError,
    ExecutionTimeout,
    KernelDied,
    LaunchTimeout,
    RemoteProtocolError,
    SessionError,
)
from clouditia.kernelspecs import build_spec, spec_name

__all__ = ["NotebookRun", "Where", "read_source"]

_PROBE_TIMEOUT_S = 5.0
_MAX_WHERE_CHARS = 1000
#: Evaluated in the kernel as a user expression: nothing appears in the user's namespace. CUDA is
#: asked only where the notebook has used it.
_WHERE = (
    "__import__('json').dumps({'host': __import__('socket').gethostname(), 'gpu': (lambda torch: "
    "torch.cuda.get_device_name() if torch is not None and torch.cuda.is_initialized() else None)"
    "(__import__('sys').modules.get('torch'))})"
)


#: nbformat has no types.
_NBFORMAT: Any = nbformat
_V4: Any = nbformat.v4


def read_source(path: Path) -> Any:
    """The notebook in ``path``; a script becomes a notebook of one cell.

    Raises:
        ConfigError: it cannot be read, or is no notebook.
    """
    try:
        if path.suffix == ".py":
            cell = _V4.new_code_cell(path.read_text("utf-8"))
            return _V4.new_notebook(cells=[cell])
        return _NBFORMAT.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc


@dataclass
class Where:
    """Where a notebook ran, as far as that is known."""

    kernel_id: str = ""
    host: str = ""
    gpu: str | None = None

    @property
    def sentence(self) -> str:
        """For a person."""
        parts = [f"kernel {self.kernel_id or 'unknown'}"]
        if self.host:
            parts += [f"host {self.host}", f"GPU {self.gpu}" if self.gpu else "no GPU in use"]
        return ", ".join(parts)


class NotebookRun:
    """One run of one notebook on a new kernel.

    Args:
        notebook: The notebook; its cells get the outputs, its metadata stay as they are.
        target: Name of the target.
        kernel: Kernelspec on the gateway.
        timeout: Seconds that one cell may take; None for no limit.
        keep_stdout_clean: Show the cells' stdout on stderr, because stdout holds data.
    """

    def __init__(
        self,
        notebook: Any,
        *,
        target: str,
        kernel: str,
        timeout: float | None,
        keep_stdout_clean: bool,
    ) -> None:
        self.where = Where()
        self.has_run = False
        self.cells_run = 0  # without error
        self._notebook = notebook
        self._code_cells = [i for i, cell in enumerate(notebook.cells) if _is_code(cell)]
        self._progress = Progress(len(self._code_cells), keep_stdout_clean=keep_stdout_clean)
        spec = KernelSpec(**build_spec(target, kernel, {}))
        self._client = _Client(
            notebook, spec, spec_name(target, kernel), self._progress, timeout=timeout
        )
        self._interrupted = False

    def text(self) -> str:
        """The notebook with its outputs, as JSON."""
        return str(_NBFORMAT.writes(self._notebook)) + "\n"

    async def execute(self) -> None:
        """Run all cells; the kernel is ended in any case.

        Raises:
            ExecutionError: a cell raised; the cells after it did not run.
            ExecutionTimeout: a cell took longer than ``timeout``.
            KernelDied: the kernel died; says why.
            LaunchTimeout: the kernel did not answer after its start.
            KeyboardInterrupt: Ctrl-C; the running cell was interrupted.
        """
        self._client.reset_execution_trackers()
        try:
            async with self._client.async_setup_kernel():
                self._interrupt_on_ctrl_c()
                self.has_run = True
                self.where.kernel_id = await self._client.kernel_id()
                for index in self._code_cells:
                    await self._execute_cell(index)
                await self._find_out_where()
                self._client.set_widgets_metadata()
        except CellExecutionError as exc:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise self._cell_error(exc) from exc
        except CellTimeoutError as exc:
            raise ExecutionTimeout(
                f"cell {self.cells_run + 1} took longer than {self._client.timeout:g} s",
                hint="Allow more with --timeout.",
            ) from exc
        except DeadKernelError as exc:
            if self._interrupted:  # a second Ctrl-C, which nbclient takes for a dead kernel
                raise KeyboardInterrupt from None
            raise KernelDied(self._why_dead(), hint="Its cells so far are in the output.") from exc
        except ClouditiaError:  # of the provisioner; some are ValueErrors
            raise
        except (LookupError, TypeError, ValueError, RecursionError) as exc:
            raise RemoteProtocolError(
                f"the kernel sent a message that cannot be read ({exc!r:.200})",
                hint="The cell's code wrote to the kernel's own channels; see what it calls.",
            ) from exc
        except RuntimeError as exc:  # what jupyter_client raises where a kernel does not get ready
            if "respond" in str(exc):
                raise LaunchTimeout(f"the kernel did not get ready: {exc}") from exc
            why = self._client.reason_of_death() or exc
            raise SessionError(f"the kernel did not get ready: {why}") from exc

    async def _execute_cell(self, index: int) -> None:
        cell = self._notebook.cells[index]
        self._progress.cell_started(cell.source)
        try:
            await self._client.async_execute_cell(
                cell, index, execution_count=self._client.code_cells_executed + 1
            )
        except CellExecutionError as exc:
            if exc.ename != KernelDied.__name__:
                await self._find_out_where()
            raise
        finally:
            self._progress.cell_done()
        self.cells_run += 1
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt_on_ctrl_c(self) -> None:
        """The first Ctrl-C interrupts the cell, which then ends the run; nbclient would kill."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        interrupts: set[asyncio.Future[None]] = set()
        manager: Any = self._client.km

        def on_interrupt() -> None:
            if self._interrupted and task is not None:
                task.cancel()
            self._interrupted = True
            interrupts.add(asyncio.ensure_future(manager.interrupt_kernel()))

        with contextlib.suppress(NotImplementedError):  # Windows: asyncio.run cancels this task
            loop.add_signal_handler(signal.SIGINT, on_interrupt)

    async def _find_out_where(self) -> None:
        with contextlib.suppress(Exception):  # a fact for the last line must not fail a run
            reply = await asyncio.wait_for(self._client.ask(_WHERE), _PROBE_TIMEOUT_S)
            # The answer is whatever the other side likes: Python's parser must not get to see
            # a deep one.
            facts = json.loads(ast.literal_eval(reply[:_MAX_WHERE_CHARS]))
            self.where.host = str(facts["host"])
            self.where.gpu = None if facts["gpu"] is None else str(facts["gpu"])

    def _cell_error(self, exc: CellExecutionError) -> ClouditiaError:
        if exc.ename == KernelDied.__name__:  # the kernel host's answer to pending requests
            return KernelDied(exc.evalue, hint="Its cells so far are in the output.")
        number = self.cells_run + 1
        cell = self._notebook.cells[self._code_cells[self.cells_run]]
        errors = [output for output in cell.outputs if output.output_type == "error"]
        traceback = [str(line) for line in errors[-1].traceback] if errors else []
        shown = "\n".join(traceback) if sys.stderr.isatty() else _plain("\n".join(traceback))
        return ExecutionError(
            f"cell {number} raised {exc.ename}: {exc.evalue}\n{shown}",
            ename=exc.ename,
            evalue=exc.evalue,
            traceback=traceback,
            cell=number,
        )

    def _why_dead(self) -> str:
        return self._client.reason_of_death() or "the kernel died"


class _OneSpec(KernelSpecManager):
    """A kernelspec manager that knows a single spec, from memory."""

    def __init__(self, spec: KernelSpec, **options: Any) -> None:
        super().__init__(**options)
        self._spec = spec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._spec


class _Client(NotebookClient):
    """nbclient with live output."""

    def __init__(
        self,
        notebook: Any,
        spec: KernelSpec,
        name: str,
        progress: Progress,
        *,
        timeout: float | None,
    ) -> None:
        quiet = logging.getLogger("clouditia.run")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        super().__init__(notebook, timeout=timeout, store_widget_state=True, log=quiet)
        self._spec = spec
        self._name = name
        self._progress = progress
        self._manager: Any = None  # nbclient forgets its own when it cleans up

    def create_kernel_manager(self) -> Any:
        self.km = AsyncKernelManager(
            kernel_name=self._name, kernel_spec_manager=_OneSpec(self._spec), log=self.log
        )
        self._manager = self.km
        return self.km

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            self._progress.text(msg["content"]["name"], msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)

    def _cleanup_kernel(self) -> None:
        """The hook that nbclient leaves for the exit where a start fails after its own cleanup."""
        if self.km is not None:
            super()._cleanup_kernel()

    async def kernel_id(self) -> str:
        provisioner = getattr(self.km, "provisioner", None)
        info = {} if provisioner is None else await provisioner.get_provisioner_info()
        return str(info.get("clouditia", {}).get("kernel_id", ""))

    async def ask(self, expression: str) -> str:
        """The text of a Python expression's value; raises KeyError where that fails."""
        client: Any = self.kc
        reply = await client.execute(
            "", silent=True, user_expressions={"it": expression}, reply=True
        )
        return str(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])

    def reason_of_death(self) -> str:
        return str(getattr(getattr(self._manager, "provisioner", None), "last_reason", ""))


def _is_code(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _plain(text: str) -> str:
    """Without the colours that IPython puts into tracebacks."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
