"""`read_image`: one door for every format, and one line for whatever is wrong with a file."""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image as PillowImage

from models.backend import Image
from tools.errors import BadInput
from tools.image.raster import read_raster
from tools.image.resolution import ANISOTROPY
from tools.image.slide import read_slide, slide_levels
from tools.image.tiff import is_tiff, read_tiff, tiff_levels
from tools.image.window import MAX_PIXELS, MIN_SIDE, Decoded, Request

__all__ = ["MAX_PIXELS", "MIN_SIDE", "LoadedImage", "MppSource", "pyramid_of", "read_image"]

MppSource = Literal["argument", "file", "unknown"]
MPP_RANGE = (0.05, 20.0)
"""µm/px that a caller may give."""

_KNOWN = "PNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000, TIFF, OME-TIFF, SVS, NDPI, MRXS"
_PATH_SHOWN = 160
_lock = threading.Lock()


@dataclass(frozen=True)
class LoadedImage:
    """An image and where it came from.

    Attributes:
        image: the pixels and their size.
        name: the file's name without its folder.
        format: what the file is, for people (`"PNG"`, `"aperio slide"`).
        mpp_source: who said how large a pixel is.
        notes: what was done to the pixels that a reader of the result should know.
        origin: x, y of the image's top left corner in full-resolution px of the file.
        downsample: full-resolution px for a px of the image, 1 at level 0.
    """

    image: Image
    name: str
    format: str
    mpp_source: MppSource
    notes: tuple[str, ...] = ()
    origin: tuple[int, int] = (0, 0)
    downsample: float = 1.0


def read_image(
    path: Path,
    *,
    mpp: float | None = None,
    region: tuple[int, int, int, int] | None = None,
    level: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> LoadedImage:
    """Read an image file, or a part of it, as 8-bit RGB.

    Orientation tags are applied, transparency is laid on white, grey becomes RGB, wider samples
    are scaled by the rule of `tools.image.pixels.to_uint8`, and of several frames or pages the
    first is read. Nothing is printed; what was done is in `notes`.

    Args:
        path: the file.
        mpp: µm/px of the file at full resolution, 0.05 to 20; wins over the file's own.
        region: x, y, width, height, all four in full-resolution (level 0) px, as QuPath shows
            them, whatever the `level`; None reads the whole image. OpenSlide itself counts
            width and height in px of the level; here the same region is the same tissue.
        level: pyramid level to read; 0 is full resolution. Either `mpp` is multiplied by the
            level's downsample.
        max_pixels: how many px may be decoded at once; checked from the header.

    Returns:
        The image; its `mpp` is of the pixels returned.

    Raises:
        BadInput: whatever is wrong with the file or the arguments, in one line.
    """
    _check_mpp(mpp)
    _check_file(path)
    decoded = _decode(path, Request(region, level, max_pixels))
    notes = list(decoded.notes)
    source: MppSource = "unknown"
    full = None
    if mpp is not None:
        source, full = "argument", mpp
        if decoded.mpp and abs(decoded.mpp[0] / mpp - 1) > ANISOTROPY:
            notes.append(f"the file says {decoded.mpp[0]:.4g} µm/px; {mpp:.4g} was given and used")
    elif decoded.mpp is not None:
        source, full = "file", _square(path, *decoded.mpp)
    image = Image(decoded.rgb, None if full is None else full * decoded.downsample)
    origin = region[:2] if region else (0, 0)
    return LoadedImage(
        image, path.name, decoded.format, source, tuple(notes), origin, decoded.downsample
    )


def pyramid_of(path: Path) -> list[tuple[int, int]]:
    """The levels of which `read_image` can read a region without reading all of them.

    Returns:
        (width, height) in px of each, full resolution first; none where the file is no slide or
        TIFF, or is damaged: `read_image` says in which way.
    """
    try:
        with _quiet():
            return slide_levels(path) or (tiff_levels(path) if _holds_tiff(path) else [])
    except Exception:  # noqa: BLE001 - the decoders raise a dozen types on damaged files
        return []


def _holds_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return is_tiff(file.read(4))


def _decode(path: Path, request: Request) -> Decoded:
    """Try the readers in turn; turn whatever a decoder raises on a damaged file into one line."""
    try:
        with _quiet():
            decoded = read_slide(path, request)
            if decoded is None:
                decoded = (read_tiff if _holds_tiff(path) else read_raster)(path, request)
    except BadInput as error:
        raise BadInput(f"{_name(path)}: {error}") from None
    except PermissionError:
        raise BadInput(f"{_name(path)}: no permission to read this file") from None
    except MemoryError:
        raise BadInput(
            f"{_name(path)}: too large for this machine's memory: take a region of it"
        ) from None
    except Exception as error:
        # Pillow, tifffile, OpenSlide and the codecs raise a dozen types on damaged files. Their
        # words stay in the cause: tifffile's quote the description tag, which may name a patient.
        raise BadInput(
            f"{_name(path)}: damaged, incomplete or in an unknown coding, it can't be decoded: "
            "copy or export it again"
        ) from error
    if decoded is None:
        raise BadInput(
            f"{_name(path)}: not an image that is read here, or damaged at its start ({_KNOWN})"
        )
    return decoded


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the decoders' warnings, and Pillow's own size limit in favour of `max_pixels`.

    Both are settings of the whole process, hence the lock.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = PillowImage.MAX_IMAGE_PIXELS
        PillowImage.MAX_IMAGE_PIXELS = sys.maxsize  # None breaks whom it meets amid a check
        try:
            yield
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _check_mpp(mpp: float | None) -> None:
    low, high = MPP_RANGE
    if mpp is not None and not (math.isfinite(mpp) and low <= mpp <= high):
        raise BadInput(
            f"{mpp:g} µm per pixel is not a pixel size of microscopy: give {low} to {high} "
            "(0.25 for a 40x scan, 0.5 for 20x)"
        )


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise BadInput(
                f"{_one_line(path)} is a folder: give one image file, or use `histopilot batch`"
            )
        if not path.exists():
            raise BadInput(f"{_one_line(path)} does not exist")
        if not path.is_file():
            raise BadInput(f"{_one_line(path)} is not a regular file")
        if path.stat().st_size == 0:
            raise BadInput(f"{_name(path)}: the file is empty (0 bytes): copy or export it again")
    except BadInput:
        raise
    except PermissionError:
        raise BadInput(f"{_name(path)}: no permission to read this file") from None
    except (OSError, ValueError):
        raise BadInput(f"{_one_line(path)}: not a usable file name") from None


def _square(path: Path, x: float, y: float) -> float:
    if abs(x - y) > ANISOTROPY * min(x, y):
        raise BadInput(
            f"{_name(path)}: pixels of {x:.4g} x {y:.4g} µm are not square: resample the image, or "
            "give the µm per pixel to measure as if they were"
        )
    return (x + y) / 2


def _one_line(path: Path) -> str:
    """A path for an error message: one line of bounded length, whatever it holds."""
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= _PATH_SHOWN else "..." + text[-_PATH_SHOWN:]


def _name(path: Path) -> str:
    """The file's name for an error message."""
    return _one_line(Path(path.name))
