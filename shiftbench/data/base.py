"""A data set by its name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from shiftbench.errors import InputError
from shiftbench.records import Dataset, Split
from shiftbench.registry import DATASETS

FITS = ("train", "train+test")


def load_dataset(name: str, *, fit: str = "train", **options: Any) -> Dataset:
    """Load a registered data set.

    Args:
        name: a name of ``shiftbench list datasets``, or ``package.module:function``.
        fit: the images that clusters are fitted on: "train", or "train+test", which is common in the literature on deep
            clustering for CIFAR and STL-10, since no labels are used. The test split is scored in both cases.
        options: what that data set takes: ``root`` and ``download`` for official data sets, ``path`` for images of your
            own, ``size`` where it can be chosen.

    Raises:
        InputError: no such data set or option, or files that are missing or damaged.

    Examples:
        >>> digits = load_dataset("digits")
        >>> digits.train.images.shape, len(digits.test), digits.classes[:3]
        (torch.Size([1437, 3, 32, 32]), 360, ('0', '1', '2'))
    """
    load = DATASETS.load(name)
    _check_options(name, load, options)
    if fit not in FITS:
        raise InputError(f"data.fit={fit}: one of {', '.join(FITS)} is needed.")
    dataset: Dataset = load(**options)
    return dataset if fit == "train" else replace(dataset, train=_both(dataset))


def _check_options(name: str, load: Any, options: dict[str, Any]) -> None:
    parameters = inspect.signature(load).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            raise InputError(f"The data set {name} takes no data.{option}; it takes {', '.join(parameters)}.")
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise InputError(f"The data set {name} needs data.{option}.")


def _both(dataset: Dataset) -> Split:
    import numpy as np  # here, so that looking for data sets loads neither numpy nor torch

    from shiftbench.images import join

    train, test = dataset.train, dataset.test
    labels = None if train.labels is None else np.concatenate([train.labels, test.labels])
    return Split(join(train.images, test.images), labels)
