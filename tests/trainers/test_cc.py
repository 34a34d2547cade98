"""CC's clustering terms: the specification's vectors, and what the method adds up."""

import pytest
import torch

from shiftbench.trainers.drc import negative_entropy
from shiftbench.trainers.simclr import nt_xent

P = torch.tensor([[2.0, 0], [0, 1], [1, 1]], dtype=torch.float64).softmax(dim=1)
Q = torch.tensor([[1.0, 0], [0, 2], [1, -1]], dtype=torch.float64).softmax(dim=1)


def test_cluster_terms_of_the_specification_vectors():
    contrast = nt_xent(P.t(), Q.t(), 1.0)
    assert contrast.item() == pytest.approx(0.865298, abs=1e-6)
    assert (contrast + negative_entropy(P) + negative_entropy(Q)).item() == pytest.approx(0.882200, abs=1e-6)


def test_the_terms_are_taken_on_their_own_heads(build):
    model = build("cc", cluster=0.5)
    views = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    hidden = [model.backbone(view) for view in views]
    z, p = ([model.heads[name](one) for one in hidden] for name in ("head", "cluster"))
    p = [one.softmax(dim=1) for one in p]
    terms = model.losses(views, torch.arange(8))
    torch.testing.assert_close(terms["instance"], nt_xent(*z, 0.5))
    torch.testing.assert_close(terms["cluster"], 0.5 * nt_xent(p[0].t(), p[1].t(), 1.0))
    torch.testing.assert_close(terms["entropy"], 0.5 * (negative_entropy(p[0]) + negative_entropy(p[1])))
