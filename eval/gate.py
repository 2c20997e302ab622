"""`python -m eval.gate`: the H&E gate on the data's H&E, and on pictures of something else.

What is not H&E is made here, because the data holds none: photographs and one immunohistochemistry
that installed packages bring, H&E given other stains or another light, drawings, charts, text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, NamedTuple

import gradio
import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from skimage import color, data

from eval.metrics import bootstrap
from models.backend import GateBackend, Image
from models.backends import load

Rgb = npt.NDArray[np.uint8]
_NUCLEI = ("train/monuseg", "train/consep", "train/cpm15", "train/lgg_tcga", "train/miccai15_gbm")
_NUCLEI_TEST = ("train/pannuke_breast", "test/monuseg", "test/consep")
_REGIONS = ("wsss4luad", "bcss3", "camelyon32", "liver_steatosis", "ebhi_polyp49", "ocdc10")
_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field")
_GREYSCALE = (
    "camera",
    "moon",
    "page",
    "text",
    "clock",
    "coins",
    "brick",
    "grass",
    "gravel",
    "cell",
)
# Rows: hematoxylin without eosin beside it (bluer than skimage's), DAB, their normal.
_BLUE_AND_DAB = np.array([[0.75, 0.61, 0.26], [0.268, 0.570, 0.776], [0.33, -0.51, 0.27]])
_SIDE = 512
_LEAST = 200
_VARIED = 4
_ALTERED_STEP = 12
"""Every so manieth H&E image is varied, and made into each of the altered pictures."""


class Picture(NamedTuple):
    """One test picture.

    Attributes:
        kind: what it is; kinds that start with `H&E` are to be let through.
        group: pictures of one group are resampled together.
        rgb: uint8 (H, W, 3).
        reason: a word of the reason that a refusal should give.
    """

    kind: str
    group: str
    rgb: Rgb
    reason: str = ""


class Verdict(NamedTuple):
    """What the gate said of a picture: whether that is right, and for the right reason."""

    kind: str
    group: str
    right: bool
    named: bool


def he_files(folder: Path) -> list[tuple[Path, str]]:
    """Every H&E image of the data and its group (patient, slide, near-duplicates; else itself)."""
    with (folder / "tissue" / "manifest.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["cls"] != "background"]
    found = {folder / row["path"].strip("\0"): f"{row['dataset']}/{row['group']}" for row in rows}
    folders = [folder / "nuclei" / name / "images" for name in _NUCLEI + _NUCLEI_TEST]
    folders += [folder / "regions" / name / "images" for name in _REGIONS]
    folders.append(folder / "mitosis" / "brecahad" / "images")
    for images in folders:
        for path in sorted(images.iterdir()):
            found.setdefault(path, f"{images.parent.name}/{path.stem}")
    return list(found.items())


def jpeg(rgb: Rgb, quality: int) -> Rgb:
    """`rgb` after JPEG at `quality`."""
    buffer = io.BytesIO()
    Pillow.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Pillow.open(buffer))


def resized(rgb: Rgb, factor: float) -> Rgb:
    """`rgb` at `factor` of its size."""
    size = [max(1, round(side * factor)) for side in (rgb.shape[1], rgb.shape[0])]
    return np.asarray(Pillow.fromarray(rgb).resize(size, Pillow.Resampling.BICUBIC))


def corner(rgb: Rgb, rng: np.random.Generator, share: float = 0.5) -> Rgb:
    """A part of `rgb` of `share` of its sides, anywhere."""
    height, width = (max(32, round(side * share)) for side in rgb.shape[:2])
    top = int(rng.integers(max(1, rgb.shape[0] - height + 1)))
    left = int(rng.integers(max(1, rgb.shape[1] - width + 1)))
    return np.ascontiguousarray(rgb[top : top + height, left : left + width])


def blurred(rgb: Rgb, radius: float) -> Rgb:
    """`rgb` after a Gaussian blur with a standard deviation of `radius` px."""
    return np.asarray(Pillow.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))


def _stains(rgb: Rgb) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    amounts = color.separate_stains(rgb, color.hed_from_rgb).clip(0)
    return amounts[..., 0], amounts[..., 1]


def _combined(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    third: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
) -> Rgb:
    rgb = color.combine_stains(np.dstack([first, second, third]), vectors)
    return np.asarray(rgb.clip(0, 1) * 255, dtype=np.uint8)


def dab(rgb: Rgb, share: float = 0.4) -> Rgb:
    """H&E as an immunohistochemistry: brown chromogen in `share` of its tissue, the rest bluish."""
    nuclei, eosin = _stains(rgb)
    brown = ndimage.gaussian_filter(eosin, 2) >= np.quantile(eosin, 1 - share)
    blue = np.where(brown, 0.2, 0.8) * nuclei
    return _combined(blue, brown * (eosin + nuclei), np.zeros_like(eosin), _BLUE_AND_DAB)


def restained(rgb: Rgb, vectors: npt.NDArray[np.float64]) -> Rgb:
    """H&E in two other stains: the first of `vectors` in its nuclei, the second elsewhere."""
    nuclei, eosin = _stains(rgb)
    return _combined(nuclei, eosin, np.zeros_like(eosin), vectors)


def fluorescence(rgb: Rgb, second: tuple[float, float, float]) -> Rgb:
    """H&E as a fluorescence image: nuclei in blue, the rest in the color `second`, on black."""
    glow = [stain / max(float(np.quantile(stain, 0.995)), 1e-6) for stain in _stains(rgb)]
    light = glow[0][..., None] ** 2 * [0.1, 0.2, 1.0] + 0.5 * glow[1][..., None] ** 2 * second
    return np.asarray(light.clip(0, 1) * 255, dtype=np.uint8)


_ALTERED: dict[str, tuple[str, Callable[[Rgb], Rgb]]] = {
    "IHC, made of H-E": ("brown", dab),
    "IHC, made of H-E, a tenth brown": ("brown", lambda x: dab(x, 0.1)),
    "methyl green and DAB": ("", lambda x: restained(x, color.rgb_from_gdx)),
    "Feulgen and light green": ("", lambda x: restained(x, color.rgb_from_fgx)),
    "methyl blue and ponceau": ("", lambda x: restained(x, color.rgb_from_bpx)),
    "fluorescence, blue": ("fluorescence", lambda x: fluorescence(x, (0, 0, 0))),
    "fluorescence, blue and green": ("fluorescence", lambda x: fluorescence(x, (0.1, 1, 0.2))),
    "fluorescence, blue and red": ("fluorescence", lambda x: fluorescence(x, (1, 0.1, 0.1))),
    "H-E, red and blue swapped": ("", lambda x: np.ascontiguousarray(x[..., ::-1])),
    "H-E, red and green swapped": ("", lambda x: np.ascontiguousarray(x[..., [1, 0, 2]])),
    "H-E, green and blue swapped": ("", lambda x: np.ascontiguousarray(x[..., [0, 2, 1]])),
    "H-E, inverted": ("", lambda x: 255 - x),
    "H-E, grey": ("greyscale", lambda x: x.mean(2).astype(np.uint8)[..., None].repeat(3, 2)),
    "H-E, blurred away": ("focus", lambda x: blurred(x, max(x.shape[:2]) / 40)),
}


def altered(files: list[tuple[Path, str]]) -> Iterator[Picture]:
    """Every `_ALTERED_STEP`-th of the H&E images as each of the things that it is not."""
    for path, group in files[::_ALTERED_STEP]:
        whole = Pillow.open(path).convert("RGB")
        whole.thumbnail((_SIDE, _SIDE))
        rgb = np.asarray(whole)
        for kind, (reason, change) in _ALTERED.items():
            yield Picture(kind, group, change(rgb), reason)


def he(files: list[tuple[Path, str]]) -> Iterator[Picture]:
    """The H&E images whole; some in parts, coarser, compressed, slightly out of focus."""
    for number, (path, group) in enumerate(files):
        rgb = np.asarray(Pillow.open(path).convert("RGB"))
        yield Picture("H&E", group, rgb)
        if number % _VARIED == 0 and min(rgb.shape[:2]) >= _LEAST:
            rng = np.random.default_rng(number)
            yield Picture("H&E, part", group, corner(rgb, rng))
            yield Picture("H&E, coarser", group, resized(rgb, 0.5))
            yield Picture("H&E, soft", group, blurred(rgb, 1.5))
            yield Picture("H&E, JPEG 40", group, jpeg(rgb, 40))


def photographs() -> Iterator[Picture]:
    """Photographs and greyscale pictures of scikit-image and Gradio, whole and in parts."""
    pictures = {name: getattr(data, name)() for name in (*_PHOTOGRAPHS, *_GREYSCALE)}
    pictures["motorcycle"] = data.stereo_motorcycle()[0]
    for path in sorted((Path(gradio.__file__).parent / "media_assets" / "images").glob("*.jp*g")):
        pictures[path.stem] = np.asarray(Pillow.open(path).convert("RGB"))
    for number, (name, picture) in enumerate(pictures.items()):
        flat = picture.ndim == 2
        kind, reason = ("greyscale", "greyscale") if flat else ("photograph", "")
        rgb = picture if picture.dtype == np.uint8 else (picture * 255).astype(np.uint8)
        rgb = np.ascontiguousarray(rgb[..., None].repeat(3, 2) if flat else rgb[..., :3])
        yield Picture(kind, name, rgb, reason)
        rng = np.random.default_rng(number)
        for share in (0.7, 0.4, 0.4, 0.25, 0.25):
            yield Picture(f"{kind}, part", name, corner(rgb, rng, share), reason)
    ihc = data.immunohistochemistry()
    yield Picture("IHC (CRP, colon)", "ihc", ihc, "brown")
    for top, left in np.ndindex(4, 4):
        part = np.ascontiguousarray(ihc[top * 128 :, left * 128 :][:256, :256])
        yield Picture("IHC (CRP, colon), part", f"ihc {top} {left}", part, "brown")


def drawn(count: int = 12) -> Iterator[Picture]:
    """Text, charts, cartoons of tissue in its own colors, gradients, empty glass, noise."""
    for number in range(count):
        rng = np.random.default_rng(number)
        side = int(rng.integers(250, 900))
        white = Pillow.new("RGB", (side, side), (255, 255, 255))
        page, chart, cells = white.copy(), white.copy(), Pillow.new("RGB", white.size, "#f4c2dc")
        pens = [ImageDraw.Draw(sheet) for sheet in (page, chart, cells)]
        for line in range(10, side - 10, 14):
            text = "".join(rng.choice(list("the tissue was fixed in formalin "), side // 8))
            pens[0].text((10, line), text, fill=(20, 20, 20))
        for bar in range(8):
            top, ink = int(rng.integers(20, side - 40)), tuple(rng.integers(0, 230, 3).tolist())
            left = 20 + bar * (side - 40) // 8
            pens[1].rectangle((left, top, left + (side - 60) // 9, side - 20), fill=ink)
        for _ in range(90):
            x, y, r = (int(n) for n in rng.integers((0, 0, 6), (side, side, 18)))
            pens[2].ellipse((x - r, y - r, x + r, y + r), fill="#6a3d9a", outline="#3f1f69")
        for kind, sheet in (("text", page), ("chart", chart), ("cartoon of cells", cells)):
            for quality in (100, 60):
                yield Picture(f"drawn: {kind}", f"{kind} {number}", jpeg(np.array(sheet), quality))
        ends = rng.integers(120, 255, (2, 3))
        ramp = np.linspace(ends[0], ends[1], side).astype(np.uint8)[None].repeat(side, 0)
        yield Picture("drawn: gradient", f"gradient {number}", ramp)
        glass = rng.normal(rng.integers(225, 250, 3), rng.uniform(0.5, 3), (side, side, 3))
        clear = glass.clip(0, 255).astype(np.uint8)
        yield Picture("empty glass", f"glass {number}", clear, "no tissue")
        noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        yield Picture("noise", f"noise {number}", noise)


def verdicts(backend: GateBackend, pictures: Iterable[Picture]) -> Iterator[Verdict]:
    """Judge every picture."""
    for picture in pictures:
        gate = backend.gate(Image(picture.rgb))
        right = gate.is_he == picture.kind.startswith("H&E")
        named = right and picture.reason in " ".join(gate.reasons)
        yield Verdict(picture.kind, picture.group, right, named)


def _share_of(right: npt.NDArray[np.bool_]) -> Callable[[npt.NDArray[np.int64]], float]:
    """A statistic of drawn pictures: the share that is right."""
    return lambda drawn: float(right[drawn].mean())


def table(found: list[Verdict]) -> Table:
    """A row a kind, and one for all H&E and for all the rest; intervals by group."""
    out = Table("picture", "right", "95% interval", "right reason", "n")
    of_he = [v for v in found if v.kind.startswith("H&E")]
    others = [v for v in found if not v.kind.startswith("H&E")]
    rows = {
        kind: [v for v in found if v.kind == kind] for kind in dict.fromkeys(v.kind for v in found)
    }
    for name, own in {**rows, "all H&E": of_he, "all others": others}.items():
        right = np.array([v.right for v in own])
        low, high = bootstrap([v.group for v in own], _share_of(right))
        named = f"{np.mean([v.named for v in own]):.3f}"
        out.add_row(name, f"{right.mean():.3f}", f"{low:.3f} to {high:.3f}", named, str(len(own)))
    return out


def main(
    data: Annotated[Path, typer.Option(help="Folder with tissue/, nuclei/, regions/, mitosis/.")],
    backend: Annotated[str, typer.Option(help="Name of the backend.")] = "classical",
    every: Annotated[int, typer.Option(min=1, help="Only every so manieth H&E image.")] = 1,
) -> None:
    """Measure how well a backend tells H&E from everything else, and print a table."""
    files = he_files(data)[::every]
    pictures = chain(he(files), altered(files), photographs(), drawn())
    Console().print(table(list(verdicts(load(backend), pictures))))


if __name__ == "__main__":
    typer.run(main)
