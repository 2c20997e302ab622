"""The network, the folding of its norms, and what turns maps into instances."""

import numpy as np
import torch
from torch import nn

from models.vision.net import KINDS, FlowNet, fold_norms, plain_encoder
from models.vision.nuclei import Maps, Settings, enlarge, instances, resize

SETTINGS = Settings(mpp=0.4, inside=0.0, least=8, confidence=0.5)


def discs(*circles, shape=(64, 64)):
    """A label map of discs (row, column, radius)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for index, (row, column, radius) in enumerate(circles, 1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = index
    return labels


def ideal_maps(labels):
    """What a perfect network would say about `labels`."""
    from cellpose.dynamics import masks_to_flows_gpu

    flow = masks_to_flows_gpu(labels)[0].astype(np.float32) * 5
    inside = np.where(labels > 0, 5, -5).astype(np.float32)
    return Maps(flow, inside, np.full((len(KINDS), *labels.shape), 0.25, np.float32))


def test_predictions_have_the_size_of_the_input():
    out = FlowNet().eval()(torch.rand(1, 3, 64, 96))
    assert out.flow.shape == (1, 2, 64, 96)
    assert out.inside.shape == (1, 1, 64, 96)
    assert out.kind.shape == (1, len(KINDS), 64, 96)


def test_folding_the_norms_changes_nothing_but_removes_them():
    torch.manual_seed(0)
    encoder = plain_encoder().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(x)
        after = fold_norms(encoder)(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_instances_come_back_from_their_own_flows_even_where_they_touch():
    labels = discs((20, 20, 8), (20, 37, 8), (48, 30, 6))
    found = instances(ideal_maps(labels), SETTINGS)
    assert found.max() == 3
    for index in (1, 2, 3):
        best = np.bincount(found[labels == index])[1:].argmax() + 1
        either = ((labels == index) | (found == best)).sum()
        assert ((labels == index) & (found == best)).sum() / either > 0.9


def test_nothing_inside_gives_no_instances():
    maps = ideal_maps(np.zeros((32, 40), np.int32))
    assert instances(maps, SETTINGS).shape == (32, 40)
    assert not instances(maps, SETTINGS).any()


def test_instances_keep_their_place_when_enlarged():
    labels = discs((20, 20, 8), (40, 44, 10))
    inside = np.where(labels > 0, 3, -3).astype(np.float32)
    large = enlarge(labels, inside, (160, 160), 0.0)
    truth = discs((50.75, 50.75, 20), (100.75, 110.75, 25), shape=(160, 160))
    assert set(np.unique(large)) == {0, 1, 2}
    for index in (1, 2):
        both = ((large == index) & (truth == index)).sum()
        assert both / ((large == index) | (truth == index)).sum() > 0.9


def test_resize_leaves_an_image_of_the_right_size_alone():
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert resize(rgb, (4, 4)) is rgb
    assert resize(rgb, (2, 8)).shape == (2, 8, 3)
