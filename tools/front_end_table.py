"""Write the table of docs/front-ends/README.md: front end by feature, each cell a test.

``front_end_table.py`` writes it, ``--check`` says whether it is up to date. A cell names a test
that must exist; what it shows for that front end is the feature of its column.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "front-ends" / "README.md"
BEGIN, END = "<!-- table: make docs -->", "<!-- end of table -->"

FEATURES = (
    "text",
    "rich",
    "widgets",
    "stdin",
    "interrupt",
    "restart",
    "debugger",
    "binary",
    "reconnect",
)
BROWSER = "tests/front_ends/browser"
RAW, RAW_LIFE = "tests/front_ends/test_vscode_raw.py", "tests/front_ends/test_vscode_raw_life.py"
SERVER = "tests/front_ends/test_vscode_server.py"
CONSOLE, QT = "tests/front_ends/test_console.py", "tests/front_ends/test_qtconsole.py"
HEADLESS = "tests/front_ends/test_headless.py"
HOP, CLIENT = "tests/front_ends/test_gateway_url.py", "tests/front_ends/test_kernel_client.py"
LEGACY, EG = "tests/front_ends/test_legacy_websocket.py", "tests/peers/test_eg_client.py"
BRIDGE = "tests/integration/test_front_end_messages.py"

#: Why a front end has no such feature, or which test of its parts stands in for a screen.
NOTES = {
    "a": "the front end has no such thing",
    "b": "tested by its messages, not on its screen",
    "c": "its client cannot read binary messages: the page must be reloaded (gateway-url.md)",
    "d": "it does not reconnect; behind the bridge it does not have to",
}

Cell = str  # "file::test", "a" (a note), or "b file::test" (a note and a test)
PAGES_OF_BROWSER: dict[str, Cell] = {
    "text": f"{BROWSER}/test_cells.py::test_text_plots_and_progress_bars_are_shown",
    "rich": f"{BROWSER}/test_cells.py::test_text_plots_and_progress_bars_are_shown",
    "widgets": f"{BROWSER}/test_cells.py::test_a_slider_moves_in_the_page_and_in_the_kernel",
    "stdin": f"{BROWSER}/test_cells.py::test_a_question_is_answered_in_the_page",
    "interrupt": f"{BROWSER}/test_cells.py::test_the_stop_button_interrupts_the_remote_cell",
    "restart": f"{BROWSER}/test_cells.py::"
    "test_a_restart_empties_the_same_kernel_without_a_word_of_a_crash",
    "debugger": f"b {BRIDGE}::test_a_debugger_sets_a_breakpoint_stops_there_and_goes_on",
    "binary": f"b {BRIDGE}::test_a_comm_of_the_front_end_carries_a_megabyte_both_ways",
    "reconnect": f"{BROWSER}/test_coming_back.py::"
    "test_a_page_shows_every_line_once_although_the_gateway_was_killed",
}
HEADLESS_RUN: dict[str, Cell] = {
    "text": f"{HEADLESS}::test_the_docs_command_runs_the_notebook_remotely_and_ends_its_kernel",
    "rich": f"b {BRIDGE}::test_rich_display_and_its_update",
    "widgets": f"b {BRIDGE}::test_a_comm_of_the_kernel_opens_sends_and_closes_with_a_megabyte",
    "stdin": "a",
    "interrupt": f"{HEADLESS}::test_ctrl_c_ends_the_run_and_the_remote_kernel",
    "restart": "a",
    "debugger": "a",
    "binary": f"b {BRIDGE}::test_a_comm_of_the_kernel_opens_sends_and_closes_with_a_megabyte",
    "reconnect": "tests/faults/test_lines_through_cuts.py::"
    "test_every_line_comes_once_and_in_order_through_50_cuts",
}
FRONT_ENDS: dict[str, dict[str, Cell]] = {
    "[JupyterLab](jupyterlab.md)": PAGES_OF_BROWSER,
    "[Notebook 7](notebook.md)": PAGES_OF_BROWSER,
    "[VS Code, kernelspec](vscode.md)": {
        "text": f"{RAW}::test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made",
        "rich": f"{RAW}::test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made",
        "widgets": f"{RAW}::test_a_comm_that_the_kernel_opens_reaches_the_target_in_the_window",
        "stdin": f"{RAW}::test_input_and_a_password_are_asked_for_in_the_window",
        "interrupt": f"{RAW}::test_the_interrupt_button_ends_the_cell_and_keeps_the_kernel",
        "restart": f"{RAW_LIFE}::test_restarts_in_a_row_leave_one_kernel_and_no_process",
        "debugger": f"{RAW}::test_the_debugger_attaches_on_control_and_stops_at_a_breakpoint",
        "binary": f"{RAW}::test_a_widget_sends_a_megabyte_both_ways_over_a_subshell",
        "reconnect": f"{RAW}::"
        "test_a_cell_that_prints_while_the_gateway_is_killed_shows_every_line_once",
    },
    "[VS Code, server](vscode.md)": {
        "text": f"{SERVER}::"
        "test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made",
        "rich": f"{SERVER}::"
        "test_text_errors_and_pictures_come_in_the_order_in_which_they_were_made",
        "widgets": f"{SERVER}::test_a_widget_sends_a_megabyte_both_ways",
        "stdin": f"{SERVER}::test_input_and_a_password_are_asked_for_in_the_window",
        "interrupt": f"{SERVER}::test_the_interrupt_button_ends_the_cell_and_keeps_the_kernel",
        "restart": f"{SERVER}::test_restarting_empties_the_namespace_under_the_same_kernel_id",
        "debugger": f"b {BRIDGE}::test_a_debugger_sets_a_breakpoint_stops_there_and_goes_on",
        "binary": f"{SERVER}::test_a_widget_sends_a_megabyte_both_ways",
        "reconnect": f"{SERVER}::test_a_cell_that_prints_while_the_websocket_is_cut_completes",
    },
    "[jupyter console](console.md)": {
        "text": f"{CONSOLE}::test_the_console_shows_results_text_and_tracebacks_and_nothing_else",
        "rich": "a",
        "widgets": "a",
        "stdin": f"{CONSOLE}::test_the_console_asks_and_hands_the_answer_to_the_remote_cell",
        "interrupt": f"{CONSOLE}::test_ctrl_c_ends_the_busy_cell_and_the_console_goes_on",
        "restart": "a",
        "debugger": "a",
        "binary": "a",
        "reconnect": f"{CONSOLE}::test_a_gateway_killed_and_restarted_costs_no_line_of_the_cell",
    },
    "[qtconsole](qtconsole.md)": {
        "text": f"{QT}::test_the_window_shows_text_results_and_tracebacks",
        "rich": f"{QT}::test_a_plot_is_a_picture_between_the_lines",
        "widgets": "a",
        "stdin": f"b {BRIDGE}::test_input_and_getpass_ask_the_front_end",
        "interrupt": f"{QT}::test_the_interrupt_action_ends_the_cell_and_keeps_the_variables",
        "restart": f"{QT}::test_the_restart_action_begins_with_an_empty_namespace",
        "debugger": "a",
        "binary": "a",
        "reconnect": "b tests/faults/test_gateway_killed.py::test_row",
    },
    "[nbclient](nbclient.md), [papermill](papermill.md), [nbconvert](nbconvert.md)": HEADLESS_RUN,
    "[`--gateway-url`](gateway-url.md)": {
        "text": f"{HOP}::test_cells_print_and_fail",
        "rich": f"{HOP}::test_cells_print_and_fail",
        "widgets": "c",
        "stdin": "c",
        "interrupt": f"{HOP}::test_an_interrupt_ends_the_cell_and_keeps_the_variables",
        "restart": f"{HOP}::test_a_restart_empties_the_namespace",
        "debugger": "c",
        "binary": f"c {HOP}::"
        "test_a_binary_message_ends_the_page_and_a_reload_finds_kernel_and_variables",
        "reconnect": f"{HOP}::test_a_cut_costs_no_line",
    },
    "[jupyter-kernel-client](stock-clients.md)": {
        "text": f"{CLIENT}::test_cells_give_text_results_errors_and_take_answers",
        "rich": f"{CLIENT}::test_cells_give_text_results_errors_and_take_answers",
        "widgets": "a",
        "stdin": f"{CLIENT}::test_cells_give_text_results_errors_and_take_answers",
        "interrupt": f"{CLIENT}::test_an_interrupt_keeps_the_variables_and_a_restart_does_not",
        "restart": f"{CLIENT}::test_an_interrupt_keeps_the_variables_and_a_restart_does_not",
        "debugger": "a",
        "binary": f"{CLIENT}::test_variables_are_listed_and_travel_both_ways",
        "reconnect": f"{CLIENT}::test_with_reconnect_interval_a_cut_costs_no_line",
    },
    "[Enterprise Gateway's client](plain-targets.md)": {
        "text": f"{EG}::test_results_text_and_rich_output_arrive",
        "rich": f"{EG}::test_results_text_and_rich_output_arrive",
        "widgets": "a",
        "stdin": "a",
        "interrupt": f"{EG}::test_an_interrupt_ends_the_cell_and_keeps_the_kernel",
        "restart": f"{EG}::test_a_restart_empties_the_namespace",
        "debugger": "a",
        "binary": "a",
        "reconnect": "d",
    },
    "[a legacy websocket](stock-clients.md)": {
        "text": f"{LEGACY}::test_a_cell_answers_in_json_text_with_its_channel_in_each_message",
        "rich": f"{LEGACY}::test_a_cell_answers_in_json_text_with_its_channel_in_each_message",
        "widgets": f"{LEGACY}::test_buffers_pass_both_ways_in_binary_frames",
        "stdin": f"{LEGACY}::test_a_question_and_its_answer_pass",
        "interrupt": "a",
        "restart": "a",
        "debugger": "a",
        "binary": f"{LEGACY}::test_buffers_pass_both_ways_in_binary_frames",
        "reconnect": f"{LEGACY}::"
        "test_what_was_printed_during_an_absence_is_there_for_the_same_session_id",
    },
}


def table() -> str:
    """The table, its notes and the tests that it refers to."""
    tests: dict[str, int] = {}
    lines = [f"| front end | {' | '.join(FEATURES)} |", "|---" * (len(FEATURES) + 1) + "|"]
    for name, cells in FRONT_ENDS.items():
        shown = [_shown(cells[feature], tests) for feature in FEATURES]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    notes = [f"{letter}: {text}." for letter, text in NOTES.items()]
    listed = [f"{number}. `{test}`" for test, number in tests.items()]
    return "\n".join([*lines, "", "  \n".join(notes), "", "The numbers are tests:", "", *listed])


def _shown(cell: Cell, tests: dict[str, int]) -> str:
    note, _, test = cell.rpartition(" ") if "::" in cell else (cell, "", "")
    number = f"{tests.setdefault(test, len(tests) + 1)}" if test else "-"
    return f"{number} {note}".strip()


def missing_tests() -> list[str]:
    """Tests that the table names but that do not exist."""
    named = {cell.split()[-1] for cells in FRONT_ENDS.values() for cell in cells.values()}
    return sorted(test for test in named if "::" in test and not _exists(test))


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    if not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def page_with(text: str, new_table: str) -> str:
    """The page with another table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{new_table}\n{END}{after}"


def main() -> int:
    """Write the table or check it."""
    if missing := missing_tests():
        print("docs/front-ends: these tests do not exist:\n  " + "\n  ".join(missing))
        return 1
    present = PAGE.read_text(encoding="utf-8")
    wanted = page_with(present, table())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if present != wanted:
        print(
            "docs/front-ends/README.md is not what tools/front_end_table.py says: run `make docs`"
        )
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main())
