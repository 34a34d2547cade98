"""Run folders of ours: all of the encoder comes back, and a stranger's folder gets no hold on anything."""

import pytest
import torch
import yaml

from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.run_folder import save_encoder, trained_on
from shiftbench.errors import InputError


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("small_cnn").eval()
    head = Head([backbone.feature_dim, 16], normalize=True)
    save_encoder(
        tmp_path / "run", name="mine", backbone_name="small_cnn", backbone=backbone, heads={"head": head},
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=32, train={"seed": 3, "data": "stl10", "selection": "last"},
    )  # fmt: skip
    return tmp_path / "run", backbone, head.eval()


@pytest.fixture
def describe(run):
    """Change the description of the run: ``describe(backbone="x")``."""

    def change(**parts):
        file = run[0] / "encoder.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | parts))
        return str(run[0])

    return change


def test_round_trip(run, images):
    folder, backbone, head = run
    encoder = load_encoder(str(folder))
    with torch.no_grad():
        hidden = backbone((images.float() / 255 - 0.5) / 0.25)
        torch.testing.assert_close(encoder.features(images)["backbone"], hidden, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(encoder(images), head(hidden), rtol=1e-5, atol=1e-5)
    assert (encoder.name, encoder.train_seed, encoder.selection) == ("mine", 3, "last")
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.safetensors", "encoder.yaml"]
    assert trained_on(folder) == "stl10"


def test_fingerprint_is_that_of_the_weights_and_the_preprocessing(run, describe):
    before = load_encoder(str(run[0])).fingerprint
    assert load_encoder(str(run[0])).fingerprint == before
    folder = describe(preprocess={"mean": [0.1, 0.1, 0.1], "std": [0.25, 0.25, 0.25], "size": 32})
    assert load_encoder(folder).fingerprint != before


def test_a_folder_reached_through_a_link_is_one(run, tmp_path, images):
    (tmp_path / "link").symlink_to(run[0])
    assert load_encoder(str(tmp_path / "link"))(images).shape == (4, 16)


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.yaml"])
def test_a_link_out_of_the_folder_is_refused(run, tmp_path, name):
    (run[0] / name).rename(tmp_path / name)
    (run[0] / name).symlink_to(tmp_path / name)
    with pytest.raises(InputError, match="leads out of its run folder"):
        load_encoder(str(run[0]))


def test_changed_weights_are_noticed(run):
    weights = run[0] / "encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="sha256 differs"):
        load_encoder(str(run[0]))


def test_a_description_cannot_choose_which_code_is_imported(describe):
    """A description from a stranger must not name a module of its own to run; the user may, on the URI."""
    folder = describe(backbone="shiftbench.encoders.backbones:small_cnn")
    with pytest.raises(InputError, match="not a registered backbone"):
        load_encoder(folder)
    assert load_encoder(f"{folder}?arch=shiftbench.encoders.backbones:small_cnn").name == "mine"


@pytest.mark.parametrize(
    "parts",
    [
        {"heads": {"head": {"dims": [10**9, 10**9]}}},
        {"heads": {"head": {"dims": [128, 15]}}},
        {"heads": {"head": {"width": 3}}},
        {"heads": {"tail": {"dims": [128, 16]}}},
        {"heads": 3},
        {"backbone": ["small_cnn"]},
        {"backbone": "resnet18"},
        {"preprocess": {"size": 32}},
        {"preprocess": {"mean": [0, 0, 0], "std": [1, 1, 1], "size": "big"}},
        {"train": "well"},
    ],
)
def test_a_description_that_does_not_fit(describe, parts):
    with pytest.raises(InputError, match=r"damaged|not the one that|matches \d+ of|size=big"):
        load_encoder(describe(**parts))


def test_a_description_of_a_few_lines_does_not_become_gigabytes(run):
    lines = ["a: &a [x, x]"] + [
        f"{new}: &{new} [*{old}, *{old}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    for content in ("\n".join(lines), "x: " + "y" * (1 << 20), "- " * 100_000, "\0"):
        (run[0] / "encoder.yaml").write_text(content)
        with pytest.raises(InputError, match="is damaged") as refused:
            load_encoder(str(run[0]))
        assert "\n" not in str(refused.value)


def test_values_that_repeat_are_written_out(run, tmp_path):
    """yaml writes a list that occurs twice as a reference, which descriptions may not hold."""
    _, backbone, _ = run
    levels = [1, 2]
    save_encoder(
        tmp_path / "again", name="again", backbone_name="small_cnn", backbone=backbone, heads={}, mean=(0, 0, 0),
        std=(1, 1, 1), size=None, train={"one": levels, "two": levels},
    )  # fmt: skip
    assert load_encoder(str(tmp_path / "again")).origin["train"] == {"one": [1, 2], "two": [1, 2]}


def test_unfinished_run_says_how_to_go_on(tmp_path):
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(InputError, match="train resume="):
        load_encoder(str(tmp_path))


def test_another_folder_is_not_a_run(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        load_encoder(str(tmp_path))
