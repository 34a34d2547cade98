"""Vision models of transformers, saved locally with tiny random weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.runtime import compat

compat.torchvision()
transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION = SMALL | {"image_size": 32, "patch_size": 8}
SQUARE = {"size": {"height": 32, "width": 32}}
CUT = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 40, 52), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def saved(folder, model, processor):
    torch.manual_seed(0)
    network = model.eval()
    network.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return network


def pixels(processor, images):
    found = processor(images=list(images), return_tensors="pt")
    return found["pixel_values"]


def test_a_vit_with_its_own_preprocessing(tmp_path, images):
    processor = transformers.ViTImageProcessor(**SQUARE, resample=3)
    network = saved(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VISION)), processor)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.origin["architecture"] == "ViTModel"
    assert encoder.origin["preprocess"]["interpolation"] == "bicubic"
    with torch.no_grad():
        wanted = network(pixels(processor, images)).pooler_output
    assert (encoder(images) - wanted).abs().max() < 0.02 * wanted.abs().max()
    layer = load_encoder(f"hf:{tmp_path}?feature=network.layernorm&pool=cls")
    with torch.no_grad():
        state = network(layer.preprocess(images)).last_hidden_state
    torch.testing.assert_close(layer(images), state[:, 0], rtol=1e-4, atol=1e-5)


def test_a_pooler_that_is_not_in_the_checkpoint_is_not_used(tmp_path, images):
    """transformers starts it at random and goes on; a classifier's checkpoint has none."""
    network = saved(
        tmp_path,
        transformers.ViTForImageClassification(transformers.ViTConfig(**VISION)),
        transformers.ViTImageProcessor(**SQUARE),
    )
    one, two = load_encoder(f"hf:{tmp_path}"), load_encoder(f"hf:{tmp_path}")
    assert torch.equal(one(images), two(images))
    with torch.no_grad():
        state = network.vit(one.preprocess(images)).last_hidden_state
    torch.testing.assert_close(one(images), state[:, 0], rtol=1e-4, atol=1e-5)


def test_clips_vision_tower_and_projection(tmp_path, images):
    text = SMALL | {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.CLIPConfig(vision_config=VISION, text_config=text, projection_dim=8)
    processor = transformers.CLIPImageProcessor(**CUT)
    network = saved(tmp_path, transformers.CLIPModel(config), processor)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.feature_names == ("backbone", "projection")
    assert encoder.origin["preprocess"]["crop"] == pytest.approx(32 / 36)
    found = encoder.features(images)
    with torch.no_grad():
        output = network.vision_model(encoder.preprocess(images))
        wanted = network.visual_projection(output.pooler_output)
        theirs = network.vision_model(pixels(processor, images)).pooler_output
    torch.testing.assert_close(found["projection"], wanted, rtol=1e-4, atol=1e-5)
    assert (found["backbone"] - theirs).abs().max() < 0.03 * theirs.abs().max()


def test_dinov2(tmp_path, images):
    config = transformers.Dinov2Config(**{k: v for k, v in VISION.items() if k != "intermediate_size"})
    network = saved(tmp_path, transformers.Dinov2Model(config), transformers.BitImageProcessor(**CUT))
    encoder = load_encoder(f"hf:{tmp_path}")
    with torch.no_grad():
        wanted = network(encoder.preprocess(images)).pooler_output
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-4, atol=1e-5)


def test_a_convolutional_network_saved_in_half_precision(tmp_path, images):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875)
    saved(tmp_path, transformers.ResNetForImageClassification(config).half(), processor)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder(images).shape == (3, 12)
    assert int(32 / encoder.origin["preprocess"]["crop"] + 1e-6) == int(32 / 0.875)


def test_without_an_image_processor_norm_is_asked_for(tmp_path, images):
    saved(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VISION)), None)
    with pytest.raises(InputError, match=r"no image processor .* add \?norm="):
        load_encoder(f"hf:{tmp_path}")
    assert load_encoder(f"hf:{tmp_path}?norm=half&size=32")(images).shape == (3, 16)


def test_weights_that_lack_are_an_error(tmp_path):
    saved(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VISION)), transformers.ViTImageProcessor(**SQUARE))
    state = load_file(tmp_path / "model.safetensors")
    lost = next(key for key in state if "layernorm" in key)
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"its weights are not those of a ViTModel .missing .*norm"):
        load_encoder(f"hf:{tmp_path}")


def test_remote_code_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about = {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config", "AutoModel": "odd.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "odd.py").write_text("__import__('pathlib').Path('canary').touch()")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="code of its own, which is never run"):
        load_encoder(f"hf:{tmp_path}")
    assert not (tmp_path / "canary").exists()


def test_pickled_weights_are_not_read(tmp_path):
    saved(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VISION)), transformers.ViTImageProcessor(**SQUARE))
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \.safetensors: pickled weights are not read"):
        load_encoder(f"hf:{tmp_path}")


def test_a_language_model_takes_no_images(tmp_path):
    saved(tmp_path, transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=99)), None)
    with pytest.raises(InputError, match="is a BertModel, which takes no images"):
        load_encoder(f"hf:{tmp_path}")


def test_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"not in the Hugging Face cache: add \?download=true"):
        load_encoder("hf:nobody/nothing")
    with pytest.raises(InputError, match="there is no such folder"):
        load_encoder(f"hf:{tmp_path / 'nothing'}")
