"""Several results as one, or the reason why they cannot be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from shiftbench.errors import InputError, unknown
from shiftbench.reports.standings import NORMALISED, column_of
from shiftbench.results.derive import derive
from shiftbench.results.summary import BASELINE
from shiftbench.results.tables import RUN_FILE, TABLES, Results, in_order

MEASURED = ("cells", "recall", "stability", "replicates")

ENCODER_KEYS, DATA_KEYS = {"name", "train_seed", "slug", "fingerprint"}, {"name", "fingerprint", "n_test"}

# What has to be equal wherever the same data set was scored, and how people call it.
MUST_BE_EQUAL = {
    "table": "severity table",
    "k": "number of clusters k",
    "protocols": "protocols",
    "dtype": "precision",
    "seed": "seed of corruptions and resamples",
    "code": "version of the measurements",
}


def merge(parts: Sequence[Results], baseline: str = BASELINE) -> Results:
    """One result of several.

    Cells that stand in more than one part are taken once. Where encoders of one name and training seed have
    different weights, that name gets its folder behind it. Each encoder of ``run`` gains ``data`` and ``folder``
    (where its examples are), and ``run["sources"]`` keeps the record of each evaluation.

    Args:
        parts: at least one.
        baseline: the encoder that normalises mCE.

    Returns:
        A result without a folder; or the only part itself, where its summary has this baseline already.

    Raises:
        InputError: the parts cannot be compared, or there is no such baseline.
    """
    for part in parts:
        _check_record(part)
    _check_comparable(parts)
    parts = _with_distinct_names(parts)
    names = list(dict.fromkeys(name for part in parts for name in part.stability["encoder"]))
    if baseline != BASELINE and baseline not in names:
        raise unknown("baseline", baseline, names)
    if len(parts) == 1 and _is_whole(parts[0], baseline):
        return parts[0]
    measured = {name: _union(name, [getattr(part, name) for part in parts]) for name in MEASURED}
    if len(parts) == 1:
        return replace(derive(measured, baseline), run=parts[0].run, folder=parts[0].folder)
    _check_same_conditions(measured["stability"])
    _check_same_images(parts)
    run = {
        "format": max(source.get("format", 1) for part in parts for source in sources(part)),
        "encoders": _encoders(parts),
        "sources": [source for part in parts for source in sources(part)],
    }
    return replace(derive(measured, baseline), run=run)


def _is_whole(part: Results, baseline: str) -> bool:
    """Whether a part has every table that follows from the measured ones, for this baseline."""
    has_pairs = part.cells.loc[part.cells["status"] == "ok", "encoder"].nunique() < 2 or len(part.comparisons) > 0
    return has_pairs and column_of(NORMALISED[0], baseline) in part.summary.columns


def sources(result: Results) -> list[dict[str, Any]]:
    """The records of the evaluations behind a result, each with its ``folder``; one unless it was merged."""
    record = {key: value for key, value in result.run.items() if key != "encoders"}
    return list(record.get("sources") or [{"folder": str(result.folder or "")} | record])


def encoders(result: Results) -> list[dict[str, Any]]:
    """The encoders behind a result, each with the ``data`` it was scored on and the ``folder`` of its examples."""
    known = {"data": result.run.get("data", {}).get("name", ""), "folder": str(result.folder or "")}
    return [known | encoder for encoder in result.run["encoders"]]


def copied(result: Results) -> Results:
    """A result to be saved in another folder: its record says where it came from."""
    run = result.run | {"encoders": encoders(result)}
    return replace(result, run=run if "sources" in run else {"folder": str(result.folder or "")} | run)


def _encoders(parts: Sequence[Results]) -> list[dict[str, Any]]:
    """The encoders of all parts, each once on each data set."""
    distinct: dict[Any, dict[str, Any]] = {}
    for encoder in [encoder for part in parts for encoder in encoders(part)]:
        distinct.setdefault((encoder["name"], encoder["train_seed"], encoder["data"]), encoder)
    return list(distinct.values())


def _check_record(part: Results) -> None:
    run = part.run if isinstance(part.run, dict) else {}
    given = run.get("sources", [run])
    evaluations = given if isinstance(given, list) else []
    data = [source.get("data") if isinstance(source, dict) else None for source in evaluations]
    for records, keys in ((run.get("encoders"), ENCODER_KEYS), (data, DATA_KEYS)):
        complete = isinstance(records, list) and all(isinstance(item, dict) and keys <= item.keys() for item in records)
        if not complete:
            where = str(part.folder or "a result in memory")
            raise InputError(f"{where}: {RUN_FILE} does not say of which encoders and data the tables are.")


def _check_comparable(parts: Sequence[Results]) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for source in [source for part in parts for source in sources(part)]:
        data = source["data"]["name"]
        first = seen.setdefault(data, source)
        pair = " and ".join(record["folder"] or "a result in memory" for record in (first, source))
        if first["data"]["fingerprint"] != source["data"]["fingerprint"]:
            raise InputError(f"{pair} cannot be compared: {data!r} has other images or labels in the second.")
        if (counts := [record["data"]["n_test"] for record in (first, source)])[0] != counts[1]:
            raise InputError(f"{pair} cannot be compared: {counts[0]} and {counts[1]} images of {data!r} were scored.")
        for key, words in MUST_BE_EQUAL.items():
            values = [(record | record.get("identity", {})).get(key) for record in (first, source)]
            if values[0] != values[1]:
                raise InputError(
                    f"{pair} cannot be compared: the {words} of {data!r} is {values[0]!r} in the first and "
                    f"{values[1]!r} in the second."
                )


def _check_same_conditions(stability: pd.DataFrame) -> None:
    """A mean over other conditions is another quantity, even under the same name."""
    for (data, shift), rows in stability.groupby(["data", "shift"], sort=False):
        sets = {
            encoder: set(map(tuple, of_encoder[["corruption", "severity"]].to_numpy()))
            for encoder, of_encoder in rows.groupby("encoder", sort=False)
        }
        first, *others = sets
        for other in others:
            if sets[other] != sets[first]:
                raise InputError(
                    f"{first!r} and {other!r} were scored under different conditions of the shift {shift!r} on "
                    f"{data!r} ({len(sets[first])} and {len(sets[other])}): evaluate both under the same ones."
                )


def _check_same_images(parts: Sequence[Results]) -> None:
    """The same name of a shift may stand for other files on another machine."""
    seen: dict[tuple[str, str, str], tuple[str, str]] = {}
    for source in [source for part in parts for source in sources(part)]:
        for shift in source.get("shifts", []):
            for condition, images in shift.get("images", {}).items():
                key = source["data"]["name"], shift["name"], condition
                first, folder = seen.setdefault(key, (images, source["folder"]))
                if first != images:
                    raise InputError(
                        f"{folder} and {source['folder']} cannot be compared: the shift {key[1]!r} has other images in "
                        "the second."
                    )


def _with_distinct_names(parts: Sequence[Results]) -> list[Results]:
    weights: dict[tuple[str, Any], set[str]] = defaultdict(set)
    for part in parts:
        for encoder in part.run["encoders"]:
            weights[encoder["name"], encoder["train_seed"]].add(encoder["fingerprint"])
    ambiguous = {name for (name, _), prints in weights.items() if len(prints) > 1}
    return [
        _renamed(part, {name: f"{name} [{place}]" for name in ambiguous})
        for part, place in zip(parts, _places(parts), strict=True)
    ]


def _places(parts: Sequence[Results]) -> list[str]:
    """What tells the parts apart: the names of their folders, or the whole paths where names are equal."""
    places = [str(part.folder) if part.folder else f"result {i}" for i, part in enumerate(parts, 1)]
    short = [part.folder.name if part.folder else place for part, place in zip(parts, places, strict=True)]
    return short if len(set(short)) == len(short) else places


def _renamed(part: Results, names: Mapping[str, str]) -> Results:
    if not names:
        return part
    tables = {
        name: (table := getattr(part, name)).assign(encoder=table["encoder"].replace(dict(names))) for name in MEASURED
    }
    renamed = [encoder | {"name": names.get(encoder["name"], encoder["name"])} for encoder in part.run["encoders"]]
    return replace(part, **tables, run=part.run | {"encoders": renamed})


def _union(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows in canonical order, each key once: the first that was measured, else the first."""
    keys = list(TABLES[name].keys)
    table = pd.concat([table for table in tables if len(table)] or list(tables), ignore_index=True)
    if "status" in table:
        table = table.iloc[(table["status"] != "ok").argsort(kind="stable")]
    kept = table.drop_duplicates(keys).sort_index()
    return in_order(kept.reset_index(drop=True), keys)
