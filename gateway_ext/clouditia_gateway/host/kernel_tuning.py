"""What the host changes in a kernel so that nothing is lost before it reaches the host.

A stock ipykernel publishes its output over a ZMQ socket that holds 1000 messages for a subscriber
and drops what is beyond. A busy machine, or a loop of displays, needs no more than that to lose
output, and the idle status with it. The limit can be lifted from inside.
"""

from __future__ import annotations

from collections.abc import Mapping

_LIFT_LIMIT = """
try:
    import zmq
    from IPython import get_ipython
    thread = get_ipython().kernel.iopub_thread
    thread.schedule(lambda: thread.socket.set(zmq.SNDHWM, 0))
except Exception:
    pass
"""


def tuning_request(info: Mapping[str, object]) -> dict[str, object] | None:
    """Content of an ``execute_request`` for a kernel that has just started; None for none.

    Only IPython is asked: other kernels, also some that call their language Python, take code for
    something else. It runs in a namespace of its own, silently, before the first cell.

    Args:
        info: The kernel's ``kernel_info_reply``.
    """
    if info.get("implementation") != "ipython":
        return None
    return {
        "code": f"exec({_LIFT_LIMIT!r}, {{}})",
        "silent": True,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": False,
    }
