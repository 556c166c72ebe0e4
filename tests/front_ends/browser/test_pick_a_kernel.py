"""The remote kernel in the stock menus of JupyterLab and Notebook 7, beside the local one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import BrowserContext, Locator, expect
from tests.front_ends.browser.desk import LOCAL_KERNEL, Desk, remote_kernels, runs_on
from tests.front_ends.browser.programs import FileList, JupyterLab, Launcher, Program

if TYPE_CHECKING:
    from tests.front_ends.browser.open_notebook import OpenNotebook

#: What users read: the kernel, then the target it is on.
REMOTE, LOCAL = "Python 3 · lab", "Python 3 (ipykernel)"
OTHER_REMOTE = "Python 3 · lab2"


def test_the_launcher_of_jupyterlab_starts_the_remote_kernel(
    desk: Desk, browser: BrowserContext
) -> None:
    launcher = Launcher(desk, browser)
    expect(launcher.card(LOCAL)).to_be_visible()
    card = launcher.card(REMOTE)
    assert is_whole(card.locator(".jp-LauncherCard-label"))
    assert is_drawn(card.locator("img"))
    uses_the_gateway(launcher.start(REMOTE), desk)


def test_the_new_menu_of_notebook_7_starts_the_remote_kernel(
    desk: Desk, browser: BrowserContext
) -> None:
    files = FileList(desk, browser).open_new_menu()
    expect(files.item(LOCAL)).to_be_visible()
    assert is_whole(files.item(REMOTE).locator(".lm-Menu-itemLabel"))
    notebook = files.start(REMOTE)
    uses_the_gateway(notebook, desk)
    logo = notebook.page.locator(".jp-NotebookKernelLogo img")
    assert logo.get_attribute("title") == REMOTE
    assert is_drawn(logo)


def test_the_kernel_picker_moves_a_notebook_to_the_gateway_and_back(
    program: Program, desk: Desk
) -> None:
    notebook = program.open_new(LOCAL_KERNEL)
    assert not runs_on(desk.lab, notebook.pid())
    notebook.pick_kernel(REMOTE)
    uses_the_gateway(notebook, desk)
    notebook.pick_kernel(LOCAL)
    assert not runs_on(desk.lab, notebook.pid())
    assert remote_kernels(desk.lab) == []


def test_one_jupyterlab_shows_notebooks_on_two_gateways_and_a_local_one(
    desk: Desk, browser: BrowserContext
) -> None:
    with desk.another_gateway("lab2") as other:
        kernels = {
            desk.write_notebook(desk.lab.kernel_name()): REMOTE,
            desk.write_notebook(other.kernel_name()): OTHER_REMOTE,
            desk.write_notebook(LOCAL_KERNEL): LOCAL,
        }
        first, *rest = kernels
        lab = JupyterLab(desk, browser)
        notebooks = {first: lab.open(first)}
        for path in rest:
            notebooks[path] = lab.open_beside(notebooks[first], path)
        pids = {}
        for path, kernel in kernels.items():
            lab.show(notebooks[path])
            notebooks[path].wait_idle()
            expect(notebooks[path].kernel_name).to_have_text(kernel)
            pids[kernel] = notebooks[path].pid()
        assert [runs_on(desk.lab, pid) for pid in pids.values()] == [True, False, False]
        assert [runs_on(other, pid) for pid in pids.values()] == [False, True, False]
        for path, kernel in kernels.items():  # nobody got another one's kernel meanwhile
            lab.show(notebooks[path])
            assert notebooks[path].pid() == pids[kernel]


def uses_the_gateway(notebook: OpenNotebook, desk: Desk) -> None:
    """The notebook shows the remote kernel, and its cells run there."""
    notebook.wait_idle()
    expect(notebook.kernel_name).to_have_text(REMOTE)
    assert runs_on(desk.lab, notebook.pid())
    (kernel,) = remote_kernels(desk.lab)
    assert kernel["name"] == "python3"


def is_whole(text: Locator) -> bool:
    """Whether a text is shown in full."""
    return bool(
        text.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight")
    )


def is_drawn(image: Locator) -> bool:
    """Whether a picture was loaded and has a size."""
    return bool(image.evaluate("e => e.complete && e.naturalWidth > 0 && e.clientWidth > 0"))
