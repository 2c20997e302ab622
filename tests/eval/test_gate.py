"""The pictures that the gate is tried on, and the table that comes of them."""

import numpy as np
import pytest

from eval.gate import blurred, corner, dab, fluorescence, jpeg, resized


def test_a_chromogen_takes_the_place_of_eosin(skin):
    before, after = (x.reshape(-1, 3).astype(int) for x in (skin.rgb, dab(skin.rgb)))
    pink = before[:, 0] - before[:, 1] > 60
    assert pink.mean() > 0.1
    assert np.median((before[:, 2] - before[:, 1])[pink]) > 0
    assert np.median((after[:, 2] - after[:, 1])[pink]) < 0


def test_fluorescence_is_dark_where_nothing_is(skin):
    glow = fluorescence(skin.rgb, (0.1, 1, 0.2))
    assert glow.shape == skin.rgb.shape
    assert np.median(glow.max(2)) < np.median(skin.rgb.max(2)) / 2


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_part_is_of_the_picture(skin, share):
    part = corner(skin.rgb, np.random.default_rng(0), share)
    assert part.shape == (round(400 * share), round(400 * share), 3)


def test_size_and_detail_change_as_asked(skin):
    assert resized(skin.rgb, 0.5).shape == (200, 200, 3)
    assert jpeg(skin.rgb, 40).shape == skin.rgb.shape
    steps = [np.abs(np.diff(blurred(skin.rgb, r).astype(int), axis=1)).mean() for r in (0, 2, 8)]
    assert steps[0] > 1.5 * steps[1] > 3 * steps[2]
