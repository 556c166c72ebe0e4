"""What cells on a remote kernel show in the page, and what the page sends back."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.front_ends.browser.desk import WAIT_S, Desk, remote_kernels, runs_on
from tests.front_ends.browser.programs import BOTH_IF_THERE_IS_TIME, Program
from tests.front_ends.browser.restarts import has_new_kernel

from clouditia.testing.waiting import wait_until

PLOT = "%matplotlib inline\nimport matplotlib.pyplot as plt\n_ = plt.plot([1, 3, 2])"
SLIDER = "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, min=0, max=10)\nslider"
BAR = "from tqdm.notebook import tqdm\nfor step in tqdm(range(5), desc='steps'): pass"
QUESTION = "name = input('name? ')\nprint('hello', name)"
BUSY = "print('running', flush=True)\nwhile True: pass"


def test_text_plots_and_progress_bars_are_shown(program: Program, desk: Desk) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    assert notebook.run("print('hello')\n'a result'").outputs.all_text_contents() == [
        "hello\n",
        "'a result'",
    ]
    plot = notebook.run(PLOT).locator.locator("img")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") > 100
    bar = notebook.run(BAR).locator
    expect(bar.locator(".progress-bar-success")).to_be_visible()
    expect(bar).to_contain_text("steps: 100%")
    expect(bar).to_contain_text("5/5")


def test_a_slider_moves_in_the_page_and_in_the_kernel(program: Program, desk: Desk) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    cell = notebook.run(SLIDER).locator
    handle, readout = cell.get_by_role("slider"), cell.locator(".widget-readout")
    expect(readout).to_have_text("3")
    handle.drag_to(cell.locator(".widget-readout"), steps=5)  # beyond the end of the slider
    expect(readout).to_have_text("10")
    assert notebook.evaluate("slider.value") == "10"
    notebook.run("slider.value = 7")
    expect(readout).to_have_text("7")
    expect(handle).to_have_attribute("aria-valuetext", "7")


@BOTH_IF_THERE_IS_TIME
def test_a_question_is_answered_in_the_page(program: Program, desk: Desk) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    cell = notebook.start(QUESTION)
    expect(cell.locator.locator(".jp-Stdin-prompt")).to_have_text("name? ")
    cell.locator.locator(".jp-Stdin-input").fill("Ada")
    cell.locator.locator(".jp-Stdin-input").press("Enter")
    cell.wait_printed("hello Ada\n")
    cell.wait_done()


@BOTH_IF_THERE_IS_TIME
def test_the_stop_button_interrupts_the_remote_cell(program: Program, desk: Desk) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    notebook.run("kept = 'still here'")
    cell = notebook.start(BUSY)
    cell.wait_printed("running\n")
    assert notebook.status == "busy"
    notebook.press("interrupt")
    expect(cell.locator).to_contain_text("KeyboardInterrupt")
    cell.wait_done()
    assert notebook.evaluate("kept") == "still here"


def test_a_restart_empties_the_same_kernel_without_a_word_of_a_crash(
    program: Program, desk: Desk
) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    notebook.run("gone = 1")
    (before,) = remote_kernels(desk.lab)
    notebook.choose("Kernel", "Restart Kernel…")
    notebook.accept("Restart Kernel?")
    has_new_kernel(notebook, desk.lab)
    (after,) = remote_kernels(desk.lab)
    assert after["id"] == before["id"]


def test_shutting_down_ends_the_remote_kernel(program: Program, desk: Desk) -> None:
    notebook = program.open_new(desk.lab.kernel_name())
    pid = notebook.pid()
    notebook.choose("Kernel", "Shut Down Kernel")
    expect(notebook.kernel_name).to_have_text("No Kernel")
    wait_until(lambda: not remote_kernels(desk.lab), WAIT_S, what="no remote kernel")
    wait_until(lambda: not runs_on(desk.lab, pid), WAIT_S, what="no process of the kernel")
