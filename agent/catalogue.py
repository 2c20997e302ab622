"""What `histopilot models` shows: each model, its licence, its files, what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from agent.planners import load as load_planner
from models.backend import GateBackend, NucleiBackend, RegionBackend, TissueBackend
from models.backends import LOADERS, load
from models.external.config import SLOTS, configured, read_config
from models.planner.decode import ADAPTER
from models.planner.fetch import GGUF_SHA256, file_sha256, find_base
from models.vision.weights import WEIGHTS

OK = "ok"
NO_WEIGHTS = "no weights"
NOT_CONFIGURED = "not configured"
_PURPOSES: dict[type, str] = {
    GateBackend: "H&E check",
    TissueBackend: "organ",
    RegionBackend: "regions",
    NucleiBackend: "nuclei",
}
_SHOWN = 2


@dataclass(frozen=True)
class File:
    """A weights file: its name, its size in bytes, its SHA-256 (64 hex digits)."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Model:
    """One model, as `models list --json` prints it.

    Attributes:
        name: as `--backend` and `--planner` take it.
        purpose: what it is for.
        licence: of its weights.
        state: `ok` where its files are those that their cards or the user's configuration name,
            `no weights`, `not configured`, or in one line what is wrong.
        files: its weights.
        vocabulary: how many concepts and organs it knows; None where it was not loaded.
        measured: figures, as its backend or the JSON file beside its weights states them.
    """

    name: str
    purpose: str
    licence: str
    state: str
    files: tuple[File, ...] = ()
    vocabulary: int | None = None
    measured: tuple[dict[str, Any], ...] = ()

    @property
    def broken(self) -> bool:
        """Whether something that should be there is not, or is not what it should be."""
        return self.state not in (OK, NO_WEIGHTS, NOT_CONFIGURED)


def models(*, loaded: bool = False) -> Iterator[Model]:
    """Every backend and the planner's model, their checksums verified.

    Args:
        loaded: load the production backends and the language model too, which takes a while.

    Raises:
        ModelUnavailable: the configuration of the production backends can't be read.
    """
    there = read_config()
    for name in LOADERS:
        slot = SLOTS.get(name)
        if slot is None:
            yield _or_fault(Model(name, "", "", OK), partial(_embedded, name))
            continue
        known = Model(name, slot.purpose, slot.licence, NOT_CONFIGURED)
        yield _or_fault(known, partial(_production, name, loaded)) if name in there else known
    yield _or_fault(Model("local", "planner", "Apache-2.0", OK), partial(_planner, loaded))


def _or_fault(known: Model, look: Callable[[], Model]) -> Model:
    """What a look at a model gives; where none is possible, what is known, its state the reason."""
    try:
        return look()
    except Exception as fault:  # noqa: BLE001 - whatever stops a model from loading is its state
        return replace(known, state=_line(fault))


def _embedded(name: str) -> Model:
    """A backend that comes with the package."""
    backend = load(name)
    shipped = [WEIGHTS / file for file in backend.info.weights if (WEIGHTS / file).exists()]
    files = tuple(_file(path) for path in shipped)
    figures = [figure for path in shipped for figure in _figures(path)]
    if not figures:
        known = {**getattr(backend, "regions", {}), **getattr(backend, "cells", {})}
        figures = [{"task": concept, **vars(q)} for concept, q in known.items() if q is not None]
    return Model(
        name,
        ", ".join(what for kind, what in _PURPOSES.items() if isinstance(backend, kind)),
        backend.info.licence,
        _state(shipped),
        files,
        _vocabulary(backend),
        tuple(figures),
    )


def _production(name: str, loaded: bool) -> Model:
    slot = SLOTS[name]
    entry = configured(name, slot.entry)
    vocabulary = _vocabulary(load(name)) if loaded else None
    licence = getattr(entry, "licence", slot.licence)
    return Model(name, slot.purpose, licence, OK, (_file(entry.checkpoint),), vocabulary)


def _planner(loaded: bool) -> Model:
    base = find_base()
    files = tuple(_file(path) for path in (ADAPTER, base) if path is not None)
    state = _state([ADAPTER])
    if base is not None and files[-1].sha256 != GGUF_SHA256:
        state = f"{base.name} is not the pinned file: remove it, then `histopilot models pull`"
    planner = load_planner("local")
    if loaded:
        planner.info()
    return Model("local", "planner", "Apache-2.0", state, files)


def _file(path: Path) -> File:
    return File(path.name, path.stat().st_size, file_sha256(path))


def _state(paths: Sequence[Path]) -> str:
    """Whether each weights file is the one whose SHA-256, or its first digits, its card states."""
    for path in paths:
        card = path.with_suffix(".md")
        if file_sha256(path)[:12] not in card.read_text(encoding="utf-8"):
            return f"{path.name} is not the file that {card.name} describes"
    return OK if paths else NO_WEIGHTS


def _figures(weights: Path) -> list[dict[str, Any]]:
    """What the JSON file beside a weights file says was measured of it, not of other weights."""
    path = weights.with_suffix(".json")
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    figures: list[dict[str, Any]] = record.get("figures", [])
    return figures if record.get("sha256") == file_sha256(weights) else []


def _vocabulary(backend: Any) -> int:
    return sum(len(getattr(backend, name, ())) for name in ("organs", "regions", "cells"))


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__


def table(rows: Sequence[Model]) -> Table:
    """The models for people; of the measured figures the first ones."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("model", "for", "licence", "size", "state", "knows", "measured"):
        shown.add_column(heading, overflow="fold")
    for row in rows:
        size = sum(file.bytes for file in row.files)
        shown.add_row(
            row.name,
            row.purpose,
            row.licence,
            f"{size / 1e6:.1f} MB" if size else "",
            escape(row.state),
            "" if row.vocabulary is None else str(row.vocabulary),
            "; ".join(
                f"{one['metric']} {one['value']:.3f} ({one['task']})"
                for one in row.measured[:_SHOWN]
            ),
        )
    return shown
