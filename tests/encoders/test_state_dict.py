"""State dicts as the world ships them: all of the backbone is loaded, or it is said which tensors are not."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.cifar_resnet import CifarResNet
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.state_dict import fill
from shiftbench.errors import InputError


def network(seed=0):
    """A ResNet-8, found by its tensors in milliseconds."""
    torch.manual_seed(seed)
    return CifarResNet([1, 1, 1]).eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def save(tmp_path):
    """Save nested content, in which ``(prefix, module or tensors)`` becomes a state dict; returns its URI."""

    def write(content, query="norm=none", name="w.pth"):
        torch.save(content, tmp_path / name)
        return f"{tmp_path / name}?{query}"

    return write


def under(prefix, module):
    return {prefix + key: value for key, value in module.state_dict().items()}


def same(encoder, module, images):
    with torch.no_grad():
        return torch.allclose(encoder.features(images)["backbone"], module(images.float() / 255), rtol=1e-4, atol=1e-5)


CONTAINERS = [
    "",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "classy_state_dict.base_model.model.trunk",
]
PREFIXES = [
    "", "module.", "_orig_mod.", "model.", "backbone.", "encoder.", "encoder_q.", "net.", "online_encoder.", "f.",
    "online_encoder.net.", "module.encoder_q.", "module._orig_mod.encoder.", "model.backbone.", "_feature_blocks.",
    "online_backbone.", "student.module.backbone.", "base_encoder.", "convnet.", "resnet.",
]  # fmt: skip


@pytest.mark.parametrize(
    ("container", "arch"), [*((name, None) for name in CONTAINERS), ("", "given"), ("state_dict", "given")]
)
def test_every_container_and_prefix(save, images, container, arch):
    module = network()
    for prefix in PREFIXES:
        content = under(prefix, module)
        for key in reversed(container.split(".") if container else []):
            content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"momentum": torch.zeros(3)}}}}
        query = "norm=none" + ("&arch=tests_resnet8:build" if arch else "")
        encoder = load_encoder(save(content, query))
        assert same(encoder, module, images), (container, prefix)
        assert encoder.origin["prefix"] == (container + "." if container else "") + prefix


@pytest.fixture(autouse=True)
def _own_architecture(tmp_path, monkeypatch):
    (tmp_path / "tests_resnet8.py").write_text(
        "from shiftbench.encoders.cifar_resnet import CifarResNet\ndef build():\n    return CifarResNet([1, 1, 1])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def moco(query, key):
    rest = {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": under("module.encoder_q.", query) | under("module.encoder_k.", key) | rest,
    }


def dino(teacher, student):
    head = {f"module.head.{part}": torch.randn(8, 8) for part in ("mlp.0.weight", "last_layer.weight_v")}
    return {
        "student": under("module.backbone.", student) | head,
        "teacher": under("backbone.", teacher) | {key.removeprefix("module."): value for key, value in head.items()},
    }


def byol(online, target):
    projector = {"online_projector.0.weight": torch.randn(8, 64)}
    return {"state_dict": under("online_encoder.", online) | under("target_encoder.", target) | projector}


def solo(online, momentum):
    rest = {
        "classifier.weight": torch.randn(10, 64),
        "classifier.bias": torch.randn(10),
        "projector.0.weight": torch.randn(8, 64),
    }
    return {"state_dict": under("momentum_backbone.", momentum) | under("backbone.", online) | rest}


def timm(ema, raw):
    return {"state_dict": under("", raw), "state_dict_ema": under("", ema)}


def lightning(ema, raw):
    return {"state_dict": under("model.", raw) | under("ema_model.module.", ema)}


def swav(chosen, _):
    rest = {"module.projection_head.0.weight": torch.randn(8, 64), "module.prototypes.weight": torch.randn(30, 8)}
    return under("module.", chosen) | rest


def lightly(online, momentum):
    return {"state_dict": under("backbone.", online) | under("backbone_momentum.", momentum)}


@pytest.mark.parametrize("maker", [moco, dino, byol, solo, timm, lightning, swav, lightly])
@pytest.mark.parametrize("copy_first", [False, True])
def test_the_network_that_its_method_evaluates_is_chosen(save, images, maker, copy_first):
    """MoCo's query encoder, BYOL's online one, DINO's teacher, averaged weights before the last ones."""
    chosen, other = network(1), network(2)
    content = maker(chosen, other)
    if copy_first:
        content = {
            key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in content.items()
        }
    assert same(load_encoder(save(content)), chosen, images)


@pytest.mark.parametrize("maker", [dino, timm, lightning])
def test_the_last_weights_instead_of_the_averaged_ones(save, images, maker):
    averaged, last = network(1), network(2)
    assert same(load_encoder(save(maker(averaged, last), "norm=none&ema=false")), last, images)


def test_a_momentum_copy_is_there_for_who_asks(save, images):
    query, key = network(1), network(2)
    assert same(load_encoder(save(moco(query, key), "norm=none&prefix=encoder_k")), key, images)


def test_averaged_weights_without_statistics_are_not_mixed_with_others(save):
    """Shadow copies of parameters alone lack BatchNorm's means: the user decides, nobody else."""
    shadow = dict(network(1).named_parameters())
    uri = save({"model": network(2).state_dict(), "ema": shadow})
    with pytest.raises(InputError, match=r"missing bn1\.running_mean"):
        load_encoder(uri)
    assert load_encoder(f"{uri}&ema=false").origin["prefix"] == "model."


def test_parts_beside_the_backbone_are_named(save):
    encoder = load_encoder(save(moco(network(1), network(2))))
    assert encoder.origin["dropped"] == [
        "state_dict.module.encoder_k",
        "state_dict.module.queue",
        "state_dict.module.queue_ptr",
    ]
    assert load_encoder(save(swav(network(), None))).origin["dropped"] == ["projection_head", "prototypes"]
    assert "dropped projection_head" in load_encoder(save(swav(network(), None))).origin["coverage"]


@pytest.mark.parametrize("name", ["fc", "linear", "classifier", "head"])
def test_a_classifier_becomes_the_feature_logits(save, images, name):
    module, head = network(), nn.Linear(64, 10)
    encoder = load_encoder(save({"state_dict": under("module.", module) | under(f"module.{name}.", head)}))
    found = encoder.features(images)
    assert encoder.feature_names == ("backbone", "logits")
    with torch.no_grad():
        torch.testing.assert_close(found["logits"], head(found["backbone"]), rtol=1e-5, atol=1e-5)
    assert (encoder.origin["classifier"], encoder.origin["dropped"]) == (name, [])


@pytest.mark.parametrize("weight", [torch.randn(10, 32), torch.randn(10, 64, 1, 1)])
def test_a_head_that_does_not_fit_is_dropped(save, weight):
    encoder = load_encoder(save(network().state_dict() | {"fc.weight": weight, "fc.bias": torch.zeros(10)}))
    assert encoder.feature_names == ("backbone",)
    assert encoder.origin["dropped"] == ["fc"]


def test_a_missing_tensor_is_an_error_unless_allowed(save, images):
    state = dict(network().state_dict())
    del state["layer2.0.conv2.weight"]
    count = sum(not key.endswith("tracked") for key in state)
    with pytest.raises(InputError, match=rf"matches {count} of {count + 1} tensors; missing layer2\.0\.conv2\.weight"):
        load_encoder(save(state))
    one, two = (load_encoder(save(state, "norm=none&allow_missing=true")) for _ in range(2))
    assert one.origin["missing"] == ["layer2.0.conv2.weight"]
    assert torch.equal(one(images), two(images))  # what is missing starts the same in every run


def test_a_tensor_of_another_shape_is_an_error(save):
    state = network().state_dict() | {"layer3.0.bn2.weight": torch.ones(32)}
    with pytest.raises(InputError, match=r"of another shape layer3\.0\.bn2\.weight \(32,\) for \(64,\)"):
        load_encoder(save(state))


def test_a_longer_network_is_not_cut_short(save):
    """All tensors of a ResNet-8 are in a ResNet-14 too; loading them alone would be another network."""
    uri = save(CifarResNet([2, 2, 2]).state_dict(), "norm=none&arch=tests_resnet8:build")
    with pytest.raises(InputError, match=r"unknown layer1\.1\.conv1\.weight"):
        load_encoder(uri)


def test_weights_of_something_else_are_an_error(save):
    with pytest.raises(InputError, match=r"holds nothing of resnet20: it has a\.b \(3,\)"):
        load_encoder(save({"a.b": torch.zeros(3)}, "norm=none&arch=resnet20"))
    with pytest.raises(InputError, match=r"no architecture that is known by its tensors \(1: a\.b \(3,\).*\?arch="):
        load_encoder(save({"a.b": torch.zeros(3)}))


def test_weights_that_change_nothing_are_an_error(save, tmp_path):
    """A class whose features do not depend on what was loaded."""
    (tmp_path / "tests_deaf.py").write_text(
        "import torch\nclass Deaf(torch.nn.Linear):\n    feature_dim = 3\n    def __init__(self):\n"
        "        super().__init__(2, 2)\n    def forward(self, x):\n        return x.mean((2, 3))\n"
    )
    with pytest.raises(InputError, match="changes nothing in tests_deaf:Deaf"):
        load_encoder(save({"weight": torch.eye(2), "bias": torch.ones(2)}, "norm=none&arch=tests_deaf:Deaf"))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("return x", r"gives \(2, 3, 32, 32\) for 2 images, not \(2, feature_dim=3\)"),
        ("return [x]", "gives list for 2 images"),
        (
            "raise RuntimeError('too small,\\n at least 64')",
            r"fails on images of 32 pixels .*too small, at least 64.*\?size=",
        ),
    ],
)
def test_an_architecture_of_the_users_that_does_not_work(save, tmp_path, forward, message):
    code = "import torch\nclass Odd(torch.nn.Linear):\n    feature_dim = 3\n    def __init__(self):\n"
    code += f"        super().__init__(2, 2)\n    def forward(self, x):\n        {forward}\n"
    name = f"tests_odd{len(forward)}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(InputError, match=message) as refused:
        load_encoder(save({"weight": torch.eye(2), "bias": torch.ones(2)}, f"norm=none&arch={name}:Odd"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(save, value):
    state = network().state_dict()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"layer1\.0\.conv1\.weight holds NaN or infinite"):
        load_encoder(save(state))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(save, images, dtype):
    module = network().to(dtype)
    encoder = load_encoder(save(module.state_dict()))
    assert same(encoder, module.float(), images)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(16, 3, 3, 3, dtype=torch.int8), "conv1.weight is int8"),
        (torch.zeros(16, 3, 3, 3, dtype=torch.complex64), "conv1.weight is complex64"),
        (torch.zeros(16, 3, 3, 3).to_sparse(), "sparse_coo"),
        (torch.zeros(16, 3, 3, 3, device="meta"), "conv1.weight"),
        (torch.quantize_per_tensor(torch.zeros(16, 3, 3, 3), 1.0, 0, torch.qint8), "conv1.weight is quantised"),
    ],
)
def test_tensors_that_are_no_dense_floating_point_weights_are_refused(save, tensor, message):
    with pytest.raises(InputError, match=message):
        load_encoder(save(network().state_dict() | {"conv1.weight": tensor}))


def test_safetensors_and_a_path_with_odd_characters(tmp_path, images):
    module = network()
    path = tmp_path / "a=b, c'd.safetensors"
    save_file(module.state_dict(), path)
    assert same(load_encoder(f"{path}?norm=none"), module, images)


def test_loading_leaves_the_global_generator_alone(save):
    uri = save(network().state_dict())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_encoder(uri)
    assert torch.equal(before, torch.get_rng_state())


def test_concurls_official_files(save, images):
    """Their writer: BatchNorm'd shortcuts under another name, numpy scores, lists of tensors, an optimiser."""
    torch.manual_seed(1)
    module, instance = build_backbone("resnet18_cifar").eval(), nn.Linear(512, 128)
    state = {f"backbone.{key}".replace("downsample", "shortcut"): value for key, value in module.state_dict().items()}
    state |= under("backbone.linear.", instance) | {
        "projection_head.0.weight": torch.randn(8, 512),
        "prototypes.weight": torch.randn(10, 8),
    }
    scores = {"nce_embeddings": {"list": [np.float64(0.8)], "mean": np.float64(0.8), "std": np.float64(0)}}
    content = {
        "epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        "rand_transforms": [torch.randn(4, 8), torch.randn(4, 8)], "clust_acc": scores, "cum_itr": 9,
    }  # fmt: skip
    encoder = load_encoder(save(content, name="best_nce_embeddings.pth.tar") + "&feature=backbone,logits")
    assert same(encoder, module, images)
    assert encoder.origin["dropped"] == ["state_dict.projection_head", "state_dict.prototypes"]
    assert encoder.features(images)["logits"].shape == (4, 128)  # the instance head that their scores are of


def test_idfds_network_is_torchvisions_with_another_stem(save, images):
    torch.manual_seed(1)
    module = build_backbone("resnet18_cifar").eval()
    encoder = load_encoder(save(under("module.", module) | under("module.fc.", nn.Linear(512, 128))))
    assert same(encoder, module, images)
    assert (encoder.origin["backbone"], encoder.origin["classifier"]) == ("resnet18_cifar", "fc")


def test_networks_for_other_channels_are_refused_with_both_shapes(save):
    """ConCURL's Sobel filters make five channels of three."""
    state = network().state_dict() | {"conv1.weight": torch.randn(16, 5, 3, 3)}
    with pytest.raises(InputError, match=r"conv1\.weight \(16, 5, 3, 3\) for \(16, 3, 3, 3\)"):
        load_encoder(save(state, "norm=none&arch=tests_resnet8:build"))


def test_the_report_is_one_line(save, capsys):
    load_encoder(save({"state_dict": under("module.", network()) | under("module.fc.", nn.Linear(64, 10))}))
    said = capsys.readouterr().err.splitlines()
    assert said == ["w.pth: resnet8 under state_dict.module, 35 of 35 tensors; fc gives logits"]


def test_a_wrong_flag(save):
    for flag in ("allow_missing=1", "ema=yes"):
        with pytest.raises(InputError, match="use true or false"):
            load_encoder(save(network().state_dict(), f"norm=none&{flag}"))


def test_fill_reports_what_it_did():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = {
        "0.weight": torch.zeros(3, 2),
        "0.bias": torch.zeros(4),
        "0.extra": torch.zeros(1),
        "head.weight": torch.zeros(1),
    }
    with pytest.raises(InputError, match=r"^file matches 1 of 6 tensors"):
        fill(module, state, "file")
    found = fill(module, state, "file", allow_missing=True)
    assert found.matched == ("0.weight",)
    assert found.missing == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    assert (found.mismatched, found.unexpected, found.dropped) == (("0.bias (4,) for (3,)",), ("0.extra",), ("head",))
    assert not module[0].weight.any()


def test_the_default_size_of_a_network_that_takes_one_only(tmp_path):
    torch.save(build_backbone("uvadlc_autoencoder64").state_dict(), tmp_path / "w.pt")
    encoder = load_encoder(f"{tmp_path / 'w.pt'}?norm=half&arch=uvadlc_autoencoder64")
    assert encoder(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape == (2, 64)
