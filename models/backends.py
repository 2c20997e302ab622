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


def _infiltrate() -> Any:
    from models.vision.infiltrate import Infiltrates

    return Infiltrates(_loaded("flow"))


def _mitosis() -> Any:
    from models.vision.mitosis import MitoticFigures

    return MitoticFigures(_loaded("flow"))


def _probe() -> Any:
    from models.vision.tissue import ProbeTissue

    return ProbeTissue()


def _regions() -> Any:
    from models.vision.regions import TextRegions

    return TextRegions()


def _sam() -> Any:
    from models.external.config import SamEntry, configured
    from models.external.sam import SamRegions

    entry = configured("sam", SamEntry)
    return SamRegions(entry, _loaded(entry.over))


def _cellpose_sam() -> Any:
    from models.external.cellpose_sam import cellpose_sam
    from models.external.config import Entry, configured

    return cellpose_sam(configured("cellpose-sam", Entry))


def _torchscript() -> Any:
    from models.external.config import TorchScriptEntry, configured
    from models.external.torchscript import torchscript

    return torchscript(configured("torchscript", TorchScriptEntry))


def _hf_encoder() -> Any:
    from models.external.config import EncoderEntry, configured
    from models.external.encoder import encoder_tissue

    return encoder_tissue(configured("hf-encoder", EncoderEntry))


LOADERS: dict[str, Callable[[], Any]] = {
    "classical": _classical,
    "flow": _flow,
    "infiltrate": _infiltrate,
    "mitosis": _mitosis,
    "probe": _probe,
    "regions": _regions,
    "sam": _sam,
    "cellpose-sam": _cellpose_sam,
    "torchscript": _torchscript,
    "hf-encoder": _hf_encoder,
}
"""Backend name to the function that loads it. Imports are deferred: networks take seconds."""
_loading = Lock()


def load(name: str) -> Any:
    """The backend of that name; it implements one or more protocols of `models.backend`.

    Raises:
        KeyError: there is no backend of that name.
        ModelUnavailable: a production backend (`models.external`) is not configured as it has to.
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
