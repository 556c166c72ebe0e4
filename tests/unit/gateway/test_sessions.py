from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.stubs import ADA, BOB, ROOT, Site
from tests.unit.gateway.test_registry import with_site

from clouditia.errors import KernelNotFound, PathNotAllowed
from clouditia_gateway.errors import BadRequestError, NotFoundError
from clouditia_gateway.sessions import SessionRequest


def request(**body: Any) -> SessionRequest:
    return SessionRequest.from_body(body)


def test_two_people_with_one_path_have_two_sessions_and_two_kernels(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        adas = await site.sessions.create(request(path="Untitled.ipynb"), ADA, {})
        bobs = await site.sessions.create(request(path="Untitled.ipynb"), BOB, {})
        assert adas.session_id != bobs.session_id
        assert adas.kernel_id != bobs.kernel_id
        assert site.sessions.list(ADA) == [adas]
        assert len(site.sessions.list(ROOT)) == 2

    with_site(tmp_path, scenario)


def test_the_same_path_again_is_the_same_session_even_at_the_same_time(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        made = await asyncio.gather(
            *(site.sessions.create(request(path="a.ipynb"), ADA, {}) for _ in range(4))
        )
        assert len({session.session_id for session in made}) == 1
        assert len(site.engine.launched) == 1

    with_site(tmp_path, scenario)


def test_a_foreign_kernel_in_a_body_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        foreign = await site.start()
        stolen = request(path="x", kernel={"id": foreign.kernel_id})
        with pytest.raises(KernelNotFound):
            await site.sessions.create(stolen, BOB, {})
        assert site.sessions.list(ROOT) == []
        mine = await site.sessions.create(request(path="mine"), BOB, {})
        with pytest.raises(KernelNotFound):
            await site.sessions.update(mine.session_id, stolen, BOB)
        assert site.sessions.get(mine.session_id, BOB) == mine
        assert site.registry.get_kernel(mine.kernel_id, BOB)  # not ended by the refused change

    with_site(tmp_path, scenario)


def test_foreign_sessions_do_not_exist(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        session = await site.sessions.create(request(path="a"), ADA, {})
        with pytest.raises(NotFoundError):
            site.sessions.get(session.session_id, BOB)
        with pytest.raises(NotFoundError):
            await site.sessions.update(session.session_id, request(name="b"), BOB)
        with pytest.raises(NotFoundError):
            await site.sessions.delete(session.session_id, BOB)
        assert site.registry.get_kernel(session.kernel_id, ADA)

    with_site(tmp_path, scenario)


def test_deleting_a_session_ends_its_kernel(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        record = await site.start()
        made = request(path="a", kernel={"id": record.kernel_id})
        session = await site.sessions.create(made, ADA, {})
        await site.sessions.delete(session.session_id, ADA)
        with pytest.raises(KernelNotFound):
            site.registry.get_kernel(record.kernel_id, ADA)

    with_site(tmp_path, scenario)


def test_another_kernel_ends_the_old_one_only_if_no_session_names_it(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        shared, new = await site.start(), await site.start()
        kernel = {"id": shared.kernel_id}
        first = await site.sessions.create(request(path="a", kernel=kernel), ADA, {})
        second = await site.sessions.create(request(path="b", kernel=kernel), ADA, {})
        change = request(kernel={"id": new.kernel_id})
        await site.sessions.update(first.session_id, change, ADA)
        assert site.registry.get_kernel(shared.kernel_id, ADA)
        await site.sessions.update(second.session_id, change, ADA)
        with pytest.raises(KernelNotFound):
            site.registry.get_kernel(shared.kernel_id, ADA)

    with_site(tmp_path, scenario)


def test_a_rename_moves_the_session_but_not_onto_another(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        first = await site.sessions.create(request(path="a"), ADA, {})
        await site.sessions.create(request(path="b"), ADA, {})
        with pytest.raises(BadRequestError, match="has this path"):
            await site.sessions.update(first.session_id, request(path="b"), ADA)
        moved = await site.sessions.update(first.session_id, request(path="c", name="n"), ADA)
        assert (moved.path, moved.name, moved.kernel_id) == ("c", "n", first.kernel_id)
        model = site.sessions.model(moved, ADA)
        assert model["notebook"] == {"path": "c", "name": "n"}
        assert model["kernel"]["id"] == first.kernel_id

    with_site(tmp_path, scenario)


def test_the_older_form_with_notebook_is_understood() -> None:
    parsed = request(notebook={"path": "a.ipynb", "name": "n"}, kernel={"name": "python3"})
    assert parsed == SessionRequest("a.ipynb", "n", "notebook", None, "python3")


@pytest.mark.parametrize(
    "body",
    [{"path": 1}, {"path": "a", "kernel": []}, {"path": "a", "kernel": {"id": 3}}, {"name": {}},
     {"path": "a" * 5000}, {"type": ["x"]}, {"notebook": 3}, {"name": "\ud800"}],
)  # fmt: skip
def test_a_body_of_the_wrong_shape_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        SessionRequest.from_body(body)


def test_a_path_that_climbs_is_refused_and_one_is_needed(tmp_path: Path) -> None:
    with pytest.raises(PathNotAllowed):
        request(path="../x")

    async def scenario(site: Site) -> None:
        with pytest.raises(BadRequestError, match="needs a path"):
            await site.sessions.create(request(), ADA, {})

    with_site(tmp_path, scenario)
