"""`extract_boxes`: one bounding box an instance, or a connected region of a mask."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from tools.base import Arguments, Output, Scene, Source, Tool
from tools.count_nuclei import CountOutput
from tools.segment import SegmentOutput


class BoxesArguments(Arguments):
    """Whose boxes."""

    source: Source


class BoxesOutput(Output):
    """Boxes as (x0, y0, x1, y1) in px of the image, x1 and y1 exclusive, by label.

    Attributes:
        of: what a box stands for: an `instance`, or a `region` (8-connected).
        count: number of boxes.
        boxes: the boxes.
    """

    of: str
    count: int
    boxes: tuple[tuple[int, int, int, int], ...]


class ExtractBoxes(Tool[BoxesArguments, BoxesOutput]):
    """Bounding boxes of an earlier call's instances or connected regions."""

    name = "extract_boxes"
    version = "1"
    description = "Give the bounding boxes of an earlier call's instances or connected regions."
    arguments = BoxesArguments
    output = BoxesOutput

    def run(self, args: BoxesArguments, scene: Scene) -> BoxesOutput:
        """Box every label, or every 8-connected component of a semantic mask."""
        del args
        source = scene.inputs["source"]
        assert isinstance(source, SegmentOutput | CountOutput)  # noqa: S101 - the plan's check
        labels = scene.array(source.mask)
        if isinstance(source, SegmentOutput):
            labels, _ = ndimage.label(labels, structure=np.ones((3, 3)))
        found = [window for window in ndimage.find_objects(labels) if window is not None]
        boxes = tuple((int(x.start), int(y.start), int(x.stop), int(y.stop)) for y, x in found)
        kind = "instance" if isinstance(source, CountOutput) else "region"
        return BoxesOutput(of=kind, count=len(boxes), boxes=boxes)

    def line(self, args: BoxesArguments, output: BoxesOutput) -> str:
        """How many."""
        del args
        return f"{output.count} {'box' if output.count == 1 else 'boxes'}"

    def sentence(self, args: BoxesArguments, output: BoxesOutput, names: Mapping[str, str]) -> str:
        """How many boxes, and around what."""
        noun = "box" if output.count == 1 else "boxes"
        around = names[args.source]
        if output.of == "region":
            regions = "region" if output.count == 1 else "separate regions"
            return f"{output.count:,} {regions} of {around}, each with its box."
        return f"{output.count:,} {noun}, one for each {around}."
