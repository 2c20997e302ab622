"""`classify_tissue`: which organ the image shows, and whether the instruction's organ fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models import ontology
from models.backend import TissueBackend
from tools.base import Arguments, Output, Scene, Tool, able


class ClassifyArguments(Arguments):
    """What the instruction takes for granted."""

    expected: str | None = Field(
        default=None,
        description="The organ or tissue that the instruction takes for granted, or null.",
    )


class ClassifyOutput(Output):
    """The organ found.

    Attributes:
        label: organ, None where the backend abstains.
        probability: calibrated probability of the best organ, 0..1 (0 without a candidate).
        runners_up: the next organs with their probabilities, best first.
        agrees: whether `label` fits `expected`; None where either is missing or unknown.
        known: the organs that the backend was taught; an organ outside is never denied.
        note: why it abstains, or what limits it.
    """

    label: str | None
    probability: float
    runners_up: tuple[tuple[str, float], ...]
    agrees: bool | None
    known: tuple[str, ...]
    note: str


class ClassifyTissue(Tool[ClassifyArguments, ClassifyOutput]):
    """Names the organ, and checks it against what the instruction presumes."""

    name = "classify_tissue"
    version = "1"
    description = (
        "Name the organ or tissue that the image shows, and check it against what the "
        "instruction presumes."
    )
    arguments = ClassifyArguments
    output = ClassifyOutput

    def choose_backend(self, args: ClassifyArguments, backends: Mapping[str, Any]) -> str | None:
        """The first backend that classifies tissue."""
        del args
        return able(backends, TissueBackend)

    def run(self, args: ClassifyArguments, scene: Scene) -> ClassifyOutput:
        """Classify. It disagrees only with an organ that the backend could have named."""
        found = scene.backend.tissue(scene.image)
        agrees = None
        if found.label is not None and args.expected is not None:
            agrees = ontology.organ_agrees(found.label, args.expected)
            taught = any(ontology.organ_agrees(o, args.expected) for o in scene.backend.organs)
            if agrees is False and not taught:
                agrees = None
        return ClassifyOutput(
            label=found.label,
            probability=round(float(found.probability), 4),
            runners_up=tuple((name, round(float(p), 4)) for name, p in found.ranked[1:4]),
            agrees=agrees,
            known=tuple(scene.backend.organs),
            note=found.note,
        )

    def line(self, args: ClassifyArguments, output: ClassifyOutput) -> str:
        """The organ and its probability."""
        del args
        return f"{output.label or 'tissue not known'} {output.probability:.2f}"

    def sentence(
        self, args: ClassifyArguments, output: ClassifyOutput, names: Mapping[str, str]
    ) -> str:
        """The organ with its probability, or that the model can't tell."""
        del names
        if output.label is None:
            asked = f" is {args.expected}" if args.expected else " is from"
            lead = "whether this image" if args.expected else "which organ this image"
            return f"The tissue check can't tell {lead}{asked}: {output.note}."
        text = f"This appears to be {output.label} (probability {output.probability:.2f})"
        if output.agrees is False:
            return f"{text}, not {args.expected}."
        if output.agrees is None and args.expected is not None:
            return f"{text}; it was not taught {args.expected}, so it can't confirm that."
        others = ", ".join(f"{name} {p:.2f}" for name, p in output.runners_up)
        return text + (f"; next: {others}." if others and args.expected is None else ".")
