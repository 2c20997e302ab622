"""From any sample type and channel layout to uint8 RGB, by rules that are written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tools.errors import BadInput

Array = npt.NDArray[Any]
RGB = npt.NDArray[np.uint8]

# Sensors deliver 8, 10, 12, 14 or 16 bits in a 16-bit file: the smallest that holds the brightest
# sample is taken as full scale. In brightfield the glass is near full scale, so this is safe.
_BIT_DEPTHS = (8, 10, 12, 14, 15, 16, 24, 31, 32, 63, 64)
_FLOAT_SLACK = 1e-3


def to_uint8(samples: Array) -> tuple[RGB, tuple[str, ...]]:
    """Scale samples of any real type to 0..255.

    bool: 0 and 255. uint8: as it is. Wider integers: divided by the full scale of their real bit
    depth, the smallest of 8, 10, 12, 14, 16, ... bits that holds the brightest sample. Floats:
    0..1, or 0..255 where a sample exceeds 1.

    Returns:
        uint8 samples of the same shape, and notes.

    Raises:
        BadInput: NaN, infinite, negative, complex, or floats above 255.
    """
    if samples.dtype == np.uint8:
        return samples, ()
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255), ()
    if np.issubdtype(samples.dtype, np.floating):
        return _from_float(samples)
    if not np.issubdtype(samples.dtype, np.integer):
        raise BadInput(f"samples of type {samples.dtype} are not an image: export 8-bit RGB")
    if int(samples.min()) < 0:
        raise BadInput("the image has negative samples: export it as 8-bit RGB")
    brightest = int(samples.max())
    bits = next(bits for bits in _BIT_DEPTHS if brightest < 2**bits)
    scaled = np.rint(_scale(samples, 255.0 / (2**bits - 1)))
    note = f"{samples.dtype.itemsize * 8}-bit samples read as {bits}-bit and scaled to 8-bit"
    return scaled.astype(np.uint8), (note,)


def _from_float(samples: Array) -> tuple[RGB, tuple[str, ...]]:
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput("the image has NaN or infinite samples: replace them or export 8-bit RGB")
    if low < -_FLOAT_SLACK or high > 255 + _FLOAT_SLACK:
        raise BadInput(
            f"float samples from {low:.4g} to {high:.4g}: expected 0 to 1 or 0 to 255; "
            "export 8-bit RGB"
        )
    unit = high <= 1 + _FLOAT_SLACK
    scaled = np.rint(np.clip(_scale(samples, 255.0 if unit else 1.0), 0, 255))
    note = f"float samples read as 0 to {1 if unit else 255} and scaled to 8-bit"
    return scaled.astype(np.uint8), (note,)


def _scale(samples: Array, factor: float) -> npt.NDArray[np.float32]:
    """float32 keeps the copy at four bytes a sample; its 24 bits are plenty for 8-bit output."""
    scaled: npt.NDArray[np.float32] = samples.astype(np.float32)
    scaled *= np.float32(factor)
    return scaled


def to_rgb(samples: RGB, alpha: RGB | None = None, *, premultiplied: bool = False) -> RGB:
    """Grey to RGB where needed, and composite on white, the colour of empty glass.

    Args:
        samples: uint8, shape (H, W), (H, W, 1) or (H, W, 3).
        alpha: uint8, shape (H, W), 255 is opaque, or None.
        premultiplied: `samples` are already multiplied by `alpha`.

    Returns:
        uint8, shape (H, W, 3), C-contiguous.
    """
    grey = samples[..., 0] if samples.ndim == 3 and samples.shape[2] == 1 else samples
    rgb = np.stack([grey] * 3, axis=-1) if grey.ndim == 2 else np.ascontiguousarray(samples)
    if alpha is None or bool((alpha == 255).all()):
        return rgb
    opacity = alpha[..., None].astype(np.uint32)
    ink = rgb.astype(np.uint32) * (255 if premultiplied else opacity)
    white = 255 * (255 - opacity)
    mixed: npt.NDArray[np.uint32] = np.minimum((ink + white + 127) // 255, 255)
    return mixed.astype(np.uint8)


def cmyk_to_rgb(samples: RGB) -> RGB:
    """Uncalibrated CMYK (0 is no ink), shape (H, W, 4), to RGB, shape (H, W, 3)."""
    paper = 255 - samples.astype(np.uint16)
    return ((paper[..., :3] * paper[..., 3:] + 127) // 255).astype(np.uint8)
