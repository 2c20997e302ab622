"""Regions by text: a dense embedding of H&E that is compared with the embedding of a concept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from skimage.morphology import remove_small_holes, remove_small_objects
from torch import Tensor, nn
from torch.nn import functional

from models.backend import Image, Quality, Region
from models.memory import Memory
from models.tiling import tiles
from models.vision.net import STRIDE, Ensemble, fold_norms, plain_encoder
from models.vision.weights import WEIGHTS, ensemble, inference_dtype, read_figures, read_weights

WORKING_MPP = 1.0
"""µm/px that training crops are centred on: regions need more context than nuclei."""
OUT_STRIDE = 2
"""One px of the network's output is so many of its input."""
WIDTH = 384
"""Numbers in a text embedding (all-MiniLM-L6-v2)."""
ASSUMED_MPP = 0.35
"""µm/px taken for an image whose pixel size nobody knows: half way from 40x to 20x, so that either
lies in the range of scales that the network was trained on."""
Logits = npt.NDArray[np.float32]
_OUT_MPP = WORKING_MPP * OUT_STRIDE
_MPP_RANGE = (0.15, 2.0)
_CORE = 512
_HALO = 128
_KEPT = 4
_SPECK_UM2 = 400.0
_EVIDENCE_UM2 = 2000.0
_SEEN_AS = {
    "carcinoma": "tumor",
    "adenocarcinoma": "tumor",
    "invasive tumor": "tumor",
    "tumor nest": "tumor",
    "metastasis": "tumor",
    "crypt": "gland",
    "prostatic gland": "gland",
    "endometrial gland": "gland",
}
"""Kinds of a taught concept that are answered with all of it, and the answer says so."""
_CHANNELS = (320, 112, 40, 24, 16)  # of the encoder at strides 32 to 2
_TOP = 128
_WIDTHS = (96, 64, 48, 48)  # of the decoder at strides 16 to 2
_EMBEDDING = 64


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class RegionNet(nn.Module):
    """RGB and text embeddings to a logit a pixel and text.

    EfficientNet-Lite0 encoder, U-Net decoder, and a sigmoid of the scaled cosine between the
    embeddings of the pixel and of the text (after SigLIP, Zhai et al., ICCV 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = fold_norms(plain_encoder())
        deep, *skips = _CHANNELS
        self.top = nn.Sequential(nn.Conv2d(deep, _TOP, 1, bias=False), nn.BatchNorm2d(_TOP))
        inputs = (_TOP, *_WIDTHS[:-1])
        self.decoder = nn.ModuleList(
            _block(below + skip, out)
            for below, skip, out in zip(inputs, skips, _WIDTHS, strict=True)
        )
        self.pixel = nn.Conv2d(_WIDTHS[-1], _EMBEDDING, 1)
        self.text = nn.Linear(WIDTH, _EMBEDDING)
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(self, rgb: Tensor, text: Tensor) -> Tensor:
        """Logits (B, K, H / 2, W / 2).

        Args:
            rgb: (B, 3, H, W), 0..1, H and W multiples of 32.
            text: (B, K, `WIDTH`) or (K, `WIDTH`), text embeddings.
        """
        features = self.encoder((rgb - 0.5) / 0.5)  # its ImageNet weights expect -1..1
        y = self.top(features[-1])
        for block, skip in zip(self.decoder, features[-2::-1], strict=True):
            y = block(torch.cat([functional.interpolate(y, scale_factor=2.0), skip], dim=1))
        pixels = functional.normalize(self.pixel(y), dim=1)
        prompts = functional.normalize(self.text(text), dim=-1)
        if prompts.ndim == 2:
            prompts = prompts.expand(len(rgb), -1, -1)
        cosine = torch.einsum("bchw,bkc->bkhw", pixels, prompts.to(pixels.dtype))
        return cosine.float() * self.scale.exp() + self.bias


@dataclass(frozen=True)
class Prompt:
    """What turns the logits of one concept into a mask; chosen on sources left out of training.

    Attributes:
        edge: logit above which a pixel belongs to the concept.
        slope, offset: of the presence, `sigmoid(slope * evidence(logits) + offset)`.
    """

    edge: float
    slope: float
    offset: float

    def present(self, logits: Logits) -> float:
        """The probability that the concept is in an image of these logits."""
        return float(1 / (1 + np.exp(-(self.slope * evidence(logits) + self.offset))))


def evidence(logits: Logits) -> float:
    """How strongly an image speaks for a concept: the mean of the highest `_EVIDENCE` logits."""
    flat = logits.ravel()
    most = max(1, min(round(_EVIDENCE_UM2 / _OUT_MPP**2), len(flat)))
    return float(np.partition(flat, -most)[-most:].astype(np.float32).mean())


def working_shape(image: Image) -> tuple[int, int]:
    """Height and width of `image` at `WORKING_MPP`, in px."""
    scale = min(image.mpp or ASSUMED_MPP, _MPP_RANGE[1]) / WORKING_MPP
    height, width = (max(8, round(side * scale)) for side in image.shape)
    return height, width


@torch.inference_mode()
def encode(net: nn.Module, image: Image, text: Tensor) -> Logits:
    """Logits of `text` over the whole image, tile by tile.

    Args:
        net: a `RegionNet` or an `Ensemble` of them, in evaluation mode.
        image: any size.
        text: (K, `WIDTH`).

    Returns:
        float32 (K, h, w), at `WORKING_MPP * OUT_STRIDE` µm/px, rounded up.
    """
    height, width = working_shape(image)
    rgb = np.asarray(Pillow.fromarray(image.rgb).resize((width, height), Pillow.Resampling.BOX))
    out = np.zeros((len(text), -(-height // OUT_STRIDE), -(-width // OUT_STRIDE)), np.float32)
    for tile in tiles((height, width), _CORE, _HALO):
        found = _logits(net, rgb[tile.window], text)
        rows, columns = (_halved(part) for part in tile.core)
        inner = tuple(_halved(part) for part in tile.core_in_window)
        out[:, rows, columns] = found[:, *inner]
    return out


def _halved(part: slice) -> slice:
    return slice(part.start // OUT_STRIDE, -(-part.stop // OUT_STRIDE))


def _logits(net: nn.Module, rgb: npt.NDArray[np.uint8], text: Tensor) -> Logits:
    """Logits of one window, which starts on an even px, and of its half turn, averaged.

    The encoder pads its strided convolutions on one side only; the half turn evens that out. Of an
    ensemble every other network looks at the one, the rest at the other: half of the time.
    """
    looks = list(net.members) if isinstance(net, Ensemble) and len(net.members) > 1 else [net, net]
    device = next(net.parameters()).device
    height, width = rgb.shape[:2]
    pad = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
    padded = torch.from_numpy(np.pad(rgb, pad, mode="symmetric")).to(device)
    x, text = padded.permute(2, 0, 1)[None].float() / 255, text.to(device)
    dtype = inference_dtype(device)
    total = torch.zeros((), device=device)
    for number, look in enumerate(looks):
        way = (2, 3) if number % 2 else ()
        view = x.flip(way).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = total + look(view, text).flip(way)[0]
    mean = total / len(looks)
    rows, columns = -(-height // OUT_STRIDE), -(-width // OUT_STRIDE)
    logits: Logits = mean[:, :rows, :columns].cpu().numpy()
    return logits


def outline(logits: Logits, edge: float, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask of one concept at the image's resolution, without specks and pinholes.

    Args:
        logits: float (h, w), at `WORKING_MPP * OUT_STRIDE` µm/px.
        edge: logit at the mask's edge.
        shape: height and width wanted.
    """
    raw = logits > edge
    least = round(_SPECK_UM2 / _OUT_MPP**2)
    clean = remove_small_holes(remove_small_objects(raw, max_size=least), max_size=least)
    values = np.where(clean == raw, logits - edge, np.where(clean, 1.0, -1.0)).astype(np.float32)
    size = (shape[1], shape[0])
    return np.asarray(Pillow.fromarray(values).resize(size, Pillow.Resampling.BILINEAR)) > 0


class TextRegions:
    """A `RegionBackend`: regions whose text embeddings came with the weights.

    The logits of the last few images are kept, so that a further prompt costs milliseconds.

    Attributes:
        info: name, licence, checksum of the weights.
        regions: the concepts, and kinds of them, with the measured quality of the concept.
        prompts: what turns each concept's logits into a mask.
        sources: the sets that the networks were trained on.
        net: the networks, in evaluation mode.
    """

    def __init__(self, weights: Path = WEIGHTS / "regions.safetensors", device: str = "") -> None:
        """Load the network and the concepts.

        Args:
            weights: safetensors file written by `python -m models.train regions`.
            device: as torch names it; by default CUDA where there is one, else the CPU.
        """
        read = read_weights(weights)
        prompts = json.loads(read.settings["prompts"])
        self.prompts = {name: Prompt(**prompt) for name, prompt in prompts.items()}
        self.sources: tuple[str, ...] = tuple(json.loads(read.settings["sources"]))
        self._text = read.tensors.pop("concepts")
        self.net = ensemble(RegionNet, read, device)
        self.info = read.info("regions", "3")
        figures = read_figures(weights)
        kinds = {kind: taught for kind, taught in _SEEN_AS.items() if taught in self.prompts}
        self._taught = {name: name for name in self.prompts} | kinds
        self.regions: Mapping[str, Quality | None] = {
            name: figures.get(taught) for name, taught in self._taught.items()
        }
        self._memory = Memory(_KEPT)

    def region(self, image: Image, concept: str) -> Region:
        """Outline `concept`, a key of `regions`.

        Raises:
            KeyError: `concept` is not in `regions`.
        """
        taught = self._taught[concept]
        prompt = self.prompts[taught]
        maps = self._memory.get((image.digest, image.mpp), lambda: self._encode(image))
        logits = maps[list(self.prompts).index(taught)].astype(np.float32)
        mask = outline(logits, prompt.edge, image.shape)
        present = prompt.present(logits) if mask.any() else 0.0
        return Region(mask, present, self._method(concept, image.mpp))

    def _method(self, concept: str, mpp: float | None) -> str:
        said = "trained networks (EfficientNet-Lite0), pixel embeddings compared with the text's"
        if self._taught[concept] != concept:
            said += f"; {concept} is not told apart from other {self._taught[concept]}"
        if mpp is None:
            return f"{said}; resolution unknown, taken as {ASSUMED_MPP} µm/px"
        if not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
            low, high = _MPP_RANGE
            return f"{said}; {mpp:g} µm/px is outside {low:g} to {high:g}, where it was trained"
        return said

    def _encode(self, image: Image) -> npt.NDArray[np.float16]:
        return encode(self.net, image, self._text).astype(np.float16)
