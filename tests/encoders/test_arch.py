"""Architectures found by their tensors: the loaded network computes what the network that wrote the file computes."""

import warnings

import pytest
import torch
from torch import nn

from shiftbench.encoders.arch import guesses
from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.cifar_resnet import Block, CifarResNet
from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError
from shiftbench.registry import BACKBONES
from shiftbench.runtime.compat import robustbench, torchvision


def shaken(network):
    """Every parameter and buffer away from its start, so that an exchanged pair of tensors shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point() and tensor.ndim < 2:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def resnet(name, **change):
    network = torchvision().models.get_model(name, weights=None, num_classes=10)
    if change.get("small"):
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return network


class Sequence(nn.Module):
    """A ResNet kept as a list of its parts, as lightly's examples keep it."""

    def __init__(self, network, drop):
        super().__init__()
        self.backbone = nn.Sequential(*(m for m in list(network.children())[:-1] if not isinstance(m, drop)))

    def forward(self, images):
        return self.backbone(images).flatten(1)


class Vgg(nn.Module):
    """The VGG of CIFAR code bases: convolutions and one linear layer."""

    def __init__(self, batch_norm):
        super().__init__()
        plan = [16, "M", 32, "M", 32, 32, "M", 64, 64, "M", 64, "M"]
        self.features = torchvision().models.vgg.make_layers(plan, batch_norm=batch_norm)
        self.classifier = nn.Linear(64, 10)

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


class Dense(nn.Module):
    """DenseNet-BC of three blocks as bearpaw's and andreasveit's code write it, with growth 4 and 2 layers a block."""

    def __init__(self, block, layer):
        super().__init__()
        self.conv1, width = nn.Conv2d(3, 8, 3, 1, 1, bias=False), 8
        for number in (1, 2, 3):
            layers = []
            for _ in range(2):
                parts = {
                    "bn1": nn.BatchNorm2d(width), "conv1": nn.Conv2d(width, 16, 1, bias=False),
                    "bn2": nn.BatchNorm2d(16), "conv2": nn.Conv2d(16, 4, 3, 1, 1, bias=False),
                }  # fmt: skip
                layers.append(nn.ModuleDict(parts))
                width += 4
            self.add_module(
                f"{block}{number}", nn.ModuleDict({"layer": nn.ModuleList(layers)}) if layer else nn.ModuleList(layers)
            )
            if number < 3:
                parts = {"bn1": nn.BatchNorm2d(width), "conv1": nn.Conv2d(width, width // 2, 1, bias=False)}
                self.add_module(f"trans{number}", nn.ModuleDict(parts))
                width //= 2
        self.bn1, self.fc, self.block = nn.BatchNorm2d(width), nn.Linear(width, 10), block

    def forward(self, images):
        maps = self.conv1(images)
        for number in (1, 2, 3):
            block = getattr(self, f"{self.block}{number}")
            for layer in block["layer"] if isinstance(block, nn.ModuleDict) else block:
                new = layer["conv1"](layer["bn1"](maps).relu())
                maps = torch.cat([maps, layer["conv2"](layer["bn2"](new).relu())], 1)
            if number < 3:
                transition = getattr(self, f"trans{number}")
                maps = nn.functional.avg_pool2d(transition["conv1"](transition["bn1"](maps).relu()), 2)
        return self.fc(self.bn1(maps).relu().mean((2, 3)))


def wide_vgg():
    """torchvision's own class with narrow layers."""
    vgg = torchvision().models.vgg
    with torch.device("meta"):
        network = vgg.VGG(None, 10)
    network.features = vgg.make_layers([16, "M", 32, "M", 32, 32, "M", 64, 64, "M", 32, 32, "M"], batch_norm=True)
    for number, widths in {0: (32 * 49, 64), 3: (64, 48), 6: (48, 10)}.items():
        network.classifier[number] = nn.Linear(*widths)
    return network


def timm_vit():
    timm = pytest.importorskip("timm")
    return timm.models.VisionTransformer(32, 8, num_classes=10, embed_dim=128, depth=2, num_heads=2)


def torchvision_vit():
    return torchvision().models.VisionTransformer(32, 8, 2, 2, 128, 256, num_classes=10)


def zoo(module, build):
    from importlib import import_module

    robustbench()
    return build(import_module(f"robustbench.model_zoo.architectures.{module}"))


NETWORKS = {
    "resnet18_cifar": lambda: resnet("resnet18", small=True),
    "resnet34": lambda: resnet("resnet34"),
    "resnet50": lambda: resnet("resnet50"),
    "resnet50_32x4d": lambda: resnet("resnext50_32x4d"),
    "resnet18_cifar ": lambda: zoo("resnet", lambda module: module.ResNet18()),
    "wrn10_2": lambda: zoo("wide_resnet", lambda module: module.WideResNet(depth=10, widen_factor=2)),
    "wrn16_1": lambda: zoo("wide_resnet", lambda module: module.WideResNet(depth=16, widen_factor=1)),
    "vgg11_bn": wide_vgg,
    "vgg8_cifar": lambda: Vgg(False),
    "vgg8_bn_cifar": lambda: Vgg(True),
    "densenet121": lambda: torchvision().models.densenet121(weights=None, num_classes=10),
    "densenet_bc_16_4": lambda: Dense("dense", layer=False),
    "densenet_bc_16_4 ": lambda: Dense("block", layer=True),
    "vit_128_patch8_32": timm_vit,
    "vit_128_patch8_32 ": torchvision_vit,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_that_wrote_the_file_is_found_and_rebuilt(tmp_path, name):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = shaken(NETWORKS[name]())
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "w.pth"
    )
    encoder = load_encoder(f"{tmp_path / 'w.pth'}?norm=none", device="cpu")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(images.float() / 255)
    assert encoder.origin["backbone"] == name.strip()
    torch.testing.assert_close(encoder.features(images)["logits"], wanted, rtol=1e-3, atol=1e-4)


PUBLISHED = {
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "wide_resnet50_2": "resnet50_1x128d",
    "resnext101_64x4d": "resnet101_64x4d",
    "vgg11": "vgg11",
    "vgg13_bn": "vgg13_bn",
    "vgg16_bn": "vgg16_bn",
    "vgg19": "vgg19",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_large_networks_have_all_tensors_of_the_published_ones(name):
    with torch.device("meta"):
        state = torchvision().models.get_model(name, weights=None).state_dict()
        (found,) = guesses(state)
        rebuilt = found.build().state_dict()
    assert found.name == PUBLISHED[name]
    left = {
        key: value.shape for key, value in state.items() if not (key in rebuilt and rebuilt[key].shape == value.shape)
    }
    assert {key.rpartition(".")[0] for key in left} <= {"fc", "classifier", "classifier.6", "heads.head"}
    assert rebuilt.keys() <= state.keys()


@pytest.mark.parametrize(
    "name", [name for name in BACKBONES.names() if name not in ("small_cnn", "uvadlc_autoencoder64")]
)
def test_every_registered_backbone_is_recognised_by_its_tensors(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
        (found,) = guesses({f"encoder.{key}": value for key, value in backbone.state_dict().items()})
        rebuilt = found.build()
    assert (found.name.removesuffix("_224"), found.prefix) == (name, "encoder.")
    shapes = {key: value.shape for key, value in backbone.state_dict().items()}
    assert shapes.items() <= {key: value.shape for key, value in rebuilt.state_dict().items()}.items()
    assert (rebuilt.feature_dim, rebuilt.stride) == (backbone.feature_dim, backbone.stride)


@pytest.mark.parametrize("drop", [(), nn.ReLU, (nn.ReLU, nn.MaxPool2d, nn.Identity)])
def test_a_resnet_kept_as_a_list_of_its_parts(tmp_path, drop):
    torch.manual_seed(0)
    network = resnet("resnet18", small=True)
    parts = shaken(Sequence(network, drop))
    torch.save({"state_dict": parts.state_dict()}, tmp_path / "w.ckpt")
    encoder = load_encoder(f"{tmp_path / 'w.ckpt'}?norm=none", device="cpu")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network.fc = nn.Identity()
    with torch.no_grad():
        wanted = network(images.float() / 255)  # its parts are the list's
    assert (encoder.origin["backbone"], encoder.origin["prefix"]) == ("resnet18_cifar", "state_dict.backbone.")
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-3, atol=1e-4)


def test_a_masked_autoencoders_decoder_is_left_aside(tmp_path):
    """MAE keeps a second transformer with the same names beside the encoder."""
    network = shaken(timm_vit())
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("head.")}
    rest = {"mask_token": torch.zeros(1, 1, 64), "decoder_pos_embed": torch.zeros(1, 17, 64)}
    rest |= {"decoder_blocks.0.norm1.weight": torch.ones(64), "decoder_norm.weight": torch.ones(64)}
    torch.save({"model": state | rest}, tmp_path / "mae.pth")
    encoder = load_encoder(f"{tmp_path / 'mae.pth'}?norm=none", device="cpu")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network.forward_head(network.forward_features(images.float() / 255), pre_logits=True)
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-3, atol=1e-4)
    assert encoder.origin["dropped"] == ["mask_token", "decoder_pos_embed", "decoder_blocks", "decoder_norm"]


@pytest.mark.parametrize("extra", ["norm_pre.weight", "reg_token", "blocks.0.ls1.gamma"])
def test_other_transformers_are_not_taken_for_a_plain_one(extra):
    assert len(list(guesses(timm_vit().state_dict()))) == 1
    assert list(guesses(timm_vit().state_dict() | {extra: torch.ones(128)})) == []


def test_projection_shortcuts_are_torchvisions_blocks():
    down = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    theirs = shaken(torchvision().models.resnet.BasicBlock(4, 8, 2, down))
    ours = Block(4, 8, 2, projection=True).eval()
    ours.load_state_dict(theirs.state_dict())
    maps = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(ours(maps), theirs(maps))


def test_shortcuts_without_parameters_take_every_second_pixel_and_pad_channels_on_both_sides():
    block = shaken(Block(4, 8, 2, projection=False))
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    maps = torch.rand(2, 4, 8, 8)
    wanted = torch.zeros(2, 8, 4, 4)
    wanted[:, 2:6] = maps[:, :, 0::2, 0::2]
    assert torch.equal(block(maps), wanted)


@pytest.mark.parametrize(("blocks", "millions"), [(3, 0.27), (5, 0.46), (7, 0.66), (9, 0.85), (18, 1.73)])
def test_cifar_resnets_have_the_sizes_of_the_paper(blocks, millions):
    """Akamaster's table, without the classifier's 650 parameters: He et al. round them to 0.27, 0.46, 0.66, 0.85, 1.7."""
    with torch.device("meta"):
        network = CifarResNet([blocks] * 3)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=6e-3)


@pytest.mark.parametrize(
    ("module", "name"), [("resnet", "PreActResNet18"), ("dm_wide_resnet", "DMWideResNet"), ("resnext", "CifarResNeXt")]
)
def test_networks_with_similar_names_are_not_taken_for_known_ones(module, name):
    """Each has tensors called layer1 or block1, and computes something else."""

    def build(found):
        if name == "CifarResNeXt":
            return found.CifarResNeXt(found.ResNeXtBottleneck, 29, 4, 32, 10)
        return getattr(found, name)()

    with torch.device("meta"):
        state = zoo(module, build).state_dict()
    assert list(guesses(state)) == []


def test_two_networks_of_equal_rank_are_named(tmp_path):
    state = CifarResNet([1, 1, 1]).state_dict()
    torch.save(
        {f"{part}.{key}": value for part in ("left", "right") for key, value in state.items()}, tmp_path / "w.pt"
    )
    with pytest.raises(InputError, match=r"several networks, under 'left\.', 'right\.'.*prefix="):
        load_encoder(f"{tmp_path / 'w.pt'}?norm=none")
    assert load_encoder(f"{tmp_path / 'w.pt'}?norm=none&prefix=right").origin["prefix"] == "right."
    with pytest.raises(InputError, match="no network under prefix=middle"):
        load_encoder(f"{tmp_path / 'w.pt'}?norm=none&prefix=middle")
