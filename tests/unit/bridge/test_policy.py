"""What ends a kernel and what only lets go of it, row by row."""

from __future__ import annotations

from typing import Literal

import pytest

from clouditia.bridge.policy import Fate, Occasion, fate_of_kernel

ROWS = [
    (Occasion.SHUTDOWN_REQUEST, "shutdown", True, Fate.ENDED),
    (Occasion.SHUTDOWN_REQUEST, "shutdown", False, Fate.ENDED),
    (Occasion.SHUTDOWN_REQUEST, "detach", True, Fate.ENDED),
    (Occasion.TERMINATED, "shutdown", True, Fate.ENDED),
    (Occasion.TERMINATED, "shutdown", False, Fate.KEPT),
    (Occasion.TERMINATED, "detach", True, Fate.KEPT),
    (Occasion.TOLD_TO_END, "shutdown", True, Fate.ENDED),
    (Occasion.TOLD_TO_END, "detach", True, Fate.ENDED),
    (Occasion.TOLD_TO_DETACH, "shutdown", True, Fate.KEPT),
    (Occasion.KERNEL_DIED, "shutdown", True, Fate.ENDED),
    (Occasion.KERNEL_DIED, "shutdown", False, Fate.KEPT),
    (Occasion.KERNEL_DIED, "detach", True, Fate.KEPT),
    (Occasion.PARENT_GONE, "shutdown", False, Fate.KEPT),
    (Occasion.PARENT_GONE, "shutdown", True, Fate.KEPT),
]


@pytest.mark.parametrize(("occasion", "on_close", "is_parent_alive", "fate"), ROWS)
def test_the_life_cycle_table(
    occasion: Occasion, on_close: Literal["shutdown", "detach"], is_parent_alive: bool, fate: Fate
) -> None:
    assert fate_of_kernel(occasion, on_close=on_close, is_parent_alive=is_parent_alive) is fate


@pytest.mark.parametrize("occasion", Occasion)
@pytest.mark.parametrize("is_parent_alive", [True, False])
def test_a_guest_never_ends_a_kernel(occasion: Occasion, is_parent_alive: bool) -> None:
    fate = fate_of_kernel(
        occasion, on_close="shutdown", is_parent_alive=is_parent_alive, is_guest=True
    )
    assert fate is Fate.KEPT
