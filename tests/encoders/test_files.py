"""Weights on disk: everything loads or says why not, and nothing is ever executed."""

import pickle

import pytest
import torch
import yaml
from safetensors.torch import save_file

from shiftbench.encoders import load_encoder
from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.files import PREFIXES, save_encoder
from shiftbench.errors import InputError


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return build_backbone("small_cnn").eval()


@pytest.fixture
def run(tmp_path, backbone):
    head = Head([backbone.feature_dim, 16], normalize=True)
    save_encoder(
        tmp_path / "run", name="mine", backbone_name="small_cnn", backbone=backbone, heads={"head": head},
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=32, train={"seed": 3, "data": "digits", "selection": "last"},
    )  # fmt: skip
    return tmp_path / "run", backbone, head.eval()


def test_run_folder_round_trip(run, images):
    folder, backbone, head = run
    encoder = load_encoder(str(folder))
    with torch.no_grad():
        hidden = backbone((images.float() / 255 - 0.5) / 0.25)
        torch.testing.assert_close(encoder.features(images)["backbone"], hidden, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(encoder(images), head(hidden), rtol=1e-5, atol=1e-5)
    assert (encoder.name, encoder.train_seed, encoder.selection) == ("mine", 3, "last")
    assert sorted(path.name for path in folder.iterdir()) == ["encoder.safetensors", "encoder.yaml"]


def test_fingerprint_is_that_of_the_weights_and_the_preprocessing(run):
    folder = run[0]
    before = load_encoder(str(folder)).fingerprint
    assert load_encoder(str(folder)).fingerprint == before
    about = yaml.safe_load((folder / "encoder.yaml").read_text())
    about["preprocess"]["mean"] = [0.1, 0.1, 0.1]
    (folder / "encoder.yaml").write_text(yaml.safe_dump(about))
    assert load_encoder(str(folder)).fingerprint != before


@pytest.mark.parametrize("container", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", *PREFIXES, "module.encoder."])
def test_shapes_in_which_people_ship_weights(tmp_path, backbone, images, container, prefix):
    state = {prefix + key: value for key, value in backbone.state_dict().items()}
    torch.save({container: state, "epoch": 3} if container else state, tmp_path / "w.pt")
    encoder = load_encoder(f"{tmp_path / 'w.pt'}?arch=small_cnn&norm=none")
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), backbone(images.float() / 255), rtol=1e-5, atol=1e-5)


def test_safetensors_and_a_path_with_odd_characters(tmp_path, backbone, images):
    path = tmp_path / "a=b, c'd.safetensors"
    save_file(backbone.state_dict(), path)
    assert load_encoder(f"{path}?arch=small_cnn&norm=half")(images).shape == (4, backbone.feature_dim)


def test_a_classifier_head_is_dropped_and_named(tmp_path, backbone):
    torch.save(backbone.state_dict() | {"fc.weight": torch.zeros(10, 4)}, tmp_path / "w.pt")
    encoder = load_encoder(f"{tmp_path / 'w.pt'}?arch=small_cnn&norm=none")
    assert encoder.origin["dropped"] == ["fc.weight"]


def test_a_missing_tensor_is_an_error(tmp_path, backbone):
    state = {key: value for key, value in backbone.state_dict().items() if not key.endswith("tracked")}
    lost = next(key for key in state if key.endswith("weight"))
    del state[lost]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match=f"matches {len(state)} of {len(state) + 1} tensors.*missing {lost}"):
        load_encoder(f"{tmp_path / 'w.pt'}?arch=small_cnn&norm=none")


def test_another_architecture_is_an_error(tmp_path, backbone):
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt' matches \d+ of \d+ tensors"):
        load_encoder(f"{tmp_path / 'w.pt'}?arch=resnet18_cifar&norm=none")


class Canary:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('canary').touch()",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a torch checkpoint"),
        (b"hello, I am a text file", "not a torch checkpoint"),
        (pickle.dumps({"state_dict": Canary()}), "refused|not a torch checkpoint"),
        (pickle.dumps([1, 2]), "no state dict|not a torch checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_encoder("w.pt?arch=small_cnn&norm=none")
    assert not (tmp_path / "canary").exists()


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Canary()}, "w.pt")
    with pytest.raises(InputError, match=r"wants to run \S*eval"):
        load_encoder("w.pt?arch=small_cnn&norm=none")
    assert not (tmp_path / "canary").exists()


def test_truncated_files(tmp_path, backbone):
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match="not a"):
            load_encoder(f"{path}?arch=small_cnn&norm=none")


def test_changed_run_weights_are_noticed(run):
    folder = run[0]
    weights = folder / "encoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="sha256 differs"):
        load_encoder(str(folder))


def test_a_run_folder_cannot_choose_which_code_is_imported(run):
    """A description from a stranger must not name a module of its own to run; the user may, on the URI."""
    folder = run[0]
    about = yaml.safe_load((folder / "encoder.yaml").read_text())
    about["backbone"] = "shiftbench.encoders.backbones:small_cnn"
    (folder / "encoder.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(InputError, match="not a registered backbone"):
        load_encoder(str(folder))
    assert load_encoder(f"{folder}?arch=shiftbench.encoders.backbones:small_cnn").name == "mine"


def test_unfinished_run_says_how_to_go_on(tmp_path):
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(InputError, match="train resume="):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nothing-here", "No checkpoint 'nothing-here'"),
        ("{tmp}/notes.txt", "not a checkpoint"),
        ("{tmp}", "not a run folder"),
        ("{tmp}/w.pt", r"add \?arch="),
        ("{tmp}/w.pt?arch=small_cnn&norm=imagnet", "Unknown norm"),
        ("{tmp}/w.pt?arch=smal_cnn&norm=none", "Did you mean 'small_cnn'"),
        ("{tmp}/w.pt?archh=x", "takes no such option"),
        ("{tmp}/w.pt?arch=small_cnn&norm=none&size=x", "size=x"),
        ("{tmp}/w.pt?arch=small_cnn&norm=none&size=-3", "size=-3"),
        ("{tmp}/w.pt?arch=torch.nn:Linear&norm=none", "cannot be built without arguments"),
        ("pixels:3", "takes nothing"),
        ("random:resnet999", "Unknown backbone"),
        ("no_such_module:f", "there is no module"),
        ("math:no_such_name", "no attribute"),
        ("math:pi", "not a callable"),
    ],
)
def test_uris_that_cannot_be_used(tmp_path, backbone, uri, message):
    (tmp_path / "notes.txt").write_text("x")
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        load_encoder(uri.format(tmp=tmp_path))


def test_python_callable(images):
    encoder = load_encoder("torch:flatten")
    assert encoder.name == "torch:flatten"
    with pytest.raises(InputError, match="is needed"):
        encoder(images)
