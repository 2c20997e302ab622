"""The region backend: masks of any image, presence, follow-ups for nothing, tiles without seams."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from models import ontology
from models.backend import Image, RegionBackend, array_digest
from models.vision import regions as module
from models.vision.net import Ensemble
from models.vision.regions import Prompt, RegionNet, TextRegions, encode, evidence, outline
from models.vision.weights import WEIGHTS, read_weights
from tools.segment import PRESENT_FROM


@pytest.fixture(scope="module")
def backend():
    return TextRegions(device="cpu")


@pytest.fixture(scope="module")
def concept(backend):
    return next(iter(backend.regions))


def test_every_concept_is_the_ontologys_and_has_a_measured_figure(backend):
    assert isinstance(backend, RegionBackend)
    for name, quality in backend.regions.items():
        found = ontology.find(name, "region")
        assert found is not None
        assert found.name == name
        assert quality is not None
        assert quality.metric == "Dice"
        assert quality.n > 1


def test_the_sample_of_normal_skin_holds_neither_tumor_nor_gland(backend, sample):
    for name in {"tumor", "gland"} & set(backend.regions):
        assert backend.region(sample, name).present < PRESENT_FROM


def test_the_same_image_gives_the_same_answer_and_a_second_prompt_encodes_nothing(
    backend, skin, concept, monkeypatch
):
    first = backend.region(skin, concept)
    assert first.mask.shape == skin.shape
    assert first.mask.dtype == bool
    again = TextRegions(device="cpu").region(skin, concept)
    assert array_digest(first.mask) == array_digest(again.mask)
    assert first.present == again.present
    monkeypatch.setattr(module, "encode", None)
    for name in backend.regions:
        assert 0 <= backend.region(skin, name).present <= 1


def test_a_kind_of_a_taught_concept_is_answered_with_all_of_it_and_says_so(backend, skin):
    kind, taught = backend.region(skin, "carcinoma"), backend.region(skin, "tumor")
    assert np.array_equal(kind.mask, taught.mask)
    assert kind.present == taught.present
    assert "carcinoma is not told apart from other tumor" in kind.method
    assert "told apart" not in taught.method


def test_a_concept_that_it_was_not_taught_is_an_error(backend, skin):
    with pytest.raises(KeyError):
        backend.region(skin, "cartilage")


def test_blank_glass_holds_nothing(backend):
    glass = Image(np.full((300, 200, 3), 242, np.uint8), 0.5)
    for name in backend.regions:
        assert backend.region(glass, name).present < PRESENT_FROM


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 31)])
@pytest.mark.parametrize("mpp", [0.2, None, 5.0])
def test_any_size_and_scale_is_answered(backend, concept, shape, mpp):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = backend.region(Image(rgb, mpp), concept)
    assert found.mask.shape == shape
    assert 0 <= found.present <= 1


def test_it_says_what_it_assumed_about_the_resolution(backend, concept):
    rgb = np.full((64, 64, 3), 200, np.uint8)
    assert "unknown" in backend.region(Image(rgb, None), concept).method
    assert "outside" in backend.region(Image(rgb, 4.0), concept).method
    assert "outside" not in backend.region(Image(rgb, 0.25), concept).method


def test_tiles_give_nearly_the_logits_of_the_whole(backend, sample, monkeypatch):
    text = torch.nn.functional.normalize(torch.ones(1, module.WIDTH), dim=1)
    whole = encode(backend.net, sample, text)
    monkeypatch.setattr(module, "_CORE", 256)
    tiled = encode(backend.net, sample, text)
    assert whole.shape == tiled.shape
    assert np.abs(whole - tiled).mean() < 0.2 * whole.std()


def test_the_half_turn_of_an_image_has_the_half_turned_logits(backend, skin):
    text = torch.nn.functional.normalize(torch.ones(1, module.WIDTH), dim=1)
    rgb = np.asarray(Pillow.fromarray(skin.rgb).resize((192, 192)))
    image, half_turn = Image(rgb, 1.0), Image(np.ascontiguousarray(rgb[::-1, ::-1]), 1.0)
    one, other = backend.net.members[:2]
    # Of two networks the first looks at the image and the second at its half turn.
    for net, turned in ((one, one), (Ensemble([one, other]), Ensemble([other, one]))):
        logits, back = encode(net, image, text), encode(turned, half_turn, text)[:, ::-1, ::-1]
        assert np.abs(logits - back).max() < 0.1


def test_an_outline_has_no_specks_and_no_pinholes():
    logits = np.full((60, 60), -3.0, np.float32)
    logits[20:50, 20:50] = 3
    logits[30, 30] = -3
    logits[5, 5] = 3
    mask = outline(logits, 0.0, (120, 120))
    assert mask.shape == (120, 120)
    assert not mask[:30].any()
    assert mask[50:90, 50:90].all()
    assert mask.mean() == pytest.approx(0.25, abs=0.01)
    assert not outline(logits, 4.0, (120, 120)).any()


def test_presence_rises_with_the_strongest_evidence_and_not_with_the_size_of_the_image():
    prompt = Prompt(edge=0.0, slope=2.0, offset=-1.0)
    small, large = np.full((40, 40), -5, np.float32), np.full((400, 400), -5, np.float32)
    for logits in (small, large):
        logits[:30, :30] = 2
    assert evidence(small) == evidence(large) == 2
    assert prompt.present(large) == pytest.approx(1 / (1 + np.exp(-3)))
    assert prompt.present(np.full((4, 4), -5, np.float32)) < 0.01


def test_logits_depend_on_the_text_and_have_half_the_size():
    torch.manual_seed(0)
    net = RegionNet().eval()
    text = torch.nn.functional.normalize(torch.randn(2, module.WIDTH), dim=1)
    with torch.inference_mode():
        out = net(torch.rand(1, 3, 64, 96), text)
    assert out.shape == (1, 2, 32, 48)
    assert not torch.allclose(out[:, 0], out[:, 1])


def test_an_ensemble_gives_the_mean_of_its_members():
    torch.manual_seed(0)
    nets = [RegionNet().eval() for _ in range(2)]
    rgb, text = torch.rand(1, 3, 32, 32), torch.randn(3, module.WIDTH)
    with torch.inference_mode():
        own = [net(rgb, text) for net in nets]
        torch.testing.assert_close(Ensemble(nets)(rgb, text), (own[0] + own[1]) / 2)


def test_the_info_pins_the_weights(backend):
    sha = read_weights(WEIGHTS / "regions.safetensors").sha256
    assert backend.info.weights == {"regions.safetensors": sha}
    assert sha.startswith(backend.info.version.split("+")[1])
    card = (WEIGHTS / "regions.md").read_text()
    assert all(name in card for name in backend.sources)
