"""Vision encoders of the Hugging Face kind, from a local folder: a picture in, a vector out.

Pathology foundation models come in one of two forms, told apart by their `config.json`: timm's
(H-optimus, UNI2: "architecture") and transformers' ("model_type"). Nothing is fetched and no code
from the folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel

from models.external.config import EncoderEntry, ModelUnavailable, config_path
from models.vision.tissue import ProbeTissue
from models.vision.weights import inference_dtype, read_weights

_BATCH = 16


class Encoder:
    """A frozen encoder.

    Attributes:
        side: the side of the square that it looks at, px.
        licence, sha256: of its weights.
    """

    def __init__(self, entry: EncoderEntry) -> None:
        """Load it.

        Raises:
            ModelUnavailable: the folder's `config.json` is missing or of neither form.
        """
        path = entry.checkpoint.parent / "config.json"
        if not path.is_file():
            raise ModelUnavailable(f"there is no {path} beside the checkpoint")
        config = json.loads(path.read_text(encoding="utf-8"))
        load = _timm if "architecture" in config else _transformers
        if load is _transformers and "model_type" not in config:
            raise ModelUnavailable(f"{path} is of neither timm nor transformers")
        self._net, self._embed, self.side, mean, spread = load(entry)
        self._device = entry.torch_device()
        self._net.eval().to(self._device)
        self._mean, self._spread = (
            torch.tensor(values, device=self._device)[:, None, None] for values in (mean, spread)
        )
        self.licence, self.sha256 = entry.licence, entry.sha256

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> npt.NDArray[np.float32]:
        """Features float32 (B, D) of pictures (B, 3, S, S), 0..1, brought to `side` and scaled."""
        dtype = inference_dtype(self._device)
        found = []
        for part in batch.to(self._device).split(_BATCH):
            size = (self.side, self.side)
            x = functional.interpolate(part, size, mode="bilinear", antialias=True)
            with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
                found.append(self._embed((x - self._mean) / self._spread).float().cpu())
        return torch.cat(found).numpy()


def encoder_tissue(entry: EncoderEntry) -> ProbeTissue:
    """The organ probe that was trained on the configured encoder.

    Raises:
        ModelUnavailable: there is none, or it was trained on another encoder.
    """
    train = "train one by `python -m models.train tissue --hf-encoder` and name it as `probe`"
    if entry.probe is None:
        raise ModelUnavailable(f"{config_path()}: [hf-encoder] has no probe: {train}")
    path = config_path().parent / entry.probe.expanduser()
    if not path.is_file():
        raise ModelUnavailable(f"{config_path()}: [hf-encoder] there is no file {path}: {train}")
    if read_weights(path).settings.get("encoder") != entry.sha256:
        raise ModelUnavailable(f"{path} was trained on another encoder than configured: {train}")
    backend = ProbeTissue(path, Encoder(entry))
    weights = {**backend.info.weights, entry.checkpoint.name: entry.sha256}
    licence = f"{entry.licence} (encoder); {backend.info.licence} (probe)"
    backend.info = replace(backend.info, name="hf-encoder", weights=weights, licence=licence)
    return backend


Loaded = tuple[nn.Module, Callable[[Tensor], Tensor], int, list[float], list[float]]
"""The network, what makes a vector of pictures with it, their side, mean and deviation."""


def _timm(entry: EncoderEntry) -> Loaded:
    """UNI2's SwiGLU layers can be named in `model_args` as in timm.layers."""
    folder = entry.checkpoint.parent
    args: dict[str, Any] = dict(entry.model_args)
    if "mlp_layer" in args:
        args["mlp_layer"] = getattr(timm.layers, str(args["mlp_layer"]))
    net = timm.create_model(f"local-dir:{folder}", pretrained=False, num_classes=0, **args)
    timm.models.load_checkpoint(net, str(entry.checkpoint), weights_only=True)
    data = resolve_data_config(model=net)
    return net, net, data["input_size"][-1], list(data["mean"]), list(data["std"])


def _transformers(entry: EncoderEntry) -> Loaded:
    """The first token of the last layer, which is what these encoders train as their summary."""
    folder = entry.checkpoint.parent
    net = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pictures = AutoImageProcessor.from_pretrained(folder, local_files_only=True)

    def embed(x: Tensor) -> Tensor:
        summary: Tensor = net(pixel_values=x).last_hidden_state[:, 0]
        return summary

    return net, embed, net.config.image_size, pictures.image_mean, pictures.image_std
