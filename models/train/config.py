"""Configurations of the training runs, read from small TOML files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


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


class Schedule(_Config):
    """How `models.train.loop` trains.

    Attributes:
        warmup: steps of linear warm-up.
        decay: last steps, in which the rate falls linearly to zero. It is constant until then, so
            that a run may be resumed with another total.
        rate: AdamW's learning rate.
        encoder_rate: learning rate of the pretrained encoder.
        weight_decay: AdamW's.
        average: decay of the exponential moving average of the weights.
        checkpoint_every: steps between checkpoints.
    """

    warmup: PositiveInt
    decay: PositiveInt
    rate: PositiveFloat
    encoder_rate: PositiveFloat
    weight_decay: float
    average: float
    checkpoint_every: PositiveInt


class NucleiConfig(Schedule):
    """A training run of the nucleus network.

    Attributes:
        seed: of the initial weights and of every batch; a batch is a function of seed and step.
        steps: optimiser steps in all.
        batch: crops a step.
        crop: side of a crop at the working resolution, px.
        holdout: every so-manyth image of `holdout_sources`, by name, is kept for validation.
        holdout_sources: the sources that give validation images.
        sources: name of the folder under `nuclei/train` to its description.
        licence: of the resulting weights, for the card and the backend.
    """

    seed: int
    steps: PositiveInt
    batch: PositiveInt
    crop: PositiveInt
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


class MitosisConfig(Schedule):
    """A training run of the classifier of mitotic figures.

    Attributes:
        seed: of the initial weights and of every batch.
        first_steps: optimiser steps of each of the two networks that choose among the negatives.
        steps: further steps, on all groups and what those chose.
        marked_steps: steps after them, with the fields in which every figure is marked.
        marked_seeds: of the batches of these; what ships is the mean of a network a seed.
        marked_rate: learning rate of these, as a share of `rate` and `encoder_rate`.
        batch: crops a step, half of them figures; a multiple of 24.
        holdout: every so-manyth group of a set is kept to be looked at with the result.
        figures: name of a folder of patches under `mitosis` to the licence of its data.
        fields: folder of fields without known figures, under the data folder, to its licence.
        marked: folder of fields in which every figure is marked, to its licence.
        licence: of the resulting weights.
    """

    seed: int
    first_steps: PositiveInt
    steps: PositiveInt
    batch: Annotated[PositiveInt, Field(multiple_of=24)]
    holdout: PositiveInt
    marked_steps: PositiveInt
    marked_seeds: Annotated[list[int], Field(min_length=1)]
    marked_rate: PositiveFloat
    figures: dict[str, str]
    fields: dict[str, str]
    marked: dict[str, str]
    licence: str


class RegionSource(_Config):
    """One set for the region network: a folder with masks, or tiles of the manifest.

    Attributes:
        weight: share of crops that come from it, relative to the other sources.
        licence: of the data, for the card.
        mpp: µm/px of its images, or a guess where nobody knows.
        fold: which of the two cross-validation folds leaves it out; None: its groups alternate.
        inside: concept to the mask values that are it, for a folder of `regions`.
        outside: concept to the mask values that are surely not it. Pixels of all other values
            teach nothing about the concept.
        tiles: dataset and class of the manifest's tiles, as `dataset.class`; empty for a folder of
            `regions`.
        nuclei: folder of a typed nucleus set, below the data folder: its classes stand for mask
            values where neighbouring nuclei agree.
        share: concept to the share of a tile's tissue that is surely it, at the least.
        absent: concepts that no image of the set holds.
    """

    weight: PositiveFloat
    licence: str
    mpp: PositiveFloat
    fold: int | None = None
    inside: dict[str, list[int]] = {}
    outside: dict[str, list[int]] = {}
    tiles: str = ""
    nuclei: str = ""
    share: dict[str, PositiveFloat] = {}
    absent: list[str] = []


class RegionRun(_Config):
    """In what a member of an ensemble differs from the first; the names are `RegionConfig`'s."""

    seed: int
    steps: PositiveInt
    fold_steps: PositiveInt
    decay: PositiveInt
    batch: PositiveInt | None = None
    average: PositiveFloat | None = None
    retinted: Annotated[float, Field(ge=0, le=1)] = 0.0


class LastSteps(_Config):
    """Steps with other weights of some sources, after all others.

    Attributes:
        steps: how many.
        decay: as in `Schedule`: the rate starts again, at `steps / decay` of its peak.
        weights: of the sources that are drawn more or less often now.
    """

    steps: PositiveInt
    decay: PositiveInt
    weights: dict[str, PositiveFloat]


class RegionConfig(Schedule):
    """A training run of the region networks: an ensemble, and its twins that measure it.

    Attributes:
        seed: of the initial weights and of every batch.
        steps: optimiser steps of the shipped network.
        fold_steps: optimiser steps of each of the two networks that are trained on a half of the
            sources to be measured on the other half.
        retinted: chance that a crop takes on something of another image's colours.
        others: further members of the ensemble, of which all this is true but what they say.
        last: what the shipped networks, not the folds', end with.
        batch, crop: as in `NucleiConfig`.
        encoder: file in `models/weights` of the nucleus network whose encoder is the start; by
            default ImageNet's.
        holdout: every so-manyth group of the sources of fold 0 is kept back for calibration.
        concepts: ontology names that it is taught.
        declared: those of them that it answers: whose quality on left-out sources will do.
        false_masks: share of kept-back images without a concept that may be said to hold it.
        least_evidence: concept to the evidence below which it is never said to be there, where
            what is kept back holds too few look-alikes.
        sources: by the set's name.
        licence: of the resulting weights.
    """

    seed: int
    steps: PositiveInt
    fold_steps: PositiveInt
    retinted: Annotated[float, Field(ge=0, le=1)] = 0.0
    others: list[RegionRun] = []
    last: LastSteps | None = None
    batch: PositiveInt
    crop: PositiveInt
    encoder: str = ""
    holdout: PositiveInt
    concepts: list[str]
    declared: list[str]
    false_masks: PositiveFloat
    least_evidence: dict[str, float] = {}
    licence: str
    sources: dict[str, RegionSource]

    @model_validator(mode="after")
    def _last_weights_are_of_sources(self) -> Self:
        unknown = set(self.last.weights if self.last else ()) - set(self.sources)
        if unknown:
            raise ValueError(f"last.weights names no source: {', '.join(sorted(unknown))}")
        return self

    def members(self) -> list[Self]:
        """The run of each member."""
        return [
            self,
            *(
                self.model_copy(update=other.model_dump(exclude_unset=True))
                for other in self.others
            ),
        ]

    def ending(self, last: LastSteps) -> Self:
        """The run whose last steps are `last`."""
        sources = {
            name: source.model_copy(update={"weight": last.weights.get(name, source.weight)})
            for name, source in self.sources.items()
        }
        steps = self.steps + last.steps
        return self.model_copy(update={"steps": steps, "decay": last.decay, "sources": sources})
