"""The public tables, and the folder that holds them.

``cells``        one row per encoder x condition x protocol x seed x metric: what was measured, or why not.
``recall``       the share of each class that is in its cluster, per encoder x condition x protocol.
``stability``    agreement between partitions along one axis, per encoder x condition x protocol.
``replicates``   the same values under resamples of images and seeds (Parquet only): where intervals come from.
``summary``      one row per encoder x shift x protocol x metric: clean, shifted, drop, worst case, mCE, rank.
``comparisons``  every pair of encoders: the difference, its interval, its p-value.
``proxies``      whether quantities without labels follow the drop that only labels show.

Their columns are public and are never renamed; docs/results.md says what each one means. A folder also
holds ``partitions/`` and ``examples/`` (what a report needs without torch) and ``run.json`` (how all this was
made). The tables are functions of the inputs alone: the same run writes the same bytes, and times stand in
``run.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute
from pyarrow.csv import write_csv
from pyarrow.parquet import write_table as write_parquet

from shiftbench.errors import InputError
from shiftbench.records import atomic_path, sha256
from shiftbench.results.schema import (
    CELL_KEYS,
    CELLS,
    COMPARISONS,
    PROXIES,
    RECALL,
    RECALL_KEYS,
    REPLICATE_KEYS,
    STABILITY,
    STABILITY_KEYS,
    SUMMARY_KEYS,
    TABLES,
    is_probe,
    typed,
    validate,
)

__all__ = [
    "CELLS",
    "CELL_KEYS",
    "COMPARISONS",
    "PROXIES",
    "RECALL",
    "RECALL_KEYS",
    "REPLICATE_KEYS",
    "RUN_FILE",
    "STABILITY",
    "STABILITY_KEYS",
    "SUMMARY_KEYS",
    "TABLES",
    "Results",
    "cells_table",
    "in_order",
    "ok",
    "recall_table",
    "replicate_columns",
    "replicates_table",
    "stability_table",
    "validate",
    "write_table",
]  # fmt: skip

RUN_FILE = "run.json"
_FIRST = ("cells", "stability", "summary")  # tables of every folder; older versions wrote no others


def cells_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``cells`` table of measured rows (keys: ``CELLS``), typed and in canonical order."""
    return in_order(typed(pd.DataFrame(rows, columns=CELLS)), CELL_KEYS)


def stability_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``stability`` table of measured rows (keys: ``STABILITY``), typed and in canonical order."""
    return in_order(typed(pd.DataFrame(rows, columns=STABILITY)), STABILITY_KEYS)


def recall_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``recall`` table of measured rows (keys: ``RECALL``), typed and in canonical order.

    Only classes that occur have a row, and only where the partitions could be made.
    """
    return in_order(typed(pd.DataFrame(rows, columns=RECALL)), RECALL_KEYS)


def replicates_table(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """The ``replicates`` table, typed and in canonical order.

    Args:
        rows: dictionaries with the keys ``REPLICATE_KEYS`` and ``replicates``, float (B,), the same B in each: the values
            that :func:`shiftbench.results.resample.mean_over_seeds` makes; or a ``replicates`` table.

    Returns:
        The keys, and one float32 column ``b0`` .. for each resample.
    """
    if isinstance(rows, pd.DataFrame):
        return in_order(typed(rows), REPLICATE_KEYS)
    keys = typed(pd.DataFrame([{key: row[key] for key in REPLICATE_KEYS} for row in rows], columns=REPLICATE_KEYS))
    values = np.array([row["replicates"] for row in rows], dtype=np.float32).reshape(len(rows), -1 if rows else 0)
    columns = [f"b{i}" for i in range(values.shape[1])]
    return in_order(pd.concat([keys, pd.DataFrame(values, columns=columns)], axis=1), REPLICATE_KEYS)


def replicate_columns(replicates: pd.DataFrame) -> list[str]:
    """The columns of the ``replicates`` table that hold resamples."""
    return [column for column in replicates.columns if column not in REPLICATE_KEYS]


def in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows sorted by their keys; encoders keep the order they were given in."""
    given = table[list(keys)].assign(encoder=pd.factorize(table["encoder"])[0])
    return table.iloc[given.reset_index(drop=True).sort_values(list(keys), kind="stable").index].reset_index(drop=True)


def ok(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured; failures never enter a mean."""
    return table[table["status"] == "ok"]


@dataclass
class Results:
    """The tables of one evaluation, or of several merged ones.

    Attributes:
        cells, stability, summary, recall, comparisons, proxies, replicates: the tables of this module's description.
        run: the content of ``run.json``: config, versions, hardware, data fingerprint, encoders, times.
        folder: where they are saved; None for results made in memory.

    Examples:
        >>> import shiftbench
        >>> results = shiftbench.evaluate("pixels", floors=[], seeds=2, limit=60)
        >>> Results.load(results.folder).cells.equals(results.cells)
        True
    """

    cells: pd.DataFrame
    stability: pd.DataFrame
    summary: pd.DataFrame
    recall: pd.DataFrame = field(default_factory=lambda: recall_table([]))
    comparisons: pd.DataFrame = field(default_factory=lambda: typed(pd.DataFrame(columns=COMPARISONS)))
    proxies: pd.DataFrame = field(default_factory=lambda: typed(pd.DataFrame(columns=PROXIES)))
    replicates: pd.DataFrame = field(default_factory=lambda: replicates_table([]))
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def save(self, folder: str | Path) -> Results:
        """Check the tables, write them as CSV and Parquet, and ``run.json``; the files appear together at the end.

        Raises:
            InputError: a table holds a value that its column does not allow (:func:`shiftbench.results.schema.validate`).
        """
        with self.saving(Path(folder)):
            return self

    @contextmanager
    def saving(self, folder: Path) -> Iterator[None]:
        """As :meth:`save`, but the files appear when the block ends, and not at all if it fails."""
        for name in TABLES:
            validate(name, getattr(self, name))
        with ExitStack() as files:
            run = files.enter_context(atomic_path(folder / RUN_FILE))  # entered first, it appears last
            digests = {}
            for name in TABLES:
                table = writing_table(getattr(self, name), folder / name, csv=name != "replicates")
                digests[f"{name}.parquet"] = [sha256(files.enter_context(table))]
            _write_run(run, {**self.run, "digests": digests})
            yield
            _announce(folder / RUN_FILE, digests)
        self.folder = folder

    def _repr_html_(self) -> str:
        """What a notebook shows: the clusterings' summary by ACC and ARI, in percent, or all of it without labels."""
        columns = ["encoder", "shift", "clusterer", "protocol", "metric", "clean", "shifted", "drop", "worst_case"]
        shifts = self.summary["shift"].unique()
        rows = self.summary[(self.summary["shift"] != "clean") | (len(shifts) == 1)]
        short = rows[rows["metric"].isin(["acc", "ari"]) & ~rows["clusterer"].map(is_probe).astype(bool)]
        table = (short if len(short) else rows)[columns]
        scale = 100 if len(short) else 1
        table = table.assign(**{name: scale * table[name] for name in ("clean", "shifted", "drop")})
        where = "" if self.folder is None else f"<p>{escape(str(self.folder))}</p>"
        return table.to_html(index=False, na_rep="–", float_format="{:.1f}".format if len(short) else None) + where

    @classmethod
    def load(cls, folder: str | Path) -> Results:
        """Read a results folder; needs no torch. Tables that an older version did not write yet are empty.

        Raises:
            InputError: the folder is not a results folder, or its evaluation has not finished.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"No results folder {str(folder)!r}.")
        needed = [f"{table}.parquet" for table in _FIRST] + [RUN_FILE]
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{str(folder)!r} lacks {', '.join(missing)}: not a results folder, or its evaluation has "
                "not finished (run the same `shiftbench evaluate` again and it goes on)."
            )
        files = {name: folder / f"{name}.parquet" for name in TABLES}
        if not files["replicates"].is_file():
            files["replicates"] = folder / "draws.parquet"  # its name before version 0.2
        run = read_run(folder)
        _check_digests(folder, run.pop("digests", {}))
        try:
            tables = {name: pd.read_parquet(file) for name, file in files.items() if file.is_file()}
        except (OSError, ValueError) as error:
            raise InputError(f"{str(folder)!r} holds a damaged table ({error}). Evaluate again.") from error
        if "split" not in tables["summary"]:  # written when the clean pair was the test split in every row
            tables["summary"].insert(2, "split", "test")
        for name, table in tables.items():
            if lost := [column for column in TABLES[name].columns if column not in table]:
                raise InputError(f"{name}.parquet in {str(folder)!r} lacks the columns {', '.join(lost)}.")
        return cls(**tables, run=run, folder=folder)


def read_run(folder: Path) -> dict[str, Any]:
    """The record of how the results in a folder were made, ``run.json``.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(folder)!r} holds a damaged {RUN_FILE} ({error}). Evaluate again.") from error
    if not isinstance(run, dict):
        raise InputError(
            f"{str(folder)!r}: {RUN_FILE} does not say of which encoders and data the tables are. Evaluate again."
        )
    return run


def _write_run(file: Path, run: dict[str, Any]) -> None:
    file.write_text(json.dumps(run, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def _announce(file: Path, digests: dict[str, list[str]]) -> None:
    """Let the record that is there also accept the tables that are about to appear: a kill may come in between."""
    if not file.is_file():
        return
    try:
        run = read_run(file.parent)
        known = {name: [*run.get("digests", {}).get(name, []), *new] for name, new in digests.items()}
    except (InputError, AttributeError, TypeError):
        return  # a damaged record says nothing
    if "digests" in run:
        with atomic_path(file) as temporary:
            _write_run(temporary, run | {"digests": known})


def _check_digests(folder: Path, known: Any) -> None:
    """Refuse tables that are not those that were written; folders of before version 0.2 have no digests.

    Raises:
        InputError: a table is damaged, or the digests are.
    """
    if not isinstance(known, dict):
        raise InputError(f"{str(folder)!r} holds a damaged {RUN_FILE} (digests). Evaluate again.")
    for name in TABLES:
        file = folder / f"{name}.parquet"
        if file.name in known and not (file.is_file() and sha256(file) in known[file.name]):
            raise InputError(
                f"{str(file)!r} is damaged or missing: it is not the file that was written. Evaluate again."
            )


def write_table(table: pd.DataFrame, path: Path, csv: bool = True) -> None:
    """Write ``path``.csv (UTF-8, text in quotes, shortest exact floats) and ``path``.parquet, each atomically.

    Text that a spreadsheet would take for a formula gets an apostrophe in front of it, in the CSV alone.
    """
    with writing_table(table, path, csv):
        pass


@contextmanager
def writing_table(table: pd.DataFrame, path: Path, csv: bool = True) -> Iterator[Path]:
    """As :func:`write_table`, but the files appear when the block ends, and not at all if it fails.

    Yields:
        The Parquet file under the name that it has until then.
    """
    rows = pa.Table.from_pandas(table, preserve_index=False)
    with ExitStack() as files:
        # Arrow takes no path that is not UTF-8, but any open file.
        if csv:
            with files.enter_context(atomic_path(path.with_suffix(".csv"))).open("wb") as file:
                write_csv(_without_formulas(rows), file)
        # A dictionary of floats, which rarely repeat, would make the file half as large again and nine times as slow.
        repeated = [column.name for column in rows.schema if not pa.types.is_floating(column.type)]
        parquet = files.enter_context(atomic_path(path.with_suffix(".parquet")))
        with parquet.open("wb") as file:
            write_parquet(rows, file, use_dictionary=repeated)
        yield parquet


def _without_formulas(rows: pa.Table) -> pa.Table:
    for place, column in enumerate(rows.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            safe = compute.replace_substring_regex(rows[place], r"^([=+\-@\t\r])", r"'\1")
            rows = rows.set_column(place, column, safe)
    return rows
