"""The public tables, and the folder that holds them.

``cells``      one row per encoder x condition x protocol x seed x metric: what was measured, or why not.
``stability``  agreement between partitions along one axis, per encoder x condition x protocol.
``summary``    one row per encoder x shift x protocol x metric: clean, shifted, drop, worst case, mCE.

Their columns are public and are never renamed; docs/results.md says what each one means. A folder also
holds ``partitions/`` and ``examples/`` (what a report needs without torch) and ``run.json`` (how all this was
made). The tables are functions of the inputs alone: the same run writes the same bytes, and times stand in
``run.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from shiftbench.errors import InputError
from shiftbench.records import atomic_path, write_text

_CLUSTERING = ["feature", "clusterer", "k", "k_source"]
_CONDITION = ["data", "split", "shift", "corruption", "severity", "table", *_CLUSTERING]
CELL_KEYS = ["encoder", "train_seed", *_CONDITION, "seed", "protocol", "fit_split", "selection", "metric"]
CELLS = [*CELL_KEYS, "value", "higher_is_better", "n", "status", "reason"]

STABILITY_KEYS = ["encoder", "train_seed", *_CONDITION, "protocol", "axis", "metric"]
STABILITY = [*STABILITY_KEYS, "mean", "sd", "ci_low", "ci_high", "n_pairs", "n", "status", "reason"]

SUMMARY_KEYS = ["encoder", "data", "shift", *_CLUSTERING, "protocol", "selection", "metric"]

TABLES = {"cells": CELLS, "stability": STABILITY, "summary": None}
RUN_FILE = "run.json"


@dataclass
class Results:
    """The tables of one evaluation, or of several merged ones.

    Attributes:
        cells, stability, summary: the tables of this module's description.
        run: the content of ``run.json``: config, versions, hardware, data fingerprint, encoders, times.
        folder: where they are saved; None for results made in memory.
    """

    cells: pd.DataFrame
    stability: pd.DataFrame
    summary: pd.DataFrame
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def save(self, folder: str | Path) -> Results:
        """Write the tables as CSV and Parquet and ``run.json``, each file atomically."""
        folder = Path(folder)
        for name in TABLES:
            write_table(getattr(self, name), folder / name)
        write_text(folder / RUN_FILE, json.dumps(self.run, indent=2, sort_keys=True) + "\n")
        self.folder = folder
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read a results folder; needs no torch.

        Raises:
            InputError: the folder is not a results folder, or its evaluation has not finished.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"No results folder {str(folder)!r}.")
        files = [*(f"{table}.parquet" for table in TABLES), RUN_FILE]
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{str(folder)!r} lacks {', '.join(missing)}: not a results folder, or its evaluation has "
                "not finished (run the same `shiftbench evaluate` again and it goes on)."
            )
        try:
            tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
            run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{str(folder)!r} holds a damaged table ({error}). Evaluate again.") from error
        for name, columns in TABLES.items():
            lost = [column for column in columns or SUMMARY_KEYS if column not in tables[name].columns]
            if lost:
                raise InputError(f"{name}.parquet in {str(folder)!r} lacks the columns {', '.join(lost)}.")
        return cls(**tables, run=run, folder=folder)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write ``path``.csv (UTF-8, shortest exact floats) and ``path``.parquet, each atomically."""
    with atomic_path(path.with_suffix(".csv")) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        table.to_parquet(temporary, index=False)


def cells_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``cells`` table of measured rows, typed and in canonical order."""
    table = pd.DataFrame(rows, columns=CELLS)
    return _typed(table, integers=["severity", "k", "seed", "n"], floats=["value"], order=CELL_KEYS)


def stability_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``stability`` table of measured rows, typed and in canonical order."""
    table = pd.DataFrame(rows, columns=STABILITY)
    floats = ["mean", "sd", "ci_low", "ci_high"]
    return _typed(table, integers=["severity", "k", "n_pairs", "n"], floats=floats, order=STABILITY_KEYS)


def _typed(table: pd.DataFrame, integers: list[str], floats: list[str], order: list[str]) -> pd.DataFrame:
    types = dict.fromkeys(integers, "int64") | dict.fromkeys(floats, "float64") | {"train_seed": "Int64"}
    table = table.astype(types)
    # Encoders keep the order they were given in.
    rank = table["encoder"].map({name: i for i, name in enumerate(table["encoder"].unique())})
    keys = ["_rank", *(column for column in order if column != "encoder")]
    return table.assign(_rank=rank).sort_values(keys, kind="stable", ignore_index=True).drop(columns="_rank")


def ok(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured; failures never enter a mean."""
    return table[table["status"] == "ok"]
