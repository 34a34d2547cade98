"""Mini-batch k-means as the papers on consensus clustering ran it (scikit-learn; Sculley 2010)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import MiniBatchKMeans as Sklearn

from shiftbench.clustering.library import Ids, LibraryClusterer, Matrix, Rule, label_by_rows


@dataclass(frozen=True)
class MiniBatchKMeans(LibraryClusterer):
    """k-means in small batches; of ``n_init`` starts per seed, the best on a sample goes on.

    Attributes:
        batch_size: images per step.
        n_init: starts tried per seed.

    Examples:
        >>> features = [[0.0], [0.2], [9.0], [9.2]]
        >>> labels = MiniBatchKMeans().fit(features, k=2, seed=0).labels
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """

    batch_size: int = 6000
    n_init: int = 20

    def _fit(self, points: Matrix, k: int, seed: int) -> tuple[Ids, Rule, str]:
        model = Sklearn(k, batch_size=self.batch_size, n_init=self.n_init, random_state=seed).fit(points)
        return *label_by_rows(points, model.cluster_centers_, np.arange(k)), ""
