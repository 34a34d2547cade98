"""The runs behind a number: which were measured, and how sure their mean is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from shiftbench.results.resample import TRAININGS, resample_weights
from shiftbench.results.tables import ok, replicate_columns

RESAMPLES, LEVEL = 1000, 0.95
_BLOCK = 1000  # quantities bounded at once: their resamples stay in the processor's cache
CONDITION = ["shift", "corruption", "severity"]
CLEAN_KEY, CHANCE_KEY = ("clean", "", 0), ("chance", "", 0)
CANDIDATE = ["encoder", "feature", "selection"]
SETTING = ["data", "clusterer", "k", "k_source", "protocol", "metric"]

ConditionKey = tuple[str, str, int]


def of_split(condition: ConditionKey, split: str) -> ConditionKey:
    """The clean or chance condition of the part of the test split that a shift is compared with."""
    return (condition[0] + split.removeprefix("test"), *condition[1:])


@dataclass(frozen=True)
class Rows:
    """Rows of ``cells`` or ``replicates`` as arrays.

    Attributes:
        conditions: those of the whole table, each with its split.
        place: int64 (rows,), the position of each row's condition among them.
        trained: int64 (rows,), the training seed, -1 for none.
        seed: int64 (rows,), the clustering seed, 0 for replicates.
        values: float (rows, B); B = 1 for cells.
    """

    conditions: list[tuple[ConditionKey, str]]
    place: np.ndarray
    trained: np.ndarray
    seed: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, columns: list[str]) -> Rows:
        """The rows of a table, with the values of these columns."""
        codes, uniques = zip(*(pd.factorize(table[name]) for name in [*CONDITION, "split"]), strict=True)
        sizes = [max(len(values), 1) for values in uniques]
        occurring, place = np.unique(np.ravel_multi_index(codes, sizes), return_inverse=True)
        conditions: list[tuple[ConditionKey, str]] = []
        for shift, corruption, severity, part in zip(*np.unravel_index(occurring, sizes), strict=True):
            key, split = (uniques[0][shift], uniques[1][corruption], int(uniques[2][severity])), uniques[3][part]
            conditions.append((of_split(key, split) if key[0] in (CLEAN_KEY[0], CHANCE_KEY[0]) else key, split))
        trained = table["train_seed"].fillna(-1).to_numpy(np.int64)
        seed = table["seed"].to_numpy(np.int64) if "seed" in table else np.zeros(len(table), np.int64)
        return cls(conditions, place.ravel(), trained, seed, table[columns].to_numpy())

    def take(self, index: np.ndarray) -> Rows:
        """Some of the rows."""
        return Rows(self.conditions, *(column[index] for column in (self.place, self.trained, self.seed, self.values)))


class Runs:
    """The values of one encoder, feature, protocol and metric, and how sure their means over runs are.

    A run is one clustering of one trained encoder: (train_seed, seed). With the replicates of every measured condition, a
    resample is one of images, clustering seeds and, on top, trained encoders. Without, resamples are a two-stage
    bootstrap of runs: trained encoders are drawn with replacement, then clusterings within each, since many clusterings
    of one encoder say nothing about its training. The same resamples serve every condition, so that differences of
    conditions stay paired.

    Args:
        cells: rows of the ``cells`` table; what was not measured is left out.
        replicates: rows of the ``replicates`` table for the same encoder, feature, protocol and metric.

    Attributes:
        values: float64 (runs, conditions); NaN where a run was not measured.
        trained: int64 (runs,), the training seed of each, -1 for none.
    """

    def __init__(self, cells: pd.DataFrame | Rows, replicates: Rows | None = None) -> None:
        rows = Rows.of(ok(cells), ["value"]) if isinstance(cells, pd.DataFrame) else cells
        here, column = np.unique(rows.place, return_inverse=True)
        order = sorted(range(len(here)), key=lambda i: rows.conditions[here[i]][0])
        self._place = {rows.conditions[here[i]][0]: place for place, i in enumerate(order)}
        column = np.argsort(order, kind="stable")[column.ravel()] if len(here) else column
        runs, row = np.unique(np.column_stack([rows.trained, rows.seed]), axis=0, return_inverse=True)
        self.trained = np.ascontiguousarray(runs[:, 0])
        self.values = np.full((len(runs), len(here)), np.nan)
        self.values[row.ravel(), column] = rows.values[:, 0]
        self._replicates = replicates

    def __len__(self) -> int:
        return len(self.values)

    @property
    def table(self) -> pd.DataFrame:
        """``values`` with the conditions as columns."""
        return pd.DataFrame(self.values, columns=pd.MultiIndex.from_tuples(list(self._place), names=CONDITION))

    @property
    def clean(self) -> np.ndarray:
        """float64 (1 + resamples,) means of the whole clean split."""
        return self.means([CLEAN_KEY])[:, 0]

    def conditions(self, shift: str) -> list[ConditionKey]:
        """The conditions of a shift that some run has."""
        return [condition for condition in self._place if condition[0] == shift]

    def means(self, conditions: Sequence[ConditionKey]) -> np.ndarray:
        """float64 (1 + resamples, conditions): means over the runs of each condition, first not resampled; NaN without runs."""
        known = [i for i, condition in enumerate(conditions) if condition in self._place]
        means = np.full((len(self._means), len(conditions)), np.nan)
        means[:, known] = self._means[:, [self._place[conditions[i]] for i in known]]
        return means

    @cached_property
    def _means(self) -> np.ndarray:
        replicates = self._by_training()
        if replicates is None:
            weights = np.vstack([np.ones(len(self)), _run_weights(self.trained.tobytes())])
            return _weighted(weights, self.values)
        weights = resample_weights(len(replicates), replicates.shape[2], 0, TRAININGS).astype(float)
        known = np.isfinite(replicates)
        with np.errstate(invalid="ignore"):
            resampled = np.einsum("tb,tcb->bc", weights, np.where(known, replicates, 0)) / np.einsum(
                "tb,tcb->bc", weights, known
            )
        return np.vstack([_weighted(np.ones((1, len(self))), self.values), resampled])

    def _by_training(self) -> np.ndarray | None:
        """Replicates of each training, float64 (trained, conditions, B); None unless everything measured has them.

        Chance has no replicates: its mean over seeds stands for each of them.
        """
        replicates = self._replicates
        if replicates is None or not len(replicates.place) or not len(self):
            return None
        trained = np.unique(self.trained)
        whole = np.array([_weighted((self.trained == seed)[None].astype(float), self.values)[0] for seed in trained])
        missing = np.isfinite(whole)
        missing[:, [place for key, place in self._place.items() if key[0].startswith(CHANCE_KEY[0])]] = False
        values = np.repeat(whole[:, :, None], replicates.values.shape[1], axis=2)
        place = np.array([self._place.get(key, -1) for key, _ in replicates.conditions])[replicates.place]
        row = np.searchsorted(trained, replicates.trained).clip(max=len(trained) - 1)
        here = (place >= 0) & (trained[row] == replicates.trained)
        values[row[here], place[here]] = replicates.values[here]
        missing[row[here], place[here]] = False
        return None if missing.any() else values


def interval(resampled: np.ndarray) -> tuple[float, float, float]:
    """Plain value and percentile bounds of a (1 + resamples,) quantity; NaN bounds without resamples."""
    plain, low, high = intervals(resampled[None])[0].tolist()
    return plain, low, high


def intervals(resampled: np.ndarray) -> np.ndarray:
    """:func:`interval` of (quantities, 1 + resamples): float64 (quantities, 3).

    Resamples in which a quantity is not defined are left out. Where the plain value is not defined, the bounds are NaN too.
    """
    numbers = np.full((len(resampled), 3), np.nan)
    numbers[:, 0] = resampled[:, 0]
    for start in range(0, len(numbers) if resampled.shape[1] > 1 else 0, _BLOCK):
        rows = slice(start, start + _BLOCK)
        numbers[rows, 1:] = _bounds(resampled[rows])
    return numbers + 0.0  # never -0.0


def _bounds(resampled: np.ndarray) -> np.ndarray:
    """(quantities, 2): both ends of the interval of level ``LEVEL``, as np.quantile gives them.

    Sorting many short rows whole is several times faster than numpy's partial sort of them.
    """
    defined = np.isfinite(resampled[:, 1:]) & np.isfinite(resampled[:, :1])
    values = np.where(defined, resampled[:, 1:], np.nan)
    values.sort(axis=1)  # NaN last
    places = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * (defined.sum(axis=1, keepdims=True) - 1).clip(0)
    below = places.astype(np.int64)
    low, high = (np.take_along_axis(values, i, axis=1) for i in (below, np.ceil(places).astype(np.int64)))
    share, between = places - below, high - low
    ends: np.ndarray = np.where(share < 0.5, low + between * share, high - between * (1 - share))
    return ends


@dataclass(frozen=True)
class Group:
    """Encoders of one setting: the same data, clusterer, k, protocol and metric.

    Attributes:
        keys: what they share, the columns ``SETTING``.
        candidates: the runs by (encoder, feature, selection).
        tried: all conditions, measured or not, with the split that each is of.
        sign: 1 where higher is better, else -1.
    """

    keys: dict[str, Any]
    candidates: dict[tuple[str, str, str], Runs]
    tried: list[tuple[ConditionKey, str]]
    sign: int

    @property
    def shifts(self) -> list[tuple[str, str]]:
        """Each shift with its split; the clean images of each split count as a shift."""
        clean = {of_split(CLEAN_KEY, split): CLEAN_KEY[0] for _, split in self.tried}
        chance = {of_split(CHANCE_KEY, split) for _, split in self.tried}
        return list(dict.fromkeys((clean.get(key, key[0]), split) for key, split in self.tried if key not in chance))

    def conditions(self, shift: str) -> list[ConditionKey]:
        """The conditions of a shift that were tried."""
        return list(dict.fromkeys(key for key, _ in self.tried if key[0] == shift))


def groups(cells: pd.DataFrame, replicates: pd.DataFrame | None = None) -> Iterator[Group]:
    """The comparable encoders of the cells, setting by setting, in order of appearance."""
    rows, measured = Rows.of(cells, ["value"]), (cells["status"] == "ok").to_numpy()
    replicate_rows, replicate_places = None, {}
    if replicates is not None and len(replicates):
        replicate_rows = Rows.of(replicates, replicate_columns(replicates))
        replicate_places = _places(replicates)
    signs = np.where(cells["higher_is_better"], 1, -1)
    settings: dict[Any, dict[Any, np.ndarray]] = {}
    for key, index in _places(cells).items():
        settings.setdefault(key[: len(SETTING)], {})[key[len(SETTING) :]] = index
    for setting, members in settings.items():
        candidates = {}
        for key, index in members.items():
            place = replicate_places.get((*setting, *key))
            own = None if replicate_rows is None or place is None else replicate_rows.take(place)
            candidates[key] = Runs(rows.take(index[measured[index]]), own)
        everything = np.concatenate(list(members.values()))
        tried = [rows.conditions[place] for place in np.unique(rows.place[everything])]
        yield Group(dict(zip(SETTING, setting, strict=True)), candidates, tried, int(signs[everything[0]]))


def _places(table: pd.DataFrame) -> dict[tuple[Any, ...], np.ndarray]:
    """The rows of each setting and candidate."""
    return dict(table.groupby([*SETTING, *CANDIDATE], sort=False).indices)  # type: ignore[arg-type]


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(weights, conditions) means over the runs that have a condition."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = (weights @ np.where(known, values, 0)) / (weights @ known)
    return means


@lru_cache(maxsize=256)
def _run_weights(trained: bytes) -> np.ndarray:
    """float64 (RESAMPLES, runs) counts of the two-stage bootstrap; no rows where there is a single run."""
    seeds = np.frombuffer(trained, np.int64)
    if len(seeds) < 2:
        return np.empty((0, len(seeds)))
    generator = np.random.default_rng(0)
    encoders = np.unique(seeds)
    encoder_counts = generator.multinomial(len(encoders), np.full(len(encoders), 1 / len(encoders)), RESAMPLES)
    counts = np.empty((RESAMPLES, len(seeds)))
    for encoder, times in zip(encoders, encoder_counts.T, strict=True):
        runs = seeds == encoder
        counts[:, runs] = generator.multinomial(times * runs.sum(), np.full(runs.sum(), 1 / runs.sum()))
    return counts
