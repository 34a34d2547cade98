"""What a results folder holds already, and how the tables of another evaluation join it.

A name is no identity: two encoders of one name, whose fingerprints differ, are told apart by what follows it
(``weights@1a2b3c``), whichever of them came first. An encoder that cannot be known takes the place of the one of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from shiftbench.errors import InputError
from shiftbench.evaluation.plan import Plan
from shiftbench.evaluation.record import Record, identity
from shiftbench.results.derive import merge_rows
from shiftbench.results.tables import RUN_FILE, Results, read_run

Tables = dict[str, pd.DataFrame]
Who = tuple[str, Any]
"""Name and training seed: what rows say of their encoder."""


def earlier_results(plan: Plan, overwrite: str) -> Results | None:
    """The results that this evaluation adds to; None if there are none, or if it starts anew.

    Raises:
        InputError: they are of other images, or damaged.
    """
    if not continues(plan, overwrite):
        return None
    try:
        return Results.load(plan.folder)
    except InputError as error:
        raise InputError(
            f"{error} What other evaluations wrote into the folder would be lost: restore it, or name another with results=DIR."
        ) from error


def continues(plan: Plan, overwrite: str) -> bool:
    """Whether this evaluation continues what is in the folder.

    Raises:
        InputError: the folder's evaluation is of other images; no table may mix the two. Or its record is damaged.
    """
    if not (plan.folder / RUN_FILE).is_file():
        return False
    try:
        theirs = read_run(plan.folder).get("identity")
    except InputError:
        if overwrite == "always":
            return False
        raise
    ours = identity(plan)
    changed = [name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name]]
    if not changed or changed == ["code"] or overwrite == "always":
        return not changed
    raise InputError(
        f"{plan.folder} holds an evaluation with another {' and '.join(changed)}: name another folder with "
        "results=DIR, or replace it with overwrite=always."
    )


def joined(ours: Tables, run: Record, earlier: Results) -> tuple[Tables, Record]:
    """The tables and the record of this evaluation together with those that the folder held.

    Args:
        ours: the measured tables of this evaluation.
        run: its record.
        earlier: what the folder held; of rows that both have, this evaluation's stay.
    """
    mine, theirs = _encoders(run), _encoders(earlier.run)
    names = _names(mine, theirs)
    replaced = {who for who, encoder in theirs.items() if who in mine and not _known(encoder, mine[who])}
    tables = {}
    for name, table in ours.items():
        before: pd.DataFrame = getattr(earlier, name)
        before = before[[who not in replaced for who in _who(before)]]
        tables[name] = merge_rows(name, _renamed(before, names["theirs"]), _renamed(table, names["mine"]))
    kept = [_with_name(encoder, who, names["theirs"]) for who, encoder in theirs.items() if who not in replaced]
    added = [_with_name(encoder, who, names["mine"]) for who, encoder in mine.items()]
    slugs = {encoder["slug"] for encoder in added}
    commands = [*earlier.run.get("commands", []), run["command"]]
    encoders = [encoder for encoder in kept if encoder["slug"] not in slugs] + added
    return tables, run | {"encoders": encoders, "commands": list(dict.fromkeys(commands))}


def _names(mine: Mapping[Who, Record], theirs: Mapping[Who, Record]) -> dict[str, dict[Who, str]]:
    """New names, for those of this evaluation and those before it that need one."""
    names: dict[str, dict[Who, str]] = {"mine": {}, "theirs": {}}
    called = {(encoder["fingerprint"], who[1]): who[0] for who, encoder in theirs.items()}
    for who, encoder in mine.items():
        before = called.get((encoder["fingerprint"], who[1]))
        if before is not None:
            names["mine"][who] = before
        elif who in theirs and _known(theirs[who], encoder):
            names["mine"][who] = f"{who[0]}@{encoder['fingerprint'][:6]}"
            names["theirs"][who] = f"{who[0]}@{theirs[who]['fingerprint'][:6]}"
    return names


def _known(*encoders: Record) -> bool:
    return all(encoder.get("traceable", True) for encoder in encoders)


def _encoders(run: Record) -> dict[Who, Record]:
    """Those of a record, by what rows say of them."""
    return {(encoder["name"], encoder["train_seed"]): encoder for encoder in run.get("encoders", [])}


def _who(table: pd.DataFrame) -> list[Who]:
    seeds = [None if pd.isna(seed) else int(seed) for seed in table["train_seed"]]
    return list(zip(table["encoder"].tolist(), seeds, strict=True))


def _renamed(table: pd.DataFrame, names: Mapping[Who, str]) -> pd.DataFrame:
    changed = {who: name for who, name in names.items() if who[0] != name}
    if not changed:
        return table
    return table.assign(encoder=[changed.get(who, who[0]) for who in _who(table)])


def _with_name(encoder: Record, who: Who, names: Mapping[Who, str]) -> Record:
    return encoder | {"name": names.get(who, who[0])}
