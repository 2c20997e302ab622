"""Nuclei from checkpoints in the upstream formats, written by the test from small networks."""

import numpy as np
import pytest
import torch
from cellpose.vit import CPSAM
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam
from torch import nn

from models.backend import ALL_NUCLEI, Image, NucleiBackend, OutOfRange
from models.external.cellpose_sam import cellpose_sam
from models.external.config import Entry, TorchScriptEntry, file_sha256
from models.external.torchscript import normalised, torchscript

SIDE = 8
"""Cellpose-SAM's tokens are 8 px a side: the network below sees one nucleus in each."""


def one_nucleus_a_token():
    """Cellpose-SAM's network, narrow, whose readout draws a nucleus into each token.

    The readout's weights are zero and its biases are a token's flows (towards the token's middle,
    times 5, as Cellpose trains them) and cell probabilities, whatever the pixels are.
    """
    net = CPSAM()
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    far = np.hypot(y, x)
    flow = np.stack([-y, -x]) / np.maximum(far, 1e-6) * 5
    logit = np.where(far < SIDE / 2 - 0.5, 6.0, -6.0)
    planes = np.concatenate([flow * (logit > 0), logit[None]])
    with torch.no_grad():
        net.out.weight.zero_()
        net.out.bias.copy_(torch.from_numpy(planes.reshape(-1)))
    return net


@pytest.fixture(scope="module")
def narrow():
    """Cellpose builds its network on SAM's `vit_l`: here two narrow layers instead of 24."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_model_registry, "vit_l", lambda _: _build_sam(32, 2, 2, [0, 1]))
        yield


@pytest.fixture(scope="module")
def cellpose(narrow, tmp_path_factory):
    path = tmp_path_factory.mktemp("cellpose") / "cpsam"
    one_nucleus_a_token().save_model(path)
    return cellpose_sam(Entry(checkpoint=path, sha256=file_sha256(path), device="cpu"))


def noise(height, width, mpp):
    rgb = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    return Image(rgb, mpp)


def test_cellpose_sam_declares_what_it_is(cellpose):
    assert isinstance(cellpose, NucleiBackend)
    assert dict(cellpose.cells) == {ALL_NUCLEI: None}
    assert cellpose.info.licence == "CC-BY-NC-4.0"
    assert list(cellpose.info.weights) == ["cpsam"]


@pytest.mark.parametrize(("mpp", "tokens"), [(0.25, 16), (0.125, 8), (None, 16)])
def test_cellpose_sam_works_at_its_own_pixel_size(cellpose, mpp, tokens):
    found = cellpose.nuclei(noise(128, 128, mpp), ALL_NUCLEI)
    count = int(found.labels.max())
    assert found.labels.shape == (128, 128)
    assert found.labels.dtype == np.int32
    assert abs(count - tokens**2) <= 4 * tokens  # those cut at the border may be dropped
    assert found.kinds == (ALL_NUCLEI,) * count
    assert found.confidence.shape == (count,)
    assert ((found.confidence > 0.5) & (found.confidence <= 1)).all()
    assert ("assumed" in found.method) == (mpp is None)


def test_a_checkpoint_of_an_older_cellpose_is_refused(narrow, tmp_path):
    path = tmp_path / "cyto3"
    torch.save({"downsample.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="CP4"):
        cellpose_sam(Entry(checkpoint=path, sha256=file_sha256(path), device="cpu"))


class DarkBlobs(nn.Module):
    """A label map a channel, as InstanSeg's: a number for each dark cell of a grid of 8 px."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.clamp_max_(x, 3.0)  # InstanSeg's own file works in place
        assert x.shape[1] == 3
        assert x.shape[2] >= 128
        assert x.shape[3] >= 128
        rows = torch.arange(x.shape[2])[:, None] // 8
        columns = torch.arange(x.shape[3])[None] // 8
        cells = rows * 1000 + columns + 7
        dark = (x[0].mean(0) < 0.5) & (x.max() > x.min())
        nuclei = torch.where(dark, cells, torch.zeros_like(cells))
        return torch.stack([nuclei, torch.ones_like(nuclei)])[None].float()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchscript") / "brightfield_nuclei.pt"
    torch.jit.script(DarkBlobs()).save(str(path))
    return torchscript(
        TorchScriptEntry(
            checkpoint=path, sha256=file_sha256(path), licence="Apache-2.0", device="cpu"
        )
    )


def squares(height, width, side, mpp):
    """Dark squares of `side` px, one in four cells of the grid of that side."""
    rows, columns = np.mgrid[:height, :width] // side
    dark = (rows % 2 == 1) & (columns % 2 == 1)
    rgb = np.where(dark[..., None], np.uint8(40), np.uint8(220)).repeat(3, 2)
    return Image(rgb, mpp), dark


@pytest.mark.parametrize(
    ("height", "width", "side", "mpp"),
    [(160, 160, 8, 0.5), (320, 320, 16, 0.25), (48, 32, 8, 0.5), (704, 1296, 8, 0.5)],
)
def test_a_torchscript_file_sees_its_pixel_size_in_windows(scripted, height, width, side, mpp):
    image, dark = squares(height, width, side, mpp)
    found = scripted.nuclei(image, ALL_NUCLEI)
    count = (height // side // 2) * (width // side // 2)
    assert found.labels.dtype == np.int32
    assert set(np.unique(found.labels)) == set(range(count + 1))
    assert np.array_equal(found.labels > 0, dark)
    assert found.confidence.tolist() == [1.0] * count
    assert "gives no confidences" in found.method
    assert scripted.info.licence == "Apache-2.0"


def test_pixels_reach_the_network_between_their_percentiles():
    rgb = np.linspace(30, 230, 300 * 300).reshape(300, 300)[..., None].repeat(3, 2).astype(np.uint8)
    planes = normalised(rgb)
    assert planes.shape == (3, 300, 300)
    assert planes.dtype == np.float32
    assert np.quantile(planes, 0.001) == pytest.approx(0, abs=0.01)
    assert np.quantile(planes, 0.999) == pytest.approx(1, abs=0.01)
    assert np.isfinite(normalised(np.full((20, 20, 3), 7, np.uint8))).all()


def test_an_empty_field_has_no_nuclei(scripted):
    found = scripted.nuclei(Image(np.full((64, 64, 3), 240, np.uint8), 0.5), ALL_NUCLEI)
    assert found.present == found.labels.max() == len(found.confidence) == 0


def test_the_limits_of_the_question(scripted):
    with pytest.raises(OutOfRange, match="too few pixels"):
        scripted.nuclei(noise(32, 32, 2.0), ALL_NUCLEI)
    with pytest.raises(KeyError):
        scripted.nuclei(noise(32, 32, 0.5), "lymphocyte")


def test_a_follow_up_is_not_computed_again(scripted, monkeypatch):
    image, _ = squares(160, 160, 8, 0.5)
    first = scripted.nuclei(image, ALL_NUCLEI)
    monkeypatch.setattr(scripted, "_find", None)
    assert scripted.nuclei(image, ALL_NUCLEI).labels is first.labels
