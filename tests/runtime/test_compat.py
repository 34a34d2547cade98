"""The repaired upstream packages work, nobody else notices, and each repair says when it can go."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from importlib.metadata import version

import numpy as np
import pytest
import scipy.ndimage
import torch

from shiftbench.registry import CORRUPTIONS
from shiftbench.runtime import compat

# A process that tries the raw packages first and then has four threads ask for the repaired ones at once.
FRESH = """
import json, sys, threading, traceback
import numpy as np, skimage.filters
from shiftbench.runtime import compat

def error_of(attempt):
    try:
        attempt()
    except Exception:
        return traceback.format_exc()

def raw_imagecorruptions():
    import imagecorruptions
    for name in imagecorruptions.get_corruption_names("all"):
        imagecorruptions.corrupt(np.zeros((32, 32, 3), np.uint8), 1, name)

def raw_robustbench():
    compat.torchvision()
    import robustbench

errors = {"imagecorruptions": error_of(raw_imagecorruptions), "robustbench": error_of(raw_robustbench)}

def look():
    absent = [name for name in ("pkg_resources", "autoattack", "autoattack.state") if name not in sys.modules]
    return repr([absent, sys.meta_path, skimage.filters.gaussian, sorted(vars(np))])

before, found = look(), []
def ask():
    found.append((compat.imagecorruptions(), compat.robustbench()))
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
compat.imagecorruptions().corrupt(np.zeros((32, 32, 3), np.uint8), 1, "fog")
answers = [len(found), len(set(found))]
print(json.dumps({"errors": errors, "before": before, "after": look(), "answers": answers}))
"""


@pytest.fixture(scope="module")
def fresh(run_python):
    result = run_python(FRESH)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS.names("common") + CORRUPTIONS.names("extra"))
@pytest.mark.parametrize("size", [32, 96, pytest.param(224, marks=pytest.mark.slow)])
def test_every_corruption_runs_at_every_severity(name, size):
    image = np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.uint8)
    for severity in range(1, 6):
        corrupted = compat.imagecorruptions().corrupt(image, severity, name)
        assert corrupted.shape == image.shape
        assert corrupted.dtype == np.uint8
        assert not np.array_equal(corrupted, image)


def test_the_corruptions_have_the_names_of_the_registry():
    names = compat.imagecorruptions().get_corruption_names
    assert names("common") == CORRUPTIONS.names("common")
    assert names("validation") == CORRUPTIONS.names("extra")


@pytest.mark.parametrize(("severity", "sigma"), enumerate([1, 2, 3, 4, 6], start=1))
def test_blurring_leaves_the_channels_apart(image, severity, sigma):
    blurred = scipy.ndimage.gaussian_filter(image / 255.0, (sigma, sigma, 0), mode="nearest")
    repaired = compat.imagecorruptions().corrupt(image, severity, "gaussian_blur")
    assert np.array_equal(repaired, np.uint8(np.clip(blurred, 0, 1) * 255))


def test_a_smooth_field_is_blurred_in_its_two_dimensions():
    field = np.random.default_rng(0).uniform(size=(20, 3))
    expected = scipy.ndimage.gaussian_filter(field, 2, mode="nearest")
    np.testing.assert_allclose(compat.imagecorruptions().corruptions.gaussian(field, 2), expected)


def test_fog_is_a_height_map_between_0_and_1():
    fog = compat.imagecorruptions().corruptions.plasma_fractal(64)
    assert fog.shape == (64, 64)
    assert fog.dtype == np.float64
    assert (fog.min(), fog.max()) == (0, 1)


def test_imagecorruptions_is_still_broken(fresh):
    release, error = version("imagecorruptions"), fresh["errors"]["imagecorruptions"]
    if error is None and release == "1.1.2":
        pytest.skip("everything around imagecorruptions is old enough for its release 1.1.2")
    assert error is not None, f"imagecorruptions {release} works by itself: compat.imagecorruptions can go"
    assert any(cause in error for cause in ("pkg_resources", "multichannel", "float_", "interpolation")), error


def test_a_model_of_the_zoo_is_built_without_its_weights():
    compat.robustbench()
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
    from robustbench.model_zoo.models import model_dicts

    zoo = model_dicts[BenchmarkDataset.cifar_10][ThreatModel.corruptions]
    wide_resnet_40_2 = zoo["Hendrycks2020AugMix_WRN"]["model"]().eval()
    trained = sum(parameter.numel() for parameter in wide_resnet_40_2.parameters())
    assert 2.2e6 < trained < 2.3e6  # "2.2M" in Zagoruyko & Komodakis (2016), table 4
    with torch.no_grad():
        logits = wide_resnet_40_2(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_robustbench_lists_the_common_corruptions_of_the_registry():
    assert set(compat.robustbench().data.CORRUPTIONS) == set(CORRUPTIONS.names("common"))


def test_the_loader_finds_the_image_list_that_robustbench_brings():
    samples = compat.robustbench().loaders.make_custom_dataset(
        "ROOT", "helper_files/imagenet_test_image_ids.txt", defaultdict(int)
    )
    assert len(samples) == 5000
    assert samples[0][0].startswith("ROOT/n")


def test_the_attack_is_the_one_that_pypi_has():
    assert compat.robustbench().eval.AutoAttack is sys.modules["pyautoattack"].AutoAttack
    assert compat.robustbench().eval.EvaluationState is sys.modules["pyautoattack.state"].EvaluationState


@pytest.mark.realdata
def test_robustbench_reads_cifar10(real_data):
    images, labels = compat.robustbench().data.load_cifar10(n_examples=3, data_dir=str(real_data))
    assert images.shape == (3, 3, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    assert labels.tolist() == [3, 8, 8]  # cat, ship, ship


def test_robustbench_is_still_broken(fresh):
    release, error = version("robustbench"), fresh["errors"]["robustbench"]
    assert error is not None, f"robustbench {release} can be imported by itself: compat.robustbench can go"
    assert any(f"No module named '{name}'" in error for name in ("pkg_resources", "autoattack")), error


def use_torchvision(torchvision):
    """What the package and its users need of torchvision."""
    with torch.no_grad():
        assert torchvision.models.resnet18().eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    v2 = torchvision.transforms.v2
    crop = v2.Compose([v2.RandomResizedCrop(24, antialias=True), v2.ToDtype(torch.float32, scale=True)])
    assert crop(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 3, 24, 24)
    assert len(torchvision.datasets.FakeData(size=2)) == 2


def test_torchvision_works():
    use_torchvision(compat.torchvision())


def without_operators(run_python, code):
    result = run_python(f"""
import gc, runpy, torch
def load_library(path):
    raise OSError(f"{{path}}: libcudart.so: cannot open shared object file")
torch.ops.load_library = load_library  # so the CUDA build of torchvision fares beside a CPU-only torch
{code}
test = runpy.run_path({__file__!r})
torchvision = test["compat"].torchvision()
test["use_torchvision"](torchvision)
gc.collect()
assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms  # declared once and for all
try:
    torchvision.ops.nms(torch.rand(2, 4), torch.rand(2), 0.5)
except RuntimeError as error:
    print(error)
""")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_torchvision_works_without_its_operators(run_python):
    output = without_operators(run_python, "")
    assert "Couldn't load custom C++ ops" in output  # torchvision's own words, and not a wrong answer


def test_torchvision_is_still_broken_and_works_after_a_failed_import(run_python):
    output = without_operators(
        run_python,
        """
try:
    import torchvision
except RuntimeError as error:
    print(error)
""",
    )
    release = version("torchvision")
    assert "operator torchvision::nms does not exist" in output, (
        f"torchvision {release} can be imported without its operators: compat.torchvision can go"
    )
    assert "Couldn't load custom C++ ops" in output


def test_nobody_else_notices(fresh):
    assert fresh["after"] == fresh["before"]


def test_threads_get_the_same_modules(fresh):
    assert fresh["answers"] == [4, 1]


def test_a_missing_package_is_named(run_python, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("""
import sys
class Missing:
    def find_spec(name, path=None, target=None):
        if name == "imagecorruptions":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing)
""")
    result = run_python("from shiftbench.runtime import compat; compat.imagecorruptions()", PYTHONPATH=str(tmp_path))
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'imagecorruptions'"
