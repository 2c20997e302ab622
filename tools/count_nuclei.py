"""`count_nuclei`: each nucleus, or each cell of one type, as an instance, and their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models import ontology
from models.backend import ALL_NUCLEI, Array, NucleiBackend
from models.backends import tissue_mask
from models.wording import plural
from tools.arrays import ArrayHandle
from tools.base import (
    Arguments,
    Output,
    Outside,
    QualityNote,
    Scene,
    Tool,
    Within,
    searched,
)
from tools.errors import ToolFailure
from tools.segment import outside_vocabulary, where
from tools.units import area_um2, density_per_mm2


class CountArguments(Arguments):
    """Which cells, and where."""

    cell_type: str | None = Field(
        default=None, description="The type, in words, or null for every nucleus."
    )
    within: Within = None
    outside: Outside = None


class CountOutput(Output):
    """Instances and their number.

    Attributes:
        concept: the ontology's name of the cell type, `nucleus` for all.
        mask: int32 (H, W) instance label map, 0 background, 1..count.
        kinds: the type names that `kind_of` counts into; `nucleus` alone where no type was asked
            for: a backend's types are good on the tissue that taught them, not everywhere.
        kind_of: uint8 (count,), index into `kinds` of each instance.
        confidence: float32 (count,) in 0..1.
        present: probability in 0..1 that the image has any such cell.
        count: number of instances.
        by_kind: number by type name.
        searched_px, searched_um2: area in which they were counted: what `outside` leaves of the
            region `within`, or of the tissue in the image where there is no `within`.
        density_per_mm2: count over the searched area; None where the mpp is not known.
        method: how they were found.
        quality: measured figure of this backend for this type, where there is one.
    """

    concept: str
    mask: ArrayHandle
    kinds: tuple[str, ...]
    kind_of: ArrayHandle
    confidence: ArrayHandle
    present: float
    count: int
    by_kind: dict[str, int]
    searched_px: int
    searched_um2: float | None
    density_per_mm2: float | None
    method: str
    quality: QualityNote | None


class CountNuclei(Tool[CountArguments, CountOutput]):
    """Finds nuclei. An instance is inside a region when most of its pixels are."""

    name = "count_nuclei"
    version = "1"
    description = "Find each nucleus (or each cell of one type) as an instance, and count them."
    arguments = CountArguments
    output = CountOutput

    def choose_backend(self, args: CountArguments, backends: Mapping[str, Any]) -> str | None:
        """The first backend whose vocabulary has the cell type."""
        concept = _concept(args.cell_type)
        counters = {
            name: backend
            for name, backend in backends.items()
            if isinstance(backend, NucleiBackend)
        }
        for name, backend in counters.items():
            if concept in backend.cells:
                return name
        known = sorted({word for backend in counters.values() for word in backend.cells})
        raise ToolFailure(outside_vocabulary(str(args.cell_type), "find", known))

    def run(self, args: CountArguments, scene: Scene) -> CountOutput:
        """Find them, keep those of the searched area, number them on."""
        concept = _concept(args.cell_type) or ALL_NUCLEI
        found = scene.backend.nuclei(scene.image, concept)
        region = searched(scene)
        keep = _mostly_inside(found.labels, region)
        labels, kept = _renumber(found.labels, keep)
        typed = args.cell_type is not None  # types that nobody asked for are not claimed
        kept_kinds = [found.kinds[number] if typed else ALL_NUCLEI for number in kept]
        kinds = tuple(sorted(set(kept_kinds)))
        index = {kind: number for number, kind in enumerate(kinds)}
        area = _searched_px(scene, region)
        return CountOutput(
            concept=concept,
            mask=scene.store.put(labels),
            kinds=kinds,
            kind_of=scene.store.put(np.array([index[kind] for kind in kept_kinds], np.uint8)),
            confidence=scene.store.put(found.confidence[kept].astype(np.float32)),
            present=round(float(found.present), 4),
            count=len(kept),
            by_kind=dict(sorted(Counter(kept_kinds).items())),
            searched_px=area,
            searched_um2=area_um2(area, scene.image.mpp),
            density_per_mm2=density_per_mm2(len(kept), area, scene.image.mpp),
            method=found.method,
            quality=QualityNote.of(scene.backend.cells[concept]),
        )

    def line(self, args: CountArguments, output: CountOutput) -> str:
        """The count and the density."""
        text = f"{output.count} {plural(args.cell_type or ALL_NUCLEI, output.count)}"
        if output.density_per_mm2 is None:
            return text
        return f"{text}, {output.density_per_mm2:.1f}/mm2"

    def sentence(self, args: CountArguments, output: CountOutput, names: Mapping[str, str]) -> str:
        """The count and the density, or why there is no density."""
        place = where(args.within, args.outside, names)
        noun = plural(args.cell_type or ALL_NUCLEI, output.count)
        if output.count == 0:
            return f"No {noun} were found{place}."
        verb = "was" if output.count == 1 else "were"
        text = f"{output.count:,} {noun} {verb} found{place}"
        if output.density_per_mm2 is not None:
            of = "" if args.within else " of tissue"
            text += f", {output.density_per_mm2:,.0f} per mm²{of}"
        elif output.searched_um2 is None:
            text += (
                " (no density: the pixel size of this image is not known; give the µm per pixel)"
            )
        return f"{text}."


def _concept(cell_type: str | None) -> str | None:
    """The ontology's name, `nucleus` for null, None for a type that it does not have."""
    if cell_type is None:
        return ALL_NUCLEI
    concept = ontology.find(cell_type, "cell")
    return None if concept is None else concept.name


def _searched_px(scene: Scene, region: npt.NDArray[np.bool_] | None) -> int:
    """The density's denominator in px: the region given, else tissue; never the glass."""
    if region is not None and "within" in scene.inputs:
        return int(region.sum())
    tissue = tissue_mask(scene.image)
    return int((tissue if region is None else tissue & region).sum())


def _mostly_inside(
    labels: npt.NDArray[np.int32], region: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_]:
    """For each of the instances 1..n, whether more than half of its pixels are in `region`."""
    size = np.bincount(labels.ravel())[1:]
    if region is None:
        return np.ones(size.shape, bool)
    inside = np.bincount(labels[region], minlength=size.size + 1)[1:]
    kept: npt.NDArray[np.bool_] = inside * 2 > size
    return kept


def _renumber(
    labels: npt.NDArray[np.int32], keep: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int32], Array]:
    """The label map of the kept instances as 1..k, and their old indices (from 0)."""
    new = np.zeros(keep.size + 1, np.int32)
    kept = np.flatnonzero(keep)
    new[kept + 1] = np.arange(1, kept.size + 1)
    return new[labels], kept
