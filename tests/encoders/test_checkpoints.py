"""Real checkpoints of strangers score on CIFAR-10 what their makers say, with no option beyond the normalisation."""

import pytest
import torch

from shiftbench.data.base import load_dataset
from shiftbench.encoders.load import load_encoder

ACCURACY = {
    "akamaster/resnet20-12fca82f.th?norm=imagenet": ("resnet20", 0.9173),
    "akamaster/resnet56-4bfd9763.th?norm=imagenet": ("resnet56", 0.9339),
    "phlippe/tutorial5_ResNet.ckpt?norm=cifar10": ("uvadlc_resnet20", 0.9106),
}


def _accuracy(encoder, limit=None):
    split = load_dataset("cifar10").test
    labels = torch.as_tensor(split.labels[:limit])
    found = [encoder.features(split.images[i : i + 500])["logits"].argmax(1) for i in range(0, len(labels), 500)]
    return (torch.cat(found) == labels).double().mean().item()


@pytest.mark.realdata
@pytest.mark.parametrize("uri", ACCURACY)
def test_architecture_and_500_images(real_data, uri):
    name, accuracy = ACCURACY[uri]
    encoder = load_encoder(f"{real_data}/checkpoints/{uri}")
    assert encoder.origin["backbone"] == name
    assert _accuracy(encoder, limit=500) == pytest.approx(accuracy, abs=0.035)  # three standard errors of 500 images


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("uri", ACCURACY)
def test_accuracy_on_the_whole_test_split(real_data, uri):
    encoder = load_encoder(f"{real_data}/checkpoints/{uri}")
    assert encoder.dtype == "float32"
    assert _accuracy(encoder) == pytest.approx(ACCURACY[uri][1], abs=0.0005)


@pytest.mark.realdata
def test_the_autoencoder_reconstructs_what_its_makers_say(real_data):
    """Its decoder, written here, gives the published error of 0.028 (mean square on the -1..1 scale) from our codes."""
    uri = f"{real_data}/checkpoints/phlippe/tutorial9_cifar10_ae64_state_dict.pt?norm=half&arch=uvadlc_autoencoder64"
    encoder = load_encoder(uri)
    assert encoder.origin["dropped"] == ["decoder"]
    images = load_dataset("cifar10").test.images[:500]
    state = torch.load(uri.partition("?")[0], weights_only=True)
    weight = {key.removeprefix("decoder."): value for key, value in state.items() if key.startswith("decoder.")}

    def layer(function, maps, number, **options):
        return function(maps, weight[f"net.{number}.weight"], weight[f"net.{number}.bias"], padding=1, **options)

    gelu, convolve = torch.nn.functional.gelu, torch.nn.functional.conv2d
    up = {"stride": 2, "output_padding": 1}
    maps = gelu(torch.nn.functional.linear(encoder(images).clone(), weight["linear.0.weight"], weight["linear.0.bias"]))
    maps = gelu(layer(torch.nn.functional.conv_transpose2d, maps.view(-1, 64, 4, 4), 0, **up))
    maps = gelu(layer(convolve, maps, 2))
    maps = gelu(layer(torch.nn.functional.conv_transpose2d, maps, 4, **up))
    maps = gelu(layer(convolve, maps, 6))
    maps = layer(torch.nn.functional.conv_transpose2d, maps, 8, **up).tanh()
    error = (maps - (images.float() / 127.5 - 1)).square().mean().item()
    assert error == pytest.approx(0.0280, abs=0.001)
