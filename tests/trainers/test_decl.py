"""DECL: the specification's vectors, its centres from start to saved head, and who is pulled by whom."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from shiftbench.trainers.decl import divergence, log_assignments, sharpened
from shiftbench.trainers.engine import Trainer

HIDDEN = torch.tensor([[2.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
FIRST = torch.tensor([[1.0, 0], [0, 2], [1, -1]], dtype=torch.float64)
SECOND = torch.tensor([[2.0, 1], [1, 1], [0, 0.5]], dtype=torch.float64)
CENTERS = torch.tensor([[2.0, 0], [0, 2]], dtype=torch.float64)


def test_the_specification_vectors():
    log_q = log_assignments(HIDDEN, CENTERS)
    q = log_q.exp()
    np.testing.assert_allclose(q, [[0.9, 0.1], [0.25, 0.75], [0.5, 0.5]], atol=1e-12)
    targets = sharpened(q)
    np.testing.assert_allclose(targets, [[0.985135, 0.014865], [0.083333, 0.916667], [0.45, 0.55]], atol=1e-6)
    assert divergence(targets, log_q).item() == pytest.approx(0.052704, abs=1e-6)
    anchor = [divergence(q, log_assignments(view, CENTERS)).item() for view in (FIRST, SECOND)]
    assert anchor == pytest.approx([0.120816, 0.077250], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_assignments_are_students_t(alpha):
    hidden, centers = torch.randn(7, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    kernel = (1 + torch.cdist(hidden, centers) ** 2 / alpha) ** (-(alpha + 1) / 2)
    torch.testing.assert_close(log_assignments(hidden, centers, alpha).exp(), kernel / kernel.sum(1, keepdim=True))


def test_targets_are_constant_and_pull_on_the_other_side_only():
    one, other, centers = HIDDEN.clone().requires_grad_(), FIRST.clone().requires_grad_(), CENTERS.clone()
    divergence(log_assignments(one, centers).exp(), log_assignments(other, centers)).backward()
    assert one.grad is None
    assert other.grad.abs().sum() > 0
    assert not sharpened(log_assignments(one, centers).exp()).requires_grad


def test_far_features_and_low_precision_stay_finite():
    hidden = (1e4 * torch.randn(6, 8)).bfloat16().requires_grad_()
    log_q = log_assignments(hidden, torch.randn(3, 8))
    divergence(sharpened(log_q.exp()), log_q).backward()
    assert log_q.dtype == torch.float32
    assert hidden.grad.isfinite().all()


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(5))


def test_centres_start_as_kmeans_of_the_images_as_they_are(build):
    model, batch = build("decl"), images(40)
    with torch.no_grad():
        model.before_epoch(0, 2, lambda: iter(batch.split(16)))
        hidden = model.encode(batch)
    found = KMeans(5, n_init=1, init=model.centers.detach().numpy(), max_iter=1).fit(hidden.numpy())
    np.testing.assert_allclose(found.cluster_centers_, model.centers.detach().numpy(), atol=1e-4)


def test_the_saved_scores_are_largest_at_the_nearest_centre(build, train_steps):
    model = build("decl")
    before = model.centers.detach().clone()
    train_steps(model, 3)
    assert not torch.equal(model.centers, before)
    with torch.no_grad():
        hidden = model.encode(images(50))
        nearest = torch.cdist(hidden, model.centers).argmin(dim=1)
        assert torch.equal(model.heads["cluster"](hidden).argmax(dim=1), nearest)
        assert torch.equal(log_assignments(hidden, model.centers).argmax(dim=1), nearest)


def test_two_views_are_contrasted_and_the_third_is_assigned(build):
    model = build("decl", cluster=0.5, anchor=2.0)
    views = [images(8) + shift for shift in (0, 1, 2)]
    log_q = [log_assignments(model.backbone(view), model.centers).detach() for view in views]
    terms = model.losses(views, torch.arange(8))
    torch.testing.assert_close(terms["cluster"], 0.5 * divergence(sharpened(log_q[2].exp()), log_q[2]))
    pulled = divergence(log_q[2].exp(), log_q[0]) + divergence(log_q[2].exp(), log_q[1])
    torch.testing.assert_close(terms["anchor"], 2 * pulled)


def test_the_image_itself_gets_no_gradient_from_its_views(build):
    model = build("decl", cluster=0.0)
    views = [images(8) + shift for shift in (0, 1, 2)]
    for view in views:
        view.requires_grad_()
    model.losses(views, torch.arange(8))["anchor"].backward()
    assert [view.grad is not None and bool(view.grad.abs().sum() > 0) for view in views] == [True, True, False]


def test_warm_up_is_contrast_alone_and_then_sets_the_centres(build):
    model, views = build("decl", warmup=0.5), [images(8) + shift for shift in (0, 1, 2)]
    start = model.centers.detach().clone()
    seen = []
    for epoch in range(3):
        with torch.no_grad():
            model.before_epoch(epoch, 2, lambda: iter([images(40)]))
        terms = model.losses(views, torch.arange(8))
        seen.append((terms["cluster"].item() > 0, terms["anchor"].item() > 0, torch.equal(model.centers, start)))
        start = model.centers.detach().clone()
    assert seen == [(False, False, True), (True, True, False), (True, True, True)]


def test_a_last_batch_of_one_image_is_no_trouble_to_the_centres(tiny):
    """48 images in batches of 47: BatchNorm cannot do with the last one alone."""
    trainer = Trainer(tiny("method=decl", "trainer.batch=47"))
    trainer.epoch(lambda count, text: None)
    assert trainer.history[-1]["anchor"] > 0


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_the_centres_are_set_in_however_few_epochs(tiny, warmup):
    trainer = Trainer(tiny("method=decl", f"trainer.method.warmup={warmup}", "trainer.epochs=2"))
    for _ in range(2):
        trainer.epoch(lambda count, text: None)
    assert trainer.history[-1]["anchor"] > 0


def test_the_head_of_averaged_centres_fits_them(tiny):
    trainer = Trainer(tiny("method=decl", "trainer.ema=0.9", "trainer.epochs=2"))
    trainer.epoch(lambda count, text: None)
    for _ in range(2):
        with trainer.averaged():
            linear = trainer.method.heads["cluster"][0]
            torch.testing.assert_close(linear.bias, linear.weight.square().sum(dim=1) / -2)
        torch.testing.assert_close(linear.bias, linear.weight.square().sum(dim=1) / -2)
