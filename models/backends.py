"""The vision backends by name, loaded once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from models.backend import Image


def _classical() -> Any:
    from models.classical import ClassicalBackend

    return ClassicalBackend()


def _flow() -> Any:
    from models.vision.nuclei import FlowNuclei

    return FlowNuclei()


def _probe() -> Any:
    from models.vision.tissue import ProbeTissue

    return ProbeTissue()


LOADERS: dict[str, Callable[[], Any]] = {
    "classical": _classical,
    "flow": _flow,
    "probe": _probe,
}
"""Backend name to the function that loads it. Imports are deferred: networks take seconds."""
_loading = Lock()


def load(name: str) -> Any:
    """The backend of that name; it implements one or more protocols of `models.backend`.

    Raises:
        KeyError: there is no backend of that name.
    """
    with _loading:
        return _loaded(name)


@cache
def _loaded(name: str) -> Any:
    return LOADERS[name]()


def tissue_mask(image: Image) -> npt.NDArray[np.bool_]:
    """Where there is tissue, by colour (the classical backend): the denominator of fractions."""
    mask: npt.NDArray[np.bool_] = load("classical").region(image, "tissue").mask
    return mask
