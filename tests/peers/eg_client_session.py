"""Enterprise Gateway's own Python client at work; runs in ``build/peers/eg``, unchanged.

``eg_client_session.py HOST:PORT KERNEL_NAME FOLDER`` prints what it saw as one JSON object.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

# Only the environment that runs this file has it.
from enterprise_gateway.client.gateway_client import (  # type: ignore[import-not-found]
    GatewayClient,
)

DEADLINE_S = 60.0
MARK = "runs"


def main(host: str, kernel_name: str, folder: str) -> None:
    client = GatewayClient(host=host)
    kernel = client.start_kernel(kernel_name, username="mallory")
    seen: dict[str, Any] = {"kernel_id": kernel.kernel_id}
    try:
        seen["result"] = kernel.execute("x = 6 * 7\nx")
        seen["printed"] = kernel.execute("print('one')\nprint('two')")
        seen["html"] = kernel.execute("from IPython.display import HTML\ndisplay(HTML('<b>b</b>'))")
        seen["error"] = kernel.execute("1 / 0")
        seen["user"] = kernel.execute("import os; print(os.environ['KERNEL_USERNAME'])")
        seen["state"] = kernel.get_state()
        seen["interrupted"] = _interrupt(kernel, Path(folder) / MARK)
        seen["after interrupt"] = kernel.execute("x + 1")
        seen["restarted"] = kernel.restart()
        seen["after restart"] = kernel.execute("x")
    finally:
        client.shutdown_kernel(kernel)
    print(json.dumps(seen))


def _interrupt(kernel: Any, mark: Path) -> Any:
    """Interrupt a cell that says by a file that it runs."""
    code = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)"
    result: list[Any] = []
    runner = threading.Thread(target=lambda: result.append(kernel.execute(code)))
    runner.start()
    never, waited_s = threading.Event(), 0.0
    while not mark.exists() and waited_s < DEADLINE_S:
        never.wait(0.05)
        waited_s += 0.05
    kernel.interrupt()
    runner.join(DEADLINE_S)
    return result[0] if result else "the cell went on"


if __name__ == "__main__":
    main(*sys.argv[1:])
