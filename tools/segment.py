"""`segment`: every part of the image that a text describes, as one semantic mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from models import ontology
from models.backend import NucleiBackend, Quality, Region, RegionBackend
from models.backends import tissue_mask
from models.wording import area_in_words
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
from tools.errors import ToolError, ToolFailure
from tools.units import area_um2, fraction, percent

PRESENT_FROM = 0.5
"""Below this probability of presence the structure is reported as not found, with no mask."""


class SegmentArguments(Arguments):
    """What to outline, and where."""

    target: str = Field(min_length=1, description="The structure, in words.")
    within: Within = None
    outside: Outside = None


class SegmentOutput(Output):
    """A semantic mask and what it amounts to.

    Attributes:
        concept: the ontology's name of the target.
        mask: uint8 (H, W), 1 inside.
        present: probability in 0..1 that the structure is in the image.
        area_px, area_um2: area of the mask; µm² only where the mpp is known.
        fraction_of_tissue: area over the area of all tissue in the image; None where it is
            larger, as glass can be.
        fraction_of_within: area over the area of the `within` region, where there is one.
        method: how the mask came to be and what it takes in.
        quality: measured figure of this backend for this concept, where there is one.
    """

    concept: str
    mask: ArrayHandle
    present: float
    area_px: int
    area_um2: float | None
    fraction_of_tissue: float | None
    fraction_of_within: float | None
    method: str
    quality: QualityNote | None


class Segment(Tool[SegmentArguments, SegmentOutput]):
    """Outlines regions of tissue by a text."""

    name = "segment"
    version = "2"
    description = "Outline every part of the image that the text describes, as one semantic mask."
    arguments = SegmentArguments
    output = SegmentOutput

    def choose_backend(self, args: SegmentArguments, backends: Mapping[str, Any]) -> str | None:
        """The first backend whose vocabulary of regions, or else of cells, has the target."""
        concept = ontology.find(args.target)
        for name, backend in backends.items():
            if concept is not None and concept.name in _vocabulary(backend):
                return name
        known = sorted({word for backend in backends.values() for word in _vocabulary(backend)})
        raise ToolFailure(outside_vocabulary(args.target, "outline", known))

    def run(self, args: SegmentArguments, scene: Scene) -> SegmentOutput:
        """Outline the target; an absent structure gives an empty mask, not an error."""
        concept = ontology.find(args.target)
        if concept is None:  # choose_backend ran before: only a changed ontology comes here
            raise ToolFailure(outside_vocabulary(args.target, "outline", []))
        if concept.kind == "cell":
            cells = scene.backend.nuclei(scene.image, concept.name)
            method = f"union of single nuclei; {cells.method}"
            found = Region(cells.labels > 0, cells.present, method)
        else:
            found = scene.backend.region(scene.image, concept.name)
        mask = found.mask if found.present >= PRESENT_FROM else np.zeros_like(found.mask)
        place = searched(scene)
        if place is not None:
            mask = mask & place
        area = int(mask.sum())
        tissue = int(tissue_mask(scene.image).sum())
        within = scene.inputs.get("within")
        return SegmentOutput(
            concept=concept.name,
            mask=scene.store.put(mask.astype(np.uint8)),
            present=round(float(found.present), 4),
            area_px=area,
            area_um2=area_um2(area, scene.image.mpp),
            fraction_of_tissue=fraction(area, tissue) if area <= tissue else None,
            fraction_of_within=(
                fraction(area, within.area_px) if isinstance(within, SegmentOutput) else None
            ),
            method=found.method,
            quality=QualityNote.of(_vocabulary(scene.backend)[concept.name]),
        )

    def line(self, args: SegmentArguments, output: SegmentOutput) -> str:
        """Presence, and the share of the tissue."""
        text = f"{args.target}: present {output.present:.2f}"
        if output.fraction_of_tissue is None:
            return text
        return f"{text}, {output.fraction_of_tissue * 100:.0f}% of the tissue"

    def sentence(
        self, args: SegmentArguments, output: SegmentOutput, names: Mapping[str, str]
    ) -> str:
        """How much of it there is, or that it was not found."""
        place = where(args.within, args.outside, names)
        if output.present < PRESENT_FROM:
            return (
                f"No {args.target} was found "
                f"(probability that it is present in the image {output.present:.2f})."
            )
        if output.area_px == 0:
            return f"No {args.target} was found{place}."
        share = ""
        if output.fraction_of_within is not None and args.within is not None:
            share = f", {percent(output.fraction_of_within)} of the {names[args.within]}"
        elif output.fraction_of_tissue is not None and output.concept != "tissue":
            share = f", {percent(output.fraction_of_tissue)} of the tissue"
        size = area_in_words(output.area_um2, output.area_px)
        return f"The {args.target}{place} covers {size}{share}."


def _vocabulary(backend: object) -> dict[str, Quality | None]:
    """What a backend can outline: its regions, and its cells as the union of their nuclei."""
    cells = backend.cells if isinstance(backend, NucleiBackend) else {}
    regions = backend.regions if isinstance(backend, RegionBackend) else {}
    return {**cells, **regions}


def where(within: str | None, outside: str | None, names: Mapping[str, str]) -> str:
    """The words for a call's place: " inside the tumor outside the necrosis", or nothing."""
    inside = f" inside the {names[within]}" if within else ""
    return inside + (f" outside the {names[outside]}" if outside else "")


def outside_vocabulary(asked: str, verb: str, known: list[str]) -> ToolError:
    """The abstention: what is missing, what is there, and what would do it."""
    listed = ", ".join(known) if known else "nothing"
    return ToolError(
        code="outside_vocabulary",
        message=(
            f"No configured model can {verb} “{asked}”, so nothing was drawn for it. "
            f"The configured ones {verb}: {listed}. "
            f"A backend that was taught “{asked}” would be needed."
        ),
        missing=asked,
    )
