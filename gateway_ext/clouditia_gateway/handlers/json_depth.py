"""How deep JSON may be nested: what walks a value later must not run out of stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def is_deeper_than(value: object, limit: int) -> bool:
    """Whether lists and objects are nested more than ``limit`` deep; walks without recursion."""
    level = list(_containers([value]))
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            return True
        level = [inner for outer in level for inner in _containers(_children(outer))]
    return False


def _containers(values: Iterable[object]) -> Iterator[dict[str, object] | list[object]]:
    for value in values:
        if isinstance(value, (dict, list)):
            yield value


def _children(container: dict[str, object] | list[object]) -> Iterable[object]:
    return container.values() if isinstance(container, dict) else container
