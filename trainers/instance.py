"""Instance discrimination: every image is its own class, remembered in a bank of features.

Wu, Xiong, Yu, Lin, "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018; the
sections named below are its. The losses are pure functions; the bank is the state that goes with them.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from shiftbench.trainers.ranges import above_zero, at_least, share


def softmax_loss(features: torch.Tensor, bank: torch.Tensor, index: torch.Tensor, temperature: float) -> torch.Tensor:
    """Exact instance discrimination: cross-entropy of finding the own entry among all N (section 3.1).

    Args:
        features: float (B, D), unit rows.
        bank: float (N, D), constant.
        index: int64 (B,), each row's own entry.
        temperature: divides the inner products.

    Returns:
        Scalar, mean over the batch; ln N at random.
    """
    return functional.cross_entropy(features @ bank.t() / temperature, index)


def nce_loss(similarities: torch.Tensor, temperature: float, normalizer: torch.Tensor, samples: int) -> torch.Tensor:
    """Noise-contrastive estimate of :func:`softmax_loss` against uniform noise (section 3.2).

    With P = exp(similarity / temperature) / normalizer and the noise density 1/N, m times as frequent as the
    data: -ln P_0 / (P_0 + m/N) - sum_j ln (m/N) / (P_j + m/N), the mean over the batch. It starts near
    ln(1 + m) + 1.

    Args:
        similarities: float (B, 1 + m), inner products with the own entry (column 0) and with m drawn ones.
        temperature: divides the inner products.
        normalizer: scalar, the estimate of sum_j exp(similarity_j / temperature) over the bank.
        samples: N, the size of the bank.

    Returns:
        Scalar.
    """
    noise = (similarities.shape[1] - 1) / samples
    log_p = similarities.float() / temperature - normalizer.log()
    log_total = torch.log(log_p.exp() + (noise + 1e-7))
    positive = log_p[:, 0] - log_total[:, 0]
    negatives = math.log(noise) - log_total[:, 1:]
    return -(positive + negatives.sum(dim=1)).mean()


class InstanceBank(nn.Module):
    """One remembered feature per training image, with the losses that compare against it.

    Everything is in buffers, so a checkpoint holds it all: ``bank`` (N, D) starts uniform in +-sqrt(3/D),
    rows of about unit norm; ``normalizer`` is the constant Z of NCE, 0 until the first batch has set it.

    Args:
        samples: N.
        dim: D.
        temperature: divides the inner products.
        momentum: how much of the old entry an update keeps.
        negatives: m, entries drawn per image for NCE; 0 asks for the exact softmax over the bank.

    Raises:
        InputError: a value outside its range.
    """

    bank: torch.Tensor
    normalizer: torch.Tensor

    def __init__(
        self, samples: int, dim: int, *, temperature: float, momentum: float = 0.5, negatives: int = 4096
    ) -> None:
        super().__init__()
        where = "The memory bank's "
        above_zero(where, temperature=temperature)
        share(where, momentum=momentum)
        at_least(0, where, negatives=negatives)
        self.temperature = temperature
        self.momentum = momentum
        self.negatives = negatives
        bound = math.sqrt(3 / dim)
        self.register_buffer("bank", torch.empty(samples, dim).uniform_(-bound, bound))
        self.register_buffer("normalizer", torch.zeros(()))

    def loss(self, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The loss of a batch against the bank as it is now.

        Negatives are drawn with replacement and may be the image itself, as in the original. One product with
        the whole bank and a gather of scalars replaces the gather of B x (1 + m) x D features: the same
        numbers, faster.

        Args:
            features: float (B, D), unit rows.
            index: int64 (B,), which images these are.

        Returns:
            Scalar; the gradient goes to ``features`` only.
        """
        if not self.negatives:
            return softmax_loss(features, self.bank, index, self.temperature)
        drawn = torch.randint(len(self.bank), (len(index), self.negatives), device=index.device)
        columns = torch.cat([index[:, None], drawn], dim=1)
        similarities = (features @ self.bank.t()).gather(1, columns)
        estimate = len(self.bank) * (similarities.detach() / self.temperature).exp().mean()
        self.normalizer.copy_(torch.where(self.normalizer > 0, self.normalizer, estimate))  # set once; no host sync
        return nce_loss(similarities, self.temperature, self.normalizer, len(self.bank))

    @torch.no_grad()
    def update(self, features: torch.Tensor, index: torch.Tensor) -> None:
        """Move the entries of these images towards their new features, then scale them to unit norm."""
        mixed = torch.lerp(features, self.bank[index], self.momentum)
        self.bank[index] = functional.normalize(mixed, dim=1)
