"""Encoders from local folders, written by the test from small vision transformers."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model, ViTImageProcessor

from models.backend import Image, TissueBackend
from models.external.config import EncoderEntry, ModelUnavailable, file_sha256
from models.external.encoder import Encoder, encoder_tissue
from models.vision.features import views

UNI2 = {
    "img_size": 56,
    "patch_size": 14,
    "depth": 2,
    "num_heads": 2,
    "embed_dim": 32,
    "init_values": 1e-5,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}
"""UNI2-h's arguments, as its card gives them, with a smaller width, depth and picture."""


MEAN, STD = (0.7, 0.6, 0.5), (0.2, 0.25, 0.3)


def entry(folder, **more):
    path = folder / "model.safetensors"
    return EncoderEntry(
        checkpoint=path, sha256=file_sha256(path), licence="test", device="cpu", **more
    )


def save_as_timm(net, folder):
    """A folder as timm's models have it on the hub: the weights, and how to build the network."""
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "pretrained_cfg": {"input_size": [3, 56, 56], "mean": list(MEAN), "std": list(STD)},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(net.state_dict(), folder / "model.safetensors")


def scaled(pictures, mean, std):
    small = functional.interpolate(pictures, (56, 56), mode="bilinear", antialias=True)
    return (small - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))


def test_a_timm_folder_gives_what_the_saved_network_gave(tmp_path, pictures):
    torch.manual_seed(0)
    layers = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    net = timm.create_model("vit_small_patch16_224", num_classes=0, **UNI2, **layers).eval()
    save_as_timm(net, tmp_path)
    args = {**UNI2, "mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    encoder = Encoder(entry(tmp_path, model_args=args))
    found = encoder(pictures)
    with torch.no_grad():
        expected = net(scaled(pictures, MEAN, STD)).numpy()
    assert encoder.side == 56
    assert found.shape == (3, 32)
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99  # bfloat16 on some machines


def test_a_transformers_folder_gives_the_first_token(tmp_path, pictures):
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    net = Dinov2Model(config).eval()
    net.save_pretrained(tmp_path)
    ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(tmp_path)
    found = Encoder(entry(tmp_path))(pictures)
    with torch.no_grad():
        expected = net(scaled(pictures, (0.5,) * 3, (0.25,) * 3)).last_hidden_state[:, 0].numpy()
    assert found.shape == (3, 32)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_a_folder_that_is_neither_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=r"no .*config\.json"):
        Encoder(entry(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match="neither timm nor transformers"):
        Encoder(entry(tmp_path))


def test_weights_of_another_architecture_do_not_load(tmp_path):
    net = timm.create_model("vit_small_patch16_224", num_classes=0, **UNI2)
    save_as_timm(net, tmp_path)
    with pytest.raises(RuntimeError, match="state_dict"):
        Encoder(entry(tmp_path, model_args={**UNI2, "embed_dim": 64}))


def save_probe(path, encoder):
    """A probe of two organs; the second has the image's features on its side."""
    tensors = {"mean": torch.zeros(32), "spread": torch.ones(32), "bias": torch.zeros(2)}
    tensors["weight"] = torch.stack([-torch.ones(32), torch.ones(32)], dim=1)
    settings = {"organs": '["liver", "kidney"]', "temperature": "1", "threshold": "0.4"}
    save_file(tensors, path, {**settings, "licence": "test", "encoder": encoder})


def test_a_probe_on_the_encoder_names_the_organ(tmp_path, skin):
    torch.manual_seed(0)
    save_as_timm(timm.create_model("vit_small_patch16_224", num_classes=0, **UNI2), tmp_path)
    configured = entry(tmp_path, model_args=UNI2, probe=tmp_path / "probe.safetensors")
    save_probe(configured.probe, configured.sha256)
    backend = encoder_tissue(configured)
    assert isinstance(backend, TissueBackend)
    assert backend.info.name == "hf-encoder"
    assert configured.sha256 in backend.info.weights.values()
    features = Encoder(configured)(views(skin.rgb)).sum(axis=1).mean()
    assert backend.tissue(Image(skin.rgb)).label == ("kidney" if features > 0 else "liver")


def test_a_probe_of_another_encoder_is_refused(tmp_path):
    save_as_timm(timm.create_model("vit_small_patch16_224", num_classes=0, **UNI2), tmp_path)
    configured = entry(tmp_path, model_args=UNI2, probe=tmp_path / "probe.safetensors")
    with pytest.raises(ModelUnavailable, match=r"no file .*models\.train tissue"):
        encoder_tissue(configured)
    save_probe(configured.probe, "0" * 64)
    with pytest.raises(ModelUnavailable, match="another encoder"):
        encoder_tissue(configured)
    with pytest.raises(ModelUnavailable, match="no probe"):
        encoder_tissue(configured.model_copy(update={"probe": None}))
