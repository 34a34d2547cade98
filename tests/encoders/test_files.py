"""What a path may be, and what is said of one that cannot be used."""

import pytest
import torch

from shiftbench.encoders.backbones import build_backbone
from shiftbench.encoders.load import load_encoder
from shiftbench.errors import InputError


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nothing-here", "No checkpoint 'nothing-here'"),
        ("{tmp}/notes.txt", "not a checkpoint"),
        ("{tmp}/w.pt", r"Add \?arch="),
        ("{tmp}/w.pt?arch=small_cnn", r"add \?norm="),
        ("{tmp}/w.pt?arch=small_cnn&norm=imagnet", "Unknown norm"),
        ("{tmp}/w.pt?arch=smal_cnn&norm=none", "Did you mean 'small_cnn'"),
        ("{tmp}/w.pt?arch=resnet18_cifar&norm=none", r"'w\.pt' holds nothing of resnet18_cifar"),
        ("{tmp}/w.pt?archh=x", "takes no such option"),
        ("{tmp}/w.pt?arch=small_cnn&norm=none&size=x", "size=x"),
        ("{tmp}/w.pt?arch=torch.nn:Linear&norm=none", "cannot be built without arguments"),
        ("no_such_module:f", "there is no module"),
        ("math:no_such_name", "no attribute"),
        ("math:pi", "not a callable"),
    ],
)
def test_uris_that_cannot_be_used(tmp_path, uri, message):
    (tmp_path / "notes.txt").write_text("x")
    torch.save(build_backbone("small_cnn").state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        load_encoder(uri.format(tmp=tmp_path))


def test_python_callable():
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoder = load_encoder("torch:flatten")
    assert encoder.name == "torch:flatten"
    with pytest.raises(InputError, match="is needed"):
        encoder(images)
