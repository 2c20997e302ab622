"""`check_image`: the graph's own step before anything looks: can this be an H&E field at all?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.backend import GateBackend
from models.backends import tissue_mask
from tools.base import Arguments, Output, Scene, Tool, able


class CheckArguments(Arguments):
    """Nothing to choose."""


class CheckOutput(Output):
    """The verdict.

    Attributes:
        is_he: whether the image can be an H&E field.
        probability: of being H&E, 0..1.
        reasons: short phrases, worst first; warnings where `is_he` is true.
        tissue_fraction: share of the image that is tissue, 0..1.
    """

    is_he: bool
    probability: float
    reasons: tuple[str, ...]
    tissue_fraction: float


class CheckImage(Tool[CheckArguments, CheckOutput]):
    """Tells H&E from everything else. Planners don't see it: the graph always runs it."""

    name = "check_image"
    version = "1"
    description = "Check that the image is an H&E field."
    arguments = CheckArguments
    output = CheckOutput
    for_planners = False

    def choose_backend(self, args: CheckArguments, backends: Mapping[str, Any]) -> str | None:
        """The first backend with a gate."""
        del args
        return able(backends, GateBackend)

    def run(self, args: CheckArguments, scene: Scene) -> CheckOutput:
        """Judge the image."""
        del args
        gate = scene.backend.gate(scene.image)
        return CheckOutput(
            is_he=gate.is_he,
            probability=round(float(gate.probability), 4),
            reasons=gate.reasons,
            tissue_fraction=round(float(tissue_mask(scene.image).mean()), 4),
        )

    def line(self, args: CheckArguments, output: CheckOutput) -> str:
        """The verdict."""
        del args
        return "H&E" if output.is_he else "not H&E"

    def sentence(self, args: CheckArguments, output: CheckOutput, names: Mapping[str, str]) -> str:
        """The doubt, or the warnings, or nothing."""
        del args, names
        why = "; ".join(output.reasons)
        if not output.is_he:
            return f"This does not look like an H&E image ({why})."
        return f"Note on the image: {why}." if why else ""
