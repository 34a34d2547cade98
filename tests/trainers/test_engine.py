"""The training loop: its steps and views, what its options do, and methods of the user's own."""

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training_runs import rows

from shiftbench import images
from shiftbench.encoders.load import load_encoder
from shiftbench.trainers import fit, run_files
from shiftbench.trainers.augment import ViewRng
from shiftbench.trainers.average import encoder_state
from shiftbench.trainers.engine import Trainer

# ---- the engine's own options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "drop_last", "steps"), [(16, "false", 3), (20, "false", 3), (20, "true", 2), (47, "false", 1)]
)
def test_steps_of_an_epoch(tiny, batch, drop_last, steps):
    """48 images; a last batch of one image is left out, since BatchNorm cannot do with it."""
    config = tiny(f"trainer.batch={batch}", f"trainer.drop_last={drop_last}")
    trainer = Trainer(config)
    done = []
    trainer.epoch(lambda count, text: done.append((count, text)))
    assert trainer.steps_per_epoch == steps
    assert sum(count for count, _ in done) == steps
    assert "exemplar" in done[-1][1]
    assert "images/s" in done[-1][1]


def test_an_epoch_visits_every_image_once_in_a_new_order(tiny):
    trainer = Trainer(tiny())
    seen, losses = [], trainer.method.losses
    trainer.method.losses = lambda views, index: seen.append(index.tolist()) or losses(views, index)
    trainer.epoch(lambda count, text: None)
    trainer.epoch(lambda count, text: None)
    first, second = (list(itertools.chain(*epoch)) for epoch in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(48))
    assert first != second


def test_a_limit_keeps_evenly_spaced_images(tiny):
    whole, part = Trainer(tiny()), Trainer(tiny("limit=24"))
    assert torch.equal(part.images, whole.images[np.linspace(0, 47, 24).round()])
    assert part.steps_per_epoch == 2
    assert len(part.method.bank.bank) == 24
    assert torch.equal(Trainer(tiny("limit=48")).images, whole.images)


def test_views_are_normalised_and_differ(tiny):
    trainer = Trainer(tiny("trainer.mean=[0,0,0]", "trainer.std=[1,1,1]"))
    caught = []
    losses = trainer.method.losses
    trainer.method.losses = lambda views, index: caught.extend(views) or losses(views, index)
    trainer._step(torch.arange(16), trainer.images[:16], ViewRng.seeded(0, 16))
    assert len(caught) == trainer.method.views == 2
    assert not torch.equal(*caught)
    for view in caught:
        assert view.shape == (16, 3, 16, 16)
        assert -1e-4 < view.min() < view.max() < 1 + 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_the_backbone_computes_in_low_precision(tiny, precision):
    trainer = Trainer(tiny(f"trainer.precision={precision}", "trainer.epochs=1"))
    dtypes = []
    trainer.method.backbone.linear[0].register_forward_hook(lambda module, given, out: dtypes.append(out.dtype))
    trainer.epoch(lambda count, text: None)
    assert set(dtypes) == {getattr(torch, precision)}
    assert trainer.method.encode(torch.randn(2, 3, 16, 16)).dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in trainer.method.parameters())


def test_the_threads_asked_for_are_used_and_given_back(tiny, monkeypatch):
    before, seen, step = torch.get_num_threads(), set(), Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *given: seen.add(torch.get_num_threads()) or step(*given))
    fit(tiny("trainer.epochs=1", "trainer.threads=3"))
    assert (seen, torch.get_num_threads()) == ({3}, before)


def test_a_method_of_the_users_own_trains_by_its_path(tiny, tmp_path, monkeypatch):
    """The counted promise: one module, no line of ours changed."""
    (tmp_path / "my_method.py").write_text(
        """
from shiftbench.encoders.backbones import Head
from shiftbench.trainers.base import Method

class Pull(Method):
    views = 3

    def __init__(self, backbone, *, samples, k, strength: float = 1.0):
        super().__init__(backbone, samples=samples, k=k)
        self.strength = strength
        self.heads["mine"] = Head([backbone.feature_dim, 5])

    def losses(self, views, index):
        first, second, third = (self.heads["mine"](self.encode(view)) for view in views)
        return {"pull": self.strength * (first - second).square().mean(), "size": (third.norm(dim=1) -
        1).square().mean()}
""",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain = tiny()
    method = {"name": "my_method:Pull", "strength": 2.0}
    run = fit({**plain, "trainer": {**plain["trainer"], "method": method}})
    assert "my_method-Pull" in run.name
    assert list(rows(run)[0]) == ["epoch", "lr", "loss", "pull", "size", "probe_spread", "probe_rank"]
    assert load_encoder(str(run), device="cpu")(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 5)


def test_it_trains_on_cuda(tiny):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    config = {**tiny("trainer.precision=bfloat16"), "device": "cuda"}
    run = fit(config)
    assert len(rows(run)) == 3
    shutil.rmtree(run / "tensorboard", ignore_errors=True)


@pytest.mark.realdata
def test_the_published_cifar10_recipe_takes_a_step(real_data):
    """ResNet-18, 50,000 images, the published augmentation and losses: finite, and near their known starts."""
    from shiftbench.configs import compose

    trainer = Trainer(compose("train", ["data=cifar10", f"data.root='{real_data}'", "device=cpu"]))
    with torch.random.fork_rng():
        terms = trainer._step(torch.arange(32), trainer.images[:32], ViewRng.seeded(0, 32))
    assert len(trainer.images) == 50_000
    assert terms["exemplar"].item() == pytest.approx(9.32, abs=0.1)
    assert 2 < terms["consensus"].item() < 4


# ---- what the engine may do besides ------------------------------------------------------------------------------


def test_the_average_is_that_of_the_weights_after_each_step(tiny, monkeypatch):
    """By hand: decay min(d, (1 + t) / (10 + t)), BatchNorm's statistics too; it is what the run folder keeps."""
    seen, step = [], Trainer._step

    def watched(trainer, *given):
        if not seen:
            seen.append({name: value.clone() for name, value in encoder_state(trainer.method).items()})
        terms = step(trainer, *given)
        seen.append({name: value.clone() for name, value in encoder_state(trainer.method).items()})
        return terms

    monkeypatch.setattr(Trainer, "_step", watched)
    run = fit(tiny("trainer.ema=0.3"))
    saved = load_file(run / "encoder.safetensors")
    for name, value in saved.items():
        expected = seen[0][name].double()
        for t, after in enumerate(seen[1:], 1):
            decay = min(0.3, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * after[name].double()
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)
    assert not torch.equal(saved["backbone.linear.0.weight"], seen[-1]["backbone.linear.0.weight"])
    assert yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))["train"]["weights"] == "average"


def test_half_precision_scales_its_loss(tiny):
    run = fit(tiny("trainer.precision=float16"))
    state = run_files.read_checkpoint(run)
    assert state["scaler"]["scale"] > 1
    losses = [float(row["loss"]) for row in rows(run)]
    assert all(map(math.isfinite, losses))


def test_parts_of_a_batch_train_like_the_whole(tiny):
    """Where BatchNorm does not compare images, to rounding: the losses see all of the batch."""
    found = []
    for parts in (1, 2):
        trainer = Trainer(tiny(f"trainer.accumulate={parts}"))
        for module in trainer.method.backbone.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
                module.train = lambda mode=True, module=module: module
        trainer.epoch(lambda count, text: None)
        found.append(encoder_state(trainer.method))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-3)


def write_files(folder: Path, source: Path) -> None:
    with np.load(source) as file:
        for number, (image, label) in enumerate(zip(file["images"], file["labels"], strict=True)):
            place = folder / ("test" if number % 5 == 4 else "train") / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number:03}.png")


def test_images_in_files_train_as_images_in_memory(tiny, tmp_path, monkeypatch):
    """Too many to decode at once: the same bytes, with decoding threads and a shuffled epoch."""
    tiny()
    write_files(tmp_path / "files", tmp_path / "tiny.npz")
    config = tiny("data=folder", f"data.path='{tmp_path}/files'", "data.size=16", "trainer.workers=2")
    memory = fit(config)
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    assert isinstance(Trainer(config).images, images.ImageFiles)
    files = fit(config)
    for name in ("metrics.csv", "encoder.safetensors"):
        assert (files / name).read_bytes() == (memory / name).read_bytes()


def test_views_of_another_size_are_what_the_encoder_takes(tiny):
    run = fit(tiny("trainer.augmentation.size=24", "trainer.epochs=1", "trainer.method.instance_dim=9"))
    about = yaml.safe_load((run / "encoder.yaml").read_text(encoding="utf-8"))
    assert about["preprocess"]["size"] == 24
    assert load_encoder(str(run), device="cpu")(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).shape == (2, 9)
