"""Inflammation derived from nuclei: dense and mostly inflammatory, or nothing."""

import numpy as np
import pytest

from models import ontology
from models.backend import ALL_NUCLEI, BackendInfo, Image, Nuclei, RegionBackend
from models.vision.infiltrate import CELL, Infiltrates, densities, infiltrated

MPP = 0.5
SHAPE = (400, 400)


def crowd(centre, number, spacing_um=10):
    """A square of `number`² points, `spacing_um` apart."""
    offsets = (np.arange(number) - (number - 1) / 2) * spacing_um / MPP
    grid = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
    return grid + centre


def test_the_density_is_a_count_a_square_millimetre():
    spread = np.stack(np.meshgrid(np.arange(10, 400, 20), np.arange(10, 400, 20)), -1)
    smooth = densities(spread.reshape(-1, 2).astype(float), SHAPE, MPP)
    assert smooth.mean() == pytest.approx(400 / (0.2 * 0.2), rel=0.02)


def test_a_crowd_of_inflammatory_cells_is_an_infiltrate_where_it_lies():
    cells = crowd((120, 120), 8)
    mask = infiltrated(cells, cells, SHAPE, MPP)
    assert mask[120, 120]
    assert not mask[300, 300]
    assert 0.5 < mask.sum() * MPP**2 / 80**2 < 2.5


def test_a_few_cells_or_a_minority_are_none():
    cells = crowd((120, 120), 2)
    assert not infiltrated(cells, cells, SHAPE, MPP).any()
    cells, others = crowd((120, 120), 8), crowd((120, 120), 12, 6)
    assert not infiltrated(cells, np.vstack([cells, others]), SHAPE, MPP).any()
    assert not infiltrated(np.zeros((0, 2)), np.zeros((0, 2)), SHAPE, MPP).any()


class Drawn:
    """A nucleus backend whose nuclei are single pixels at given places."""

    info = BackendInfo("drawn", "1", "CC0-1.0")
    cells = dict.fromkeys((ALL_NUCLEI, CELL))

    def __init__(self, places):
        self.places = places.astype(int)

    def nuclei(self, image, concept):
        labels = np.zeros(image.shape, np.int32)
        labels[tuple(self.places.T)] = np.arange(1, len(self.places) + 1)
        n = len(self.places)
        return Nuclei(labels, (CELL,) * n, np.full(n, 0.8, np.float32), 0.8, "drawn")


def test_the_backend_names_its_rule_and_is_as_sure_as_its_nuclei_are_inflammatory():
    backend = Infiltrates(Drawn(crowd((120, 120), 8)))
    assert isinstance(backend, RegionBackend)
    image = Image(np.full((*SHAPE, 3), 200, np.uint8), MPP)
    found = backend.region(image, "lymphocytic infiltrate")
    assert found.mask.any()
    assert found.present == 1
    assert "2500 inflammatory nuclei a mm²" in found.method
    empty = Infiltrates(Drawn(np.zeros((0, 2)))).region(image, "inflammation")
    assert not empty.mask.any()
    assert empty.present == 0
    with pytest.raises(KeyError):
        backend.region(image, "tumor")


def test_every_region_is_the_ontologys():
    for name in Infiltrates(Drawn(np.zeros((0, 2)))).regions:
        assert getattr(ontology.find(name, "region"), "name", None) == name
