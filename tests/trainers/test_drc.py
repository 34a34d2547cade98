"""DRC, and PICA as its part: the specification's vectors, known ranges, and what the switches do."""

import math

import pytest
import torch

from shiftbench.trainers.drc import matching_loss, negative_entropy, squared_sizes

Z = torch.tensor([[2.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
OTHER = torch.tensor([[1.0, 0], [0, 2], [1, -1]], dtype=torch.float64)
P, Q = Z.softmax(dim=1), OTHER.softmax(dim=1)


@pytest.mark.parametrize(
    ("anchors", "candidates", "temperature", "similarity", "expected"),
    [
        (Z, OTHER, 0.5, "cosine", 0.967830),
        (OTHER, Z, 0.5, "cosine", 0.910037),
        (Z, OTHER, 0.5, "dot", 1.621925),
        (P.t(), Q.t(), 1.0, "cosine", 0.540627),
        (Q.t(), P.t(), 1.0, "cosine", 0.540390),
        (P.t(), Q.t(), 0.5, "cosine", 0.415388),
        (P.t(), Q.t(), 1.0, "dot", 0.539036),
    ],
)
def test_matching_loss_of_the_specification_vectors(anchors, candidates, temperature, similarity, expected):
    assert matching_loss(anchors, candidates, temperature, similarity).item() == pytest.approx(expected, abs=1e-6)


def test_balance_terms_of_the_specification_vectors():
    assert squared_sizes(P).item() == pytest.approx(1.514948, abs=1e-6)
    assert negative_entropy(P).item() == pytest.approx(0.004991, abs=1e-6)
    assert negative_entropy(Q).item() == pytest.approx(0.011911, abs=1e-6)


def test_totals_of_the_specification_vectors():
    probabilities = matching_loss(P.t(), Q.t(), 1.0)
    drc = matching_loss(Z, OTHER, 0.5) + probabilities + 0.05 * squared_sizes(P)
    assert drc.item() == pytest.approx(1.584205, abs=1e-6)
    assert (probabilities + 2 * negative_entropy(P)).item() == pytest.approx(0.550609, abs=1e-6)


@pytest.mark.parametrize(("k", "best", "worst", "features"), [(10, 1.461, 2.303, 3.923), (20, 2.078, 2.996, 3.748)])
def test_known_ranges(k, best, worst, features):
    """Perfect and collapsed assignments of 320 images, and logits at the corners of a simplex among 256."""
    perfect, same = torch.eye(k).repeat(320 // k, 1), torch.full((320, k), 1 / k)
    collapsed = torch.eye(k)[:1].repeat(320, 1)
    assert matching_loss(perfect.t(), perfect.t(), 1.0).item() == pytest.approx(best, abs=1e-3)
    assert matching_loss(same.t(), same.t(), 1.0).item() == pytest.approx(worst, abs=1e-3)
    assert squared_sizes(perfect).item() == pytest.approx(320 / k)
    assert squared_sizes(collapsed).item() == pytest.approx(320)
    assert negative_entropy(perfect).item() == pytest.approx(0, abs=1e-6)
    assert negative_entropy(collapsed).item() == pytest.approx(math.log(k))
    corners = torch.eye(k)[torch.arange(256) % k] - 1 / k
    assert matching_loss(corners, corners, 0.5).item() == pytest.approx(features, abs=0.01)
    assert matching_loss(torch.ones(256, k), torch.ones(256, k), 0.5).item() == pytest.approx(5.545, abs=1e-3)


@pytest.mark.parametrize("k", [4, 10])
def test_the_default_balance_acts_as_picas_near_balance(k):
    """k/B times the squared sizes and twice the negative entropy: the same gradient, to first order."""
    near = torch.full((60, k), 1 / k, dtype=torch.float64)
    near = near + 1e-4 * torch.randn(60, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near = (near / near.sum(dim=1, keepdim=True)).log()
    gradients = []
    for loss in (lambda p: k / 60 * squared_sizes(p), lambda p: 2 * negative_entropy(p)):
        logits = near.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(logits.softmax(dim=1)), logits)[0])
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3 * gradients[0].abs().max().item())


def terms_of(model, seed=0):
    views = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    with torch.no_grad():
        logits = [model.heads["cluster"](model.backbone(view)) for view in views]
    return model.losses(views, torch.arange(8)), *logits


def test_terms_are_the_losses_of_logits_and_probabilities(build):
    found, a, b = terms_of(build("drc", features=0.5, probabilities=2.0))
    p, q = a.softmax(dim=1), b.softmax(dim=1)
    assert found["features"].item() == pytest.approx(0.5 * matching_loss(a, b, 0.5).item())
    assert found["probabilities"].item() == pytest.approx(2 * matching_loss(p.t(), q.t(), 1.0).item())
    assert found["balance"].item() == pytest.approx(5 / 8 * squared_sizes(p).item())


def test_symmetric_is_the_mean_of_both_directions(build):
    found, a, b = terms_of(build("drc", symmetric=True, balance_weight=0.1))
    p, q = a.softmax(dim=1), b.softmax(dim=1)
    expected = (matching_loss(a, b, 0.5) + matching_loss(b, a, 0.5)) / 2
    assert found["features"].item() == pytest.approx(expected.item())
    assert found["balance"].item() == pytest.approx(0.05 * (squared_sizes(p) + squared_sizes(q)).item())


def test_a_weight_of_0_leaves_a_term_out(build):
    assert list(terms_of(build("drc", balance_weight=0.0))[0]) == ["features", "probabilities"]
    assert list(terms_of(build("drc", probabilities=0.0))[0]) == ["features", "balance"]
    assert list(terms_of(build("pica"))[0]) == ["probabilities", "balance"]


def test_pica_balances_the_first_view_by_entropy(build):
    found, a, _ = terms_of(build("pica"))
    assert found["balance"].item() == pytest.approx(2 * negative_entropy(a.softmax(dim=1)).item())


@pytest.mark.parametrize("rows", [[[90.0, 0, 0], [80, 0, 0]], [[200.0, 0, -200], [0, 200, -200]]])
def test_half_precision_and_empty_clusters_stay_finite(rows):
    logits = torch.tensor(rows).bfloat16().requires_grad_()
    p = logits.softmax(dim=1)
    value = matching_loss(p.t(), p.t(), 1.0) + negative_entropy(p) + squared_sizes(p)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
