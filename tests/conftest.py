"""Fixtures that several folders share: the sample, a kit, one Ray for the session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from agent.planners import load
from agent.samples import sample_path
from agent.session import Kit
from models.backend import Image
from tools.image import read_image
from tools.ray_runtime import RayRuntime
from tools.runtime import LocalRuntime

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the training data lies outside the product and is not here"
)


@pytest.fixture(scope="session")
def sample() -> Image:
    """The whole sample: epidermis, dermis, keratin and glass, 1200 px, 0.499 µm/px."""
    return read_image(sample_path()).image


@pytest.fixture(scope="session")
def skin(sample: Image) -> Image:
    """A 400 px part of the sample with epidermis and dermis, 0.499 µm/px."""
    rgb = np.ascontiguousarray(sample.rgb[500:900, 350:750])
    return Image(rgb, sample.mpp)


@pytest.fixture(scope="session")
def rules_kit() -> Kit:
    return Kit(load("rules"), LocalRuntime())


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray, started once a session."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_runtime(ray_cluster: None) -> Iterator[RayRuntime]:
    runtime = RayRuntime(workers=2, timeout_s=120)
    yield runtime
    runtime.close()
