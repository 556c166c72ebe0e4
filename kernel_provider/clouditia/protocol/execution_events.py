"""The states of an execution and what it tells: the vocabulary of :mod:`.execution`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, Optional, Union

from clouditia.errors import ClouditiaError
from clouditia.protocol.execution_outputs import Output


class ExecutionState(Enum):
    """Where a request stands."""

    SENT = "sent"  # nothing heard yet
    BUSY = "busy"  # the kernel works on it
    REPLIED = "replied"  # the reply is here, output may follow
    IDLE = "idle"  # all output is here, the reply is not
    DONE = "done"  # reply and idle are here
    LOST = "lost"  # there will be no answer; see `Execution.failure`


@dataclass(frozen=True)
class StateChanged:
    """The request moved to ``state``."""

    state: ExecutionState


@dataclass(frozen=True)
class Started:
    """The kernel began to run the code as number ``execution_count``."""

    code: str
    execution_count: Optional[int]


@dataclass(frozen=True)
class Printed:
    """The code wrote ``text`` to ``name``, which is stdout or stderr."""

    name: str
    text: str


@dataclass(frozen=True)
class Displayed:
    """A display, a result or an error came; ``output`` has nbformat's form."""

    output: Output
    display_id: Optional[str] = None


@dataclass(frozen=True)
class DisplayUpdated:
    """``count`` outputs, of this and other executions, show other data now."""

    display_id: str
    data: Dict[str, Any]
    metadata: Dict[str, Any]
    count: int


@dataclass(frozen=True)
class Cleared:
    """The outputs are to be removed, at once or when the next one comes (``wait``)."""

    wait: bool


@dataclass(frozen=True)
class InputRequested:
    """The code waits for a line of input; answer with an ``input_reply`` on stdin."""

    prompt: str
    is_password: bool


@dataclass(frozen=True)
class Replied:
    """The reply came: ``status`` is ok, error or aborted."""

    status: str
    content: Dict[str, Any]


@dataclass(frozen=True)
class AlreadyRan:
    """The host knows this request: its messages are in [first, last], last None: still running."""

    first: int
    last: Optional[int]


@dataclass(frozen=True)
class GapNoted:
    """Messages ``first`` to ``last`` are gone; the outputs may be incomplete."""

    first: int
    last: int


@dataclass(frozen=True)
class Lost:
    """There will be no answer, because of ``error``."""

    error: ClouditiaError


ExecutionEvent = Union[
    StateChanged,
    Started,
    Printed,
    Displayed,
    DisplayUpdated,
    Cleared,
    InputRequested,
    Replied,
    AlreadyRan,
    GapNoted,
    Lost,
]
