"""From the names a user gives to the conditions that are scored."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from shiftbench.data.lookup import NotFoundError, fits
from shiftbench.errors import InputError, InputTypeError, unknown
from shiftbench.records import CLEAN, Condition, Dataset, Sample, Shift, Skipped
from shiftbench.registry import CORRUPTIONS, SHIFTS

GROUPS = ("natural", "synthetic", "all")


def resolve(shifts: Sequence[str], dataset: Dataset, *, table: str, seed: int) -> dict[Condition, Sample | Skipped]:
    """All conditions of the named shifts, each once: the clean one first, and before a shift that has only some of the
    classes the clean images of those.

    Args:
        shifts: names of ``shiftbench list shifts``; ``natural``, ``synthetic`` or ``all``, which take those that fit
            the data set; a single corruption (``fog``) or condition (``fog-3``, ``cifar10_c-fog-3``, ``prior-5``);
            ``folder:PATH`` or ``npz:PATH``, your own; ``package.module:attribute`` of a ``Shift``.
        dataset: what they are shifts of, whole.
        table: the resolved table of severity constants.
        seed: of the randomness of corruptions and synthetic shifts.

    Returns:
        Per condition its images, or why there are none. Files that lack are the reason of a skipped condition where a
        group asked for them.

    Raises:
        InputError: an unknown name, a shift of another data set, or one asked for by name whose files are not there or
            cannot be used.
    """
    found: dict[Condition, Sample | Skipped] = {}
    own: dict[str, str] = {}
    for name in ("clean", *shifts):
        for shift, asked in _named(name, dataset):
            if shift.kind == "own" and own.setdefault(shift.name, name) != name:
                raise InputError(f"{own[shift.name]!r} and {name!r} are both called {shift.name}: add ?name= to one.")
            for condition, sample in _conditions(shift, asked, dataset, table, seed).items():
                if isinstance(sample, Sample) and condition.split != "test":
                    found.setdefault(condition.clean, _clean_pair(dataset, sample))
                found.setdefault(condition, sample)
    return found


def clean_samples(dataset: Dataset, table: str, seed: int) -> dict[Condition, Sample | Skipped]:
    """The test split as it is."""
    return {CLEAN: Sample(dataset.test.labels, np.arange(len(dataset.test)))}


clean = Shift("clean", "clean", paired=True, samples=clean_samples)


def _named(name: str, dataset: Dataset) -> Iterator[tuple[Shift, str]]:
    """The shifts behind a name, each with what is asked of it; nothing in particular for those of a group."""
    if name in GROUPS:
        kinds = {"all": ("corruption", "natural", "synthetic")}.get(name, (name,))
        members = [SHIFTS.load(one) for kind in kinds for one in SHIFTS.names(kind)]
        fitting = [shift for shift in members if fits(shift, dataset)]
        if not fitting:
            raise InputError(f"No {name} shift of {dataset.name} is known; your own is folder:PATH or npz:PATH.")
        yield from ((shift, "") for shift in fitting)
        return
    prefix, colon, argument = name.partition(":")
    if colon:
        shift = SHIFTS.load(prefix)(argument) if prefix in SHIFTS.names("own") else SHIFTS.load(name)
        if not isinstance(shift, Shift):
            raise InputTypeError(f"{name!r} is a {type(shift).__name__}, not a Shift.")
        asked = shift.name
    else:
        own = SHIFTS.names("own")
        registered = [one for one in SHIFTS if one not in own]
        base = max((one for one in registered if f"{name}-".startswith(f"{one}-")), key=len, default=None)
        if base is None and name.partition("-")[0] not in CORRUPTIONS:
            raise unknown("shift", name, [*GROUPS, *registered, *(f"{one}:PATH" for one in own), *CORRUPTIONS])
        shift, asked = SHIFTS.load(base or "corruption"), name
    if not fits(shift, dataset):
        raise InputError(f"{shift.name} is a shift of {' and '.join(shift.data)}, not of {dataset.name}.")
    yield shift, asked


def _conditions(shift: Shift, asked: str, dataset: Dataset, table: str, seed: int) -> dict[Condition, Sample | Skipped]:
    """Those conditions of a shift that were asked for; of the corruptions the extra ones only by name."""
    try:
        found = shift.samples(dataset, table, seed)
    except InputError as error:
        if asked:
            raise
        # What a found set of official corrupted images adds to the corruptions made here is not missed by a group.
        omitted = shift.kind == "corruption" and isinstance(error, NotFoundError)
        return {} if omitted else {Condition(shift.name): Skipped(str(error))}
    if asked in ("", shift.name):
        extra = CORRUPTIONS.names("extra")
        return {condition: sample for condition, sample in found.items() if condition.corruption not in extra} or found
    chosen = {
        condition: sample
        for condition, sample in found.items()
        if isinstance(sample, Skipped) or f"{condition.label}-".startswith(f"{asked}-")
    }
    if not chosen:
        raise InputError(
            f"Shift {asked!r}: {shift.name} has no such condition; severity must be 1, 2, 3, 4 or 5. "
            f"Did you mean {difflib.get_close_matches(asked, [one.label for one in found], n=1, cutoff=0)[0]!r}?"
        )
    return chosen


def _clean_pair(dataset: Dataset, sample: Sample) -> Sample:
    """The same test images, or where the sample has other pictures those of the same classes."""
    rows = sample.rows
    if rows is None:
        rows = np.flatnonzero(np.isin(dataset.test.labels, np.unique(sample.labels)))  # type: ignore[arg-type]
    return Sample(dataset.test.labels[rows], rows)  # type: ignore[index]
