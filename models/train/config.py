"""Configurations of the training runs, read from small TOML files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate the TOML file at `path`."""
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


class Source(_Config):
    """One nucleus set.

    Attributes:
        weight: share of crops that come from it, relative to the other sources.
        licence: of the data, for the card.
        mpp: µm/px of its images.
        mpp_of: µm/px of single images (by file stem) that differ.
        typed: whether its classes are `models.vision.net.KINDS`.
    """

    weight: PositiveFloat
    licence: str
    mpp: PositiveFloat
    mpp_of: dict[str, PositiveFloat] = {}
    typed: bool = False


class NucleiConfig(_Config):
    """A training run of the nucleus network.

    Attributes:
        seed: of the initial weights and of every batch; a batch is a function of seed and step.
        steps: optimiser steps in all. The rate is constant until `decay` of them are left, so that
            a run may be resumed with another total until then.
        warmup: steps of linear warm-up.
        decay: last steps, in which the rate falls linearly to zero.
        batch: crops a step.
        crop: side of a crop at the working resolution, px.
        rate: AdamW's learning rate of the decoder.
        encoder_rate: learning rate of the pretrained encoder.
        weight_decay: AdamW's.
        average: decay of the exponential moving average of the weights.
        checkpoint_every: steps between checkpoints.
        holdout: every so-manyth image of `holdout_sources`, by name, is kept for validation.
        holdout_sources: the sources that give validation images.
        sources: name of the folder under `nuclei/train` to its description.
        licence: of the resulting weights, for the card and the backend.
    """

    seed: int
    steps: PositiveInt
    warmup: PositiveInt
    decay: PositiveInt
    batch: PositiveInt
    crop: PositiveInt
    rate: PositiveFloat
    encoder_rate: PositiveFloat
    weight_decay: float
    average: float
    checkpoint_every: PositiveInt
    holdout: PositiveInt
    holdout_sources: list[str]
    licence: str
    sources: dict[str, Source]


class TissueConfig(_Config):
    """A training run of the organ probe.

    Attributes:
        seed: of the training views.
        views: augmented views of each training image.
        shrinkages: shrinkages to choose from, by accuracy on sources left out.
        false_alarm: share of images of left-out sources and organs that may be named wrongly; sets
            the threshold.
        licences: where given, only images whose licence starts with one of these are used.
        licence: of the resulting weights.
    """

    seed: int
    views: PositiveInt
    shrinkages: list[PositiveFloat]
    false_alarm: PositiveFloat
    licences: list[str] = []
    licence: str
