"""Training of the organ probe: frozen features, a regularised linear head, a cautious threshold."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import Tensor, nn

from models.external.encoder import Encoder
from models.train.augment import degrade, jitter_stain
from models.train.cards import tissue_card
from models.train.config import TissueConfig
from models.train.imagenet import imagenet_state
from models.train.probe import (
    Sample,
    Set,
    accuracy,
    calibrate,
    choose_threshold,
    fit,
    leave_organs_out,
    leave_sources_out,
)
from models.vision.features import as_float, even_stain, pooled, square, views
from models.vision.net import fold_norms, plain_encoder

_LEAST_VIEW = 112
_LEAST_SHARE = 0.35


def read_manifest(data: Path, config: TissueConfig) -> list[Sample]:
    """The training rows of `data/tissue/manifest.csv` that the config's licences admit."""
    with (data / "tissue" / "manifest.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["split"] == "train"]
    samples = []
    for number, row in enumerate(rows):
        organ = row["organ"].replace("_", " ")
        path = row["path"].strip("\0")  # the manifest as it came holds a run of NULs
        if not config.licences or row["licence"].startswith(tuple(config.licences)):
            source = f"{organ}/{row['dataset']}"
            samples.append(Sample(number, path, organ, source, row["licence"]))
    return samples


def frozen_encoder() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights at half precision (as shipped), norms folded."""
    encoder = plain_encoder()
    wanted = encoder.state_dict().keys()
    encoder.load_state_dict(
        {name: value for name, value in imagenet_state().items() if name in wanted}, strict=False
    )
    return fold_norms(encoder.eval()).half().float()


def augmented(rgb: npt.NDArray[np.uint8], count: int, rng: np.random.Generator) -> Tensor:
    """Random squares of an image, stain evened and then jittered, degraded: (count, 3, S, S)."""
    whole = as_float(rgb)
    height, width = whole.shape[1:]
    side = min(height, width)
    least = max(_LEAST_SHARE, min(1.0, _LEAST_VIEW / side))
    out = []
    for _ in range(count):
        part = int(side * np.exp(rng.uniform(np.log(least), 0)))
        top, left = int(rng.integers(height - part + 1)), int(rng.integers(width - part + 1))
        view = even_stain(square(whole, top, left, part))
        view = degrade(jitter_stain(view, rng, 0.5), rng)
        out.append(view.flip(-1) if rng.random() < 0.5 else view)
    return torch.stack(out)


def embed(
    data: Path,
    samples: Sequence[Sample],
    config: TissueConfig,
    cache: Path,
    encoder: Encoder | None,
) -> Set:
    """Features of all samples, kept in `cache` (npz) together with what they were made from.

    A cache of the same encoder, seed and views that holds more images than these serves as well.
    """
    settings = [config.seed, config.views, *([encoder.sha256] if encoder else [])]
    organ = np.array([sample.organ for sample in samples])
    source = np.array([sample.source for sample in samples])
    if cache.exists():
        kept = np.load(cache)
        made, paths = json.loads(str(kept["key"]))
        place = {path: at for at, path in enumerate(paths)}
        if made == settings and all(sample.path in place for sample in samples):
            rows = [place[sample.path] for sample in samples]
            return Set(kept["train"][rows], kept["plain"][rows], organ, source)
    encode = encoder or partial(pooled, frozen_encoder())
    train, plain = [], []
    for index, sample in enumerate(samples):
        rgb = np.asarray(Pillow.open(data / sample.path).convert("RGB"))
        rng = np.random.default_rng([config.seed, sample.number])
        batch = torch.cat([augmented(rgb, config.views, rng), views(rgb)])
        features = encode(batch).astype(np.float64)
        train.append(features[: config.views])
        plain.append(features[config.views :])
        if index % 100 == 0:
            print(f"{index} of {len(samples)} images", flush=True)
    key = json.dumps([settings, [sample.path for sample in samples]])
    np.savez(cache, train=np.stack(train), plain=np.stack(plain), key=key)
    return Set(np.stack(train), np.stack(plain), organ, source)


def train(data: Path, config: TissueConfig, out: Path, encoder: Encoder | None = None) -> None:
    """Embed, choose shrinkage, temperature and threshold, fit, write weights and card to `out`.

    With `encoder`, the probe is for that one, whose weights stay where they are; else for
    EfficientNet-Lite0, whose weights go into the file.
    """
    samples = read_manifest(data, config)
    features = embed(data, samples, config, out / "tissue-features.npz", encoder)
    organs = sorted(set(features.organ.tolist()))
    tried = {p: list(leave_sources_out(features, organs, p)) for p in config.shrinkages}
    for p, left_out in tried.items():
        print(f"shrinkage {p:g}: accuracy on left-out sources {accuracy(left_out):.3f}", flush=True)
    shrinkage = max(tried, key=lambda p: accuracy(tried[p]))
    sources = tried[shrinkage]
    unseen = list(leave_organs_out(features, organs, shrinkage))
    temperature = calibrate(sources)
    threshold = choose_threshold([*sources, *unseen], temperature, config.false_alarm)
    probe = fit(features, np.ones(len(samples), bool), organs, shrinkage)
    own = {} if encoder else frozen_encoder().state_dict()
    tensors = {f"encoder.{k}": v.half() for k, v in own.items()}
    for name in ("mean", "spread", "weight", "bias"):
        tensors[name] = torch.from_numpy(getattr(probe, name)).float()
    settings = {
        "organs": json.dumps(organs),
        "temperature": f"{temperature:.4f}",
        "threshold": f"{threshold:.2f}",
        "licence": config.licence,
    }
    if encoder:
        settings["encoder"] = encoder.sha256
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "tissue.safetensors", settings)
    card = tissue_card(samples, sources, unseen, config, settings, shrinkage)
    (out / "tissue.md").write_text(card, encoding="utf-8")
