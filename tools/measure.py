"""`measure`: area and share of a mask; for instances also number, size, shape and density."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from skimage.measure import regionprops_table

from models.backends import tissue_mask
from models.wording import area_in_words, plural
from tools.base import Arguments, Output, Scene, Source, Tool
from tools.count_nuclei import CountOutput
from tools.segment import SegmentOutput
from tools.units import area_um2, fraction, percent


class MeasureArguments(Arguments):
    """What to measure."""

    source: Source


class MeasureOutput(Output):
    """Figures of one mask. Instance figures are None for a semantic mask.

    Attributes:
        area_px, area_um2: total area; µm² only where the mpp is known.
        fraction_of_tissue: area over the area of all tissue in the image, 0..1.
        fraction_of_within: area over the area of the region the source was restricted to.
        number: instances.
        mean_area_px, mean_area_um2: mean area of an instance.
        sd_area_um2: standard deviation of the instances' areas.
        mean_eccentricity: of the ellipses with the instances' second moments (0 is a circle).
        density_per_mm2: as the count gave it.
    """

    area_px: int
    area_um2: float | None
    fraction_of_tissue: float | None
    fraction_of_within: float | None = None
    number: int | None = None
    mean_area_px: float | None = None
    mean_area_um2: float | None = None
    sd_area_um2: float | None = None
    mean_eccentricity: float | None = None
    density_per_mm2: float | None = None


class Measure(Tool[MeasureArguments, MeasureOutput]):
    """Measures what an earlier call found."""

    name = "measure"
    version = "1"
    description = (
        "Measure an earlier call's mask: area, fraction, and for instances number, sizes, "
        "shape, density."
    )
    arguments = MeasureArguments
    output = MeasureOutput

    def run(self, args: MeasureArguments, scene: Scene) -> MeasureOutput:
        """Measure the source's mask on the image's own grid."""
        del args
        source = scene.inputs["source"]
        mpp = scene.image.mpp
        if isinstance(source, SegmentOutput):
            return MeasureOutput(
                area_px=source.area_px,
                area_um2=source.area_um2,
                fraction_of_tissue=source.fraction_of_tissue,
                fraction_of_within=source.fraction_of_within,
            )
        assert isinstance(source, CountOutput)  # noqa: S101 - the plan's check
        labels = scene.array(source.mask)
        table = regionprops_table(labels, properties=("area", "eccentricity"))
        areas = np.asarray(table["area"], float)
        total = int(areas.sum())
        some = areas.size > 0
        return MeasureOutput(
            area_px=total,
            area_um2=area_um2(total, mpp),
            fraction_of_tissue=fraction(total, int(tissue_mask(scene.image).sum())),
            number=source.count,
            mean_area_px=round(float(areas.mean()), 2) if some else None,
            mean_area_um2=area_um2(float(areas.mean()), mpp) if some else None,
            sd_area_um2=area_um2(float(areas.std()), mpp) if some else None,
            mean_eccentricity=round(float(np.mean(table["eccentricity"])), 3) if some else None,
            density_per_mm2=source.density_per_mm2,
        )

    def line(self, args: MeasureArguments, output: MeasureOutput) -> str:
        """The area, and for instances their mean."""
        del args
        text = f"area {area_in_words(output.area_um2, output.area_px)}"
        if output.mean_area_um2 is None:
            return text
        return f"{text}, mean area {output.mean_area_um2:.1f} µm²"

    def sentence(
        self, args: MeasureArguments, output: MeasureOutput, names: Mapping[str, str]
    ) -> str:
        """The figures that there are."""
        name = names[args.source]
        if output.number is not None:
            name = plural(name, output.number)
        parts = [f"area {area_in_words(output.area_um2, output.area_px)}"]
        if output.fraction_of_within is not None:
            parts.append(f"{percent(output.fraction_of_within)} of the region it was sought in")
        if output.fraction_of_tissue is not None:
            parts.append(f"{percent(output.fraction_of_tissue)} of the tissue")
        if output.mean_area_um2 is not None and output.sd_area_um2 is not None:
            parts.append(f"mean area {output.mean_area_um2:.1f} µm² (SD {output.sd_area_um2:.1f})")
        elif output.mean_area_px is not None:
            parts.append(f"mean area {output.mean_area_px:.1f} px (pixel size not known)")
        if output.mean_eccentricity is not None:
            parts.append(f"mean eccentricity {output.mean_eccentricity:.2f}")
        if output.density_per_mm2 is not None:
            parts.append(f"density {output.density_per_mm2:,.0f} per mm²")
        number = "" if output.number is None else f" ({output.number:,})"
        return f"{name[:1].upper()}{name[1:]}{number}: {', '.join(parts)}."
