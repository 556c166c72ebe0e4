"""The outputs of one cell in nbformat's form, as a front end would show them.

Source: nbformat 4 (code cell outputs); Jupyter messaging (stream, display_data, clear_output,
update_display_data); where these leave room, what nbclient and JupyterLab do.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

#: An output as nbformat defines it; the dictionary that goes into the notebook.
Output = Dict[str, Any]


class OutputEntry:
    """One output; the text of a stream stays in pieces until somebody looks.

    So a hundred thousand lines cost a hundred thousand appends and one join.
    """

    def __init__(self, fields: Output) -> None:
        self.fields = fields
        self.pieces: List[str] = []

    def as_output(self) -> Output:
        """The output for a notebook; the same dictionary each time."""
        if self.pieces:
            self.pieces = ["".join(self.pieces)]
            self.fields["text"] = self.pieces[0]
        return self.fields


class DisplayRegistry:
    """Which outputs show which display id; share one among the executions of a notebook."""

    def __init__(self) -> None:
        self._entries: Dict[str, List[OutputEntry]] = {}

    def add(self, display_id: str, entry: OutputEntry) -> None:
        """Note that an output shows ``display_id``."""
        self._entries.setdefault(display_id, []).append(entry)

    def update(self, display_id: str, data: Any, metadata: Any) -> int:
        """Show other data in all outputs with ``display_id``; returns how many there are."""
        entries = self._entries.get(display_id, [])
        for entry in entries:
            entry.fields["data"] = data
            entry.fields["metadata"] = metadata
        return len(entries)

    def discard(self, removed: List[OutputEntry]) -> None:
        """Forget outputs that were cleared."""
        gone = {id(entry) for entry in removed}
        for display_id in list(self._entries):
            kept = [entry for entry in self._entries[display_id] if id(entry) not in gone]
            if kept:
                self._entries[display_id] = kept
            else:
                del self._entries[display_id]


class OutputList:
    """An ordered list of outputs: adjacent stream text is one output, clearing can wait."""

    def __init__(self, displays: DisplayRegistry) -> None:
        self._displays = displays
        self._entries: List[OutputEntry] = []
        self._clears_next = False

    def as_list(self) -> List[Output]:
        """The outputs for a notebook; the same dictionaries each time, updated in place."""
        return [entry.as_output() for entry in self._entries]

    def print(self, name: str, text: str) -> None:
        """Append text of stdout or stderr."""
        self._clear_if_due()
        last = self._entries[-1] if self._entries else None
        if last is None or not last.pieces or last.fields["name"] != name:
            last = OutputEntry({"output_type": "stream", "name": name, "text": ""})
            self._entries.append(last)
        last.pieces.append(text)

    def append(self, output: Output, display_id: Optional[str] = None) -> None:
        """Append a display, a result or an error; other outputs of its display id follow it."""
        self._clear_if_due()
        entry = OutputEntry(output)
        if display_id is not None:
            self._displays.update(display_id, output["data"], output["metadata"])
            self._displays.add(display_id, entry)
        self._entries.append(entry)

    def clear(self, *, wait: bool) -> None:
        """Remove all outputs, at once or when the next one comes."""
        self._clears_next = wait
        if not wait:
            self._displays.discard(self._entries)
            self._entries = []

    def _clear_if_due(self) -> None:
        if self._clears_next:
            self.clear(wait=False)
