"""ConCURL's loss terms against independent implementations, and what its flags switch."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shiftbench.errors import InputError
from shiftbench.trainers.concurl import ConCURL, consensus_loss, population_loss, random_transforms, sinkhorn
from shiftbench.trainers.instance import softmax_loss


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def swav_codes(scores: np.ndarray, eps: float, iterations: int) -> np.ndarray:
    """SwAV's distributed_sinkhorn in linear space, transposed as there: prototypes x samples."""
    q = np.exp(scores.astype(np.float64) / eps).T
    prototypes, samples = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True)
        q /= prototypes
        q /= q.sum(axis=0, keepdims=True)
        q /= samples
    return (q * samples).T


@pytest.mark.parametrize(("samples", "k"), [(128, 10), (8, 10), (44, 15), (3, 2)])
@pytest.mark.parametrize(("eps", "iterations"), [(0.05, 3), (0.5, 1)])
def test_sinkhorn_is_swavs(samples, k, eps, iterations):
    scores = functional.normalize(normal(samples, 16), dim=1) @ functional.normalize(normal(k, 16, seed=1), dim=1).t()
    q = sinkhorn(scores, eps, iterations)
    np.testing.assert_allclose(q.numpy(), swav_codes(scores.numpy(), eps, iterations), atol=1e-5)


def test_sinkhorn_of_the_specification_vector():
    q = sinkhorn(torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.2, 0.4]]), eps=0.5)
    expected = [[0.699008, 0.300992], [0.560348, 0.439652], [0.239136, 0.760864]]
    np.testing.assert_allclose(q.numpy(), expected, atol=1e-6)


def test_sinkhorn_balances(device):
    q = sinkhorn(0.2 * normal(200, 10).to(device), iterations=50)
    torch.testing.assert_close(q.sum(dim=1).cpu(), torch.ones(200))
    torch.testing.assert_close(q.sum(dim=0).cpu(), torch.full((10,), 20.0), atol=0.05, rtol=0)


def test_sinkhorn_survives_low_precision_and_small_eps():
    q = sinkhorn(normal(16, 4).bfloat16(), eps=0.001)
    assert q.dtype == torch.float32
    assert q.isfinite().all()


def test_sinkhorn_has_no_gradient():
    assert not sinkhorn(normal(8, 4).requires_grad_()).requires_grad


def looped_consensus(z1, z2, prototypes, q1, q2, transforms, temperature):
    """One projection after the other, as the published code goes."""
    total = torch.zeros(())
    for r in transforms:
        mapped = functional.normalize(prototypes.detach() @ r.t(), dim=1)
        p1, p2 = (torch.softmax(functional.normalize(z @ r.t(), dim=1) @ mapped.t() / temperature, 1) for z in (z1, z2))
        cross12, cross21 = -(q2 * p1.log()).sum(1).mean(), -(q1 * p2.log()).sum(1).mean()
        total = total + 0.5 * (cross12 + cross21)
    return total / len(transforms)


@pytest.mark.parametrize("kind", ["projection", "diagonal"])
def test_batched_consensus_equals_the_loop_in_value_and_gradient(kind, device):
    transforms = random_transforms(kind, 7, 12, 20, torch.Generator().manual_seed(0)).to(device)
    prototypes = functional.normalize(normal(5, 20, seed=3), dim=1).to(device)
    q1, q2 = (sinkhorn(normal(9, 5, seed=seed)).to(device) for seed in (4, 5))
    results = []
    for loss in (consensus_loss, looped_consensus):
        z1, z2 = (normal(9, 20, seed=seed).mul(3).to(device).requires_grad_() for seed in (1, 2))
        value = loss(z1, z2, prototypes, q1, q2, transforms, 0.1)
        results.append((value.detach(), *torch.autograd.grad(value, (z1, z2))))
    for batched, looped in zip(*results, strict=True):
        torch.testing.assert_close(batched, looped, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_the_consensus_is_that_of_its_value():
    """By finite differences in float64, with an embedding of length 0 among them for the value alone."""
    z1, z2, prototypes = (normal(n, 6, seed=n).double() for n in (4, 4, 3))
    q, maps = sinkhorn(normal(4, 3)).double(), normal(5, 4, 6, seed=9).double()
    z1.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: consensus_loss(z, z2, prototypes, q, q, maps), z1)
    z1.data[0] = 0
    value = consensus_loss(z1, z2, prototypes, q, q, maps)
    torch.testing.assert_close(value, looped_consensus(z1, z2, prototypes, q, q, maps, 0.1).double())
    assert torch.autograd.grad(value, z1)[0].isfinite().all()


def test_consensus_under_autocast_is_close_and_gives_a_gradient_in_float32():
    results = []
    for low in (False, True):
        z1, z2, prototypes = normal(16, 32).requires_grad_(), normal(16, 32, seed=1), normal(5, 32, seed=2)
        q, maps = sinkhorn(normal(16, 5, seed=3)), normal(8, 12, 32, seed=4)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            value = consensus_loss(z1, z2, functional.normalize(prototypes, dim=1), q, q, maps)
        results.append((value, *torch.autograd.grad(value, z1)))
    (value, gradient), (low_value, low_gradient) = results
    assert low_gradient.dtype == value.dtype == low_value.dtype == torch.float32
    assert low_value.item() == pytest.approx(value.item(), rel=2e-3)  # bfloat16 has 8 bits
    assert (low_gradient - gradient).norm() < 0.02 * gradient.norm()


def test_consensus_gradient_goes_to_the_embeddings_only():
    tensors = {name: normal(4, 6, seed=i).requires_grad_() for i, name in enumerate(("z1", "z2", "prototypes"))}
    transforms = normal(3, 5, 6, seed=9).requires_grad_()
    q = sinkhorn(normal(4, 4))
    consensus_loss(**tensors, q1=q, q2=q, transforms=transforms).backward()
    assert tensors["z1"].grad.abs().sum() > 0
    assert tensors["z2"].grad.abs().sum() > 0
    assert tensors["prototypes"].grad is None
    assert transforms.grad is None


def test_consensus_ignores_the_scale_of_maps_and_embeddings():
    z1, z2, prototypes = normal(6, 8), normal(6, 8, seed=1), functional.normalize(normal(4, 8, seed=2), dim=1)
    q1, q2, maps = sinkhorn(normal(6, 4)), sinkhorn(normal(6, 4, seed=3)), normal(5, 3, 8, seed=4)
    value = consensus_loss(z1, z2, prototypes, q1, q2, maps)
    torch.testing.assert_close(consensus_loss(7 * z1, 0.1 * z2, prototypes, q1, q2, 4 * maps), value)


def test_consensus_starts_where_the_specification_says():
    """2.5 to 3.0 for K = 10: ln 10 and some spread."""
    maps = random_transforms("projection", 64, 152, 256, torch.Generator().manual_seed(0))
    prototypes = functional.normalize(normal(10, 256), dim=1)
    z1, z2 = normal(128, 256, seed=1), normal(128, 256, seed=2)
    q1, q2 = (sinkhorn(functional.normalize(z, dim=1) @ prototypes.t()) for z in (z1, z2))
    assert 2.4 < consensus_loss(z1, z2, prototypes, q1, q2, maps).item() < 3.0


def test_population_loss_is_swapped_cross_entropy():
    scores1, scores2, q1, q2 = (
        normal(6, 4),
        normal(6, 4, seed=1),
        sinkhorn(normal(6, 4)),
        sinkhorn(normal(6, 4, seed=3)),
    )
    expected = (functional.cross_entropy(scores1 / 0.1, q2) + functional.cross_entropy(scores2 / 0.1, q1)) / 2
    torch.testing.assert_close(population_loss(scores1, scores2, q1, q2), expected)


def test_random_transforms_have_their_distribution():
    maps = random_transforms("projection", 8, 100, 64, torch.Generator().manual_seed(0))
    assert maps.shape == (8, 100, 64)
    assert maps.std().item() == pytest.approx(0.1, rel=0.02)
    diagonal = random_transforms("diagonal", 8, 100, 64, torch.Generator().manual_seed(0))
    assert diagonal.shape == (8, 64, 64)
    assert torch.equal(diagonal, torch.diag_embed(torch.diagonal(diagonal, dim1=1, dim2=2)))
    assert torch.diagonal(diagonal, dim1=1, dim2=2).std().item() == pytest.approx(1, rel=0.1)


class Flatten(nn.Module):
    """A backbone small enough for tests."""

    feature_dim = 16
    stride = 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 4 * 4, 16)

    def forward(self, images):
        return self.layer(images.flatten(1)).relu()


def method(**options) -> ConCURL:
    torch.manual_seed(options.pop("seed", 0))
    sizes = {"hidden_dim": 32, "cluster_dim": 24, "instance_dim": 8, "transform_count": 4, "projection_dim": 12}
    return ConCURL(Flatten(), samples=40, k=5, **{**sizes, "negatives": 16, **options})


def steps(model: ConCURL, count: int) -> list[dict[str, torch.Tensor]]:
    """What the engine does, by hand."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    seen = []
    for step in range(count):
        index = torch.arange(step, step + 10)
        with torch.no_grad():
            model.before_step()
        terms = model.losses([normal(10, 3, 4, 4, seed=2 * step + view) for view in range(model.views)], index)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        with torch.no_grad():
            model.after_step()
        seen.append(terms)
    return seen


def test_prototypes_stay_where_they_are_with_alpha_0():
    model = method(cluster_dim=256)
    before = model.prototypes.detach().clone()
    steps(model, 3)
    torch.testing.assert_close(model.prototypes.detach(), before, atol=2e-8, rtol=0)
    assert model.prototypes.grad is None


def test_prototypes_learn_with_alpha_1_and_are_unit_norm_before_each_step():
    model = method(alpha=1.0)
    before = model.prototypes.detach().clone()
    steps(model, 3)
    assert model.prototypes.grad.abs().max() > 0
    assert (model.prototypes - before).abs().max() > 1e-4
    with torch.no_grad():
        model.before_step()
    torch.testing.assert_close(model.prototypes.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("flags", "terms", "heads", "views"),
    [
        ((0, 1, 1), ["exemplar", "consensus"], ["head", "cluster_head"], 2),
        ((0, 1, 0), ["exemplar"], ["head"], 1),
        ((1, 0, 0), ["population"], ["cluster_head"], 2),
        ((1, 1, 0), ["exemplar", "population"], ["head", "cluster_head"], 2),
        ((1, 1, 1), ["exemplar", "population", "consensus"], ["head", "cluster_head"], 2),
    ],
)
def test_a_weight_of_0_leaves_a_term_out(flags, terms, heads, views):
    model = method(**dict(zip(("alpha", "beta", "gamma"), map(float, flags), strict=True)))
    assert list(steps(model, 1)[0]) == terms
    assert list(model.heads) == heads
    assert model.views == views


def test_weights_scale_their_terms():
    plain, doubled = method(alpha=1.0), method(alpha=2.0, beta=3.0, gamma=0.5)
    torch.manual_seed(1)
    one = steps(plain, 1)[0]
    torch.manual_seed(1)
    other = steps(doubled, 1)[0]
    for name, factor in {"population": 2.0, "exemplar": 3.0, "consensus": 0.5}.items():
        torch.testing.assert_close(other[name], factor * one[name])


def test_without_clustering_terms_it_is_instance_discrimination():
    """gamma = 0 and m = 0: exact softmax over the bank, by hand."""
    model = method(gamma=0.0, negatives=0, tau=0.5)
    bank, view = model.bank.bank.clone(), normal(10, 3, 4, 4)
    head = model.heads["head"][0]
    features = functional.normalize(head(model.backbone(view)), dim=1)
    expected = softmax_loss(features, bank, torch.arange(10), 0.5)
    torch.testing.assert_close(steps(model, 1)[0]["exemplar"], expected)


def test_the_loss_sees_the_bank_before_its_update():
    model = method(gamma=0.0, negatives=0)
    before = model.bank.bank.clone()
    features = model.heads["head"](model.encode(normal(10, 3, 4, 4))).detach()
    steps(model, 1)
    expected = functional.normalize(0.5 * before[:10] + 0.5 * features, dim=1)
    torch.testing.assert_close(model.bank.bank[:10], expected, atol=1e-6, rtol=0)
    assert torch.equal(model.bank.bank[10:], before[10:])


def test_transforms_depend_on_the_seed_alone():
    assert torch.equal(method(seed=3).transforms, method(seed=3, hidden_dim=64, alpha=1.0).transforms)
    assert not torch.equal(method(seed=3).transforms, method(seed=4).transforms)


def test_bank_normalizer_and_transforms_are_in_the_state():
    assert {"bank.bank", "bank.normalizer", "transforms", "prototypes"} <= set(method().state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0, "beta": 0.0, "gamma": 0.0},
        {"gamma": -1.0},
        {"transform_count": 0},
        {"temperature": 0.0},
        {"eps": 0.0},
        {"tau": 0.0},
    ],
)
def test_values_that_define_no_loss_are_refused(wrong):
    with pytest.raises(InputError):
        method(**wrong)


def test_one_of_each_is_enough():
    model = method(transform_count=1, projection_dim=1, cluster_dim=1, instance_dim=1, sinkhorn_iterations=1)
    assert all(loss.isfinite() for terms in steps(model, 1) for loss in terms.values())


def test_frozen_prototypes_stay_and_learned_ones_move_without_the_soft_term():
    for prototypes, alpha, moves in (("frozen", 1.0, False), ("learned", 0.0, True), ("detached", 0.0, False)):
        model = method(prototypes=prototypes, alpha=alpha)
        before = model.prototypes.detach().clone()
        steps(model, 3)
        assert (not torch.allclose(model.prototypes, before, atol=1e-4)) == moves
        assert (model.prototypes.grad is not None) == moves


def test_learned_prototypes_get_the_loops_gradient():
    prototypes, maps = functional.normalize(normal(5, 20, seed=3), dim=1).requires_grad_(), normal(7, 12, 20, seed=1)
    z1, z2, q = normal(9, 20, seed=1), normal(9, 20, seed=2), sinkhorn(normal(9, 5, seed=4))
    consensus_loss(z1, z2, prototypes, q, q, maps, learn_prototypes=True).backward()
    plain = prototypes.detach().clone().requires_grad_()
    total = torch.zeros(())
    for r in maps:
        mapped = functional.normalize(plain @ r.t(), dim=1)
        for z in (z1, z2):
            total = (
                total - (q * (functional.normalize(z @ r.t(), dim=1) @ mapped.t() / 0.1).log_softmax(1)).sum(1).mean()
            )
    (total / 2 / len(maps)).backward()
    torch.testing.assert_close(prototypes.grad, plain.grad, atol=1e-5, rtol=1e-4)


def test_consensus_in_bfloat16_is_near_the_float32_loss():
    maps = random_transforms("projection", 16, 152, 256, torch.Generator().manual_seed(0))
    prototypes = functional.normalize(normal(10, 256), dim=1)
    z1, z2, q = normal(32, 256, seed=1), normal(32, 256, seed=2), sinkhorn(normal(32, 10, seed=3) * 0.1)
    exact = consensus_loss(z1, z2, prototypes, q, q, maps)
    low = consensus_loss(z1.bfloat16(), z2.bfloat16(), prototypes.bfloat16(), q, q, maps.bfloat16())
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact.item(), rel=0.01)


def test_the_byol_exemplar_sums_both_directions_and_has_no_bank():
    """The older version: the online network is the one that is saved, the slow one follows it."""
    model = method(gamma=0.0, exemplar="byol", slow_momentum=0.5).eval()
    views = [normal(10, 3, 4, 4, seed=seed) for seed in (0, 1)]
    online = [model.predictor(model.heads["head"](model.backbone(view))) for view in views]
    slow = [model.slow["head"](model.slow["backbone"](view)) for view in views]
    expected = sum(2 - 2 * functional.cosine_similarity(online[a], slow[1 - a]).mean() for a in (0, 1))
    torch.testing.assert_close(model.losses(views, torch.arange(10))["exemplar"], expected)
    assert not hasattr(model, "bank")
    model.train()
    start = [parameter.clone() for parameter in model.slow.parameters()]
    steps(model, 1)
    online = [*model.backbone.parameters(), *model.heads["head"].parameters()]
    for was, now, goal in zip(start, model.slow.parameters(), online, strict=True):
        torch.testing.assert_close(now, (was + goal) / 2)
        assert now.grad is None


def test_the_byol_exemplar_goes_with_consensus():
    terms = steps(method(exemplar="byol"), 2)
    assert list(terms[0]) == ["exemplar", "consensus"]
    assert all(term.isfinite() for step in terms for term in step.values())
