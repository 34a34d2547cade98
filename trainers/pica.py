"""PICA: clusters whose assignments are confident and the same in both views; DRC without its contrast of images.

Huang, Gong, Zhu, "Deep semantic clustering by partition confidence maximisation", CVPR 2020. The auxiliary head of 70
clusters, the repeated views and the Sobel filters of the published runs are left out: this is the ablation of DRC.
"""

from __future__ import annotations

from typing import Any

from shiftbench.trainers.drc import DRC


class PICA(DRC):
    """The contrast between clusters at temperature 1, and balance by entropy.

    Args:
        backbone, samples, k: see :class:`Method`.
        balance_weight: of the entropy term.
        symmetric: see :class:`DRC`.

    Raises:
        InputError: a negative weight.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        samples: int,
        k: int,
        balance_weight: float = 2.0,
        symmetric: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            samples=samples,
            k=k,
            features=0.0,
            balance="entropy",
            balance_weight=balance_weight,
            symmetric=symmetric,
        )
