"""What came of a turn, as its page has it: files, figures, and the user's corrections."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.demo.corrections import FILE, Correction, Found, corrected, keep
from agent.demo.drawings import figures, findings
from agent.demo.files import Offer, write_results
from agent.output.writer import GEOJSON_FILE, RESULT_FILE
from agent.plan import Call
from agent.record.trace import export
from agent.session import Outcome


class Result:
    """The files of a turn, written into a folder.

    Attributes:
        calls: the plan's calls by reference.
        features: the name of the GeoJSON among them.
        noted: the corrections as `viewer.js` draws them: x, y in px of the whole image, verdict.
    """

    def __init__(
        self, outcome: Outcome, calls: Mapping[str, Call], folder: Path, notes: tuple[str, ...]
    ) -> None:
        """Write the files into a new `folder`; `notes` are of how the image was read.

        Raises:
            BadInput: as `write_results`.
        """
        self.calls = calls
        self._answer, self._trace, self._folder = outcome.answer, outcome.trace, folder
        self._found = Found.of(outcome)
        self._name = secrets.token_hex(8)
        self._named, features = write_results(outcome, folder, notes)
        self._figures = figures(self._answer, self.calls, features)
        self.features = f"{folder.name}/{GEOJSON_FILE}"
        self.noted: list[tuple[int, int, str]] = []

    @property
    def files(self) -> dict[str, Offer]:
        """The files, by their names below the conversation's address."""
        return {f"{self._folder.name}/{one.path.name}": one for one in self._named.values()}

    def findings(self, address: str) -> str:
        """The figures and links as HTML; `address` is the conversation's."""
        return findings(self._figures, self._links(address))

    def told(self, address: str) -> dict[str, Any]:
        """What `result.json` holds, with the addresses of all files by what they are."""
        result: dict[str, Any] = json.loads((self._folder / RESULT_FILE).read_text("utf-8"))
        return {**result, "files": self._links(address)}

    def correct(self, correction: Correction, shared: Path | None) -> None:
        """Keep a correction in a file to download, and beside a copy of the trace below `shared`.

        Raises:
            BadInput: it is of nothing that this turn found or could have found.
        """
        lines = corrected(self._found, correction)
        keep(lines, self._folder)
        if shared is not None:
            export(self._trace, shared / self._name, self._found.store)
            keep(lines, shared / self._name)
        self._named["corrections (JSON lines)"] = Offer(self._folder / FILE)
        self.noted += [(*place, correction.verdict) for place in correction.places]

    def _links(self, address: str) -> dict[str, str]:
        names = {what: one.path.name for what, one in self._named.items()}
        return {what: f"{address}/{self._folder.name}/{name}" for what, name in names.items()}
