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
    """All conditions of the named shifts, each once.

    The clean condition comes first. A shift that has only some of the classes comes after the clean images of these.

    Args:
        shifts: names of ``shiftbench list shifts``; ``natural``, ``synthetic`` or ``all``, which take those that fit
            the data set; a single corruption (``fog``) or condition (``fog-3``, ``cifar10_c-fog-3``, ``prior-5``);
            ``folder:PATH`` or ``npz:PATH``, your own; ``package.module:attribute`` of a ``Shift``.
        dataset: what they are shifts of, whole.
        table: the resolved table of severity constants.
        seed: of the randomness of corruptions and synthetic shifts.

    Returns:
        The images of each condition, or why there are none. Missing files make a skipped condition where a group asked
        for it.

    Raises:
        InputError: an unknown name, a shift of another data set, or a shift that is asked for by its name and whose
            files are missing or cannot be used.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> [condition.label for condition in resolve(["fog", "prior-5"], digits, table="cifar", seed=0)]
        ['clean', 'fog-1', 'fog-2', 'fog-3', 'fog-4', 'fog-5', 'prior-5']
    """
    samples: dict[Condition, Sample | Skipped] = {}
    own: dict[str, str] = {}
    for name in ("clean", *shifts):
        for shift, asked in _named(name, dataset):
            if shift.kind == "own" and own.setdefault(shift.name, name) != name:
                raise InputError(f"{own[shift.name]!r} and {name!r} are both called {shift.name}: add ?name= to one.")
            for condition, sample in _conditions(shift, asked, dataset, table, seed).items():
                if isinstance(sample, Sample) and condition.split != "test":
                    samples.setdefault(condition.clean, _clean_pair(dataset, sample))
                samples.setdefault(condition, sample)
    return samples


def clean_samples(dataset: Dataset, table: str, seed: int) -> dict[Condition, Sample | Skipped]:
    """The test split as it is.

    Examples:
        >>> from shiftbench.data.base import load_dataset
        >>> digits = load_dataset("digits")
        >>> clean_samples(digits, table="cifar", seed=0)[CLEAN].n
        360
    """
    return {CLEAN: Sample(dataset.test.labels, np.arange(len(dataset.test)))}


clean = Shift("clean", "clean", paired=True, samples=clean_samples)


def _named(name: str, dataset: Dataset) -> Iterator[tuple[Shift, str]]:
    """The shifts that a name stands for, each with what is asked of it: its conditions, or "" where it is of a group."""
    if name in GROUPS:
        kinds = {"all": ("corruption", "natural", "synthetic")}.get(name, (name,))
        members = [SHIFTS.load(member) for kind in kinds for member in SHIFTS.names(kind)]
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
        registered = [shift_name for shift_name in SHIFTS if shift_name not in own]
        prefixes = (shift_name for shift_name in registered if f"{name}-".startswith(f"{shift_name}-"))
        base = max(prefixes, key=len, default=None)
        if base is None and name.partition("-")[0] not in CORRUPTIONS:
            raise unknown("shift", name, [*GROUPS, *registered, *(f"{kind}:PATH" for kind in own), *CORRUPTIONS])
        shift, asked = SHIFTS.load(base or "corruption"), name
    if not fits(shift, dataset):
        raise InputError(f"{shift.name} is a shift of {' and '.join(shift.data)}, not of {dataset.name}.")
    yield shift, asked


def _conditions(shift: Shift, asked: str, dataset: Dataset, table: str, seed: int) -> dict[Condition, Sample | Skipped]:
    """The conditions of a shift that were asked for; extra corruptions only where they are named."""
    try:
        samples = shift.samples(dataset, table, seed)
    except InputError as error:
        if asked:
            raise
        # A group has the corruptions made here, so it does not need the official corrupted images too.
        omitted = shift.kind == "corruption" and isinstance(error, NotFoundError)
        return {} if omitted else {Condition(shift.name): Skipped(str(error))}
    if asked in ("", shift.name):
        extra = CORRUPTIONS.names("extra")
        return {
            condition: sample for condition, sample in samples.items() if condition.corruption not in extra
        } or samples
    chosen = {
        condition: sample
        for condition, sample in samples.items()
        if isinstance(sample, Skipped) or f"{condition.label}-".startswith(f"{asked}-")
    }
    if not chosen:
        raise InputError(
            f"Shift {asked!r}: {shift.name} has no such condition; severity must be 1, 2, 3, 4 or 5. "
            f"Did you mean {difflib.get_close_matches(asked, [other.label for other in samples], n=1, cutoff=0)[0]!r}?"
        )
    return chosen


def _clean_pair(dataset: Dataset, sample: Sample) -> Sample:
    """The same test images; where the sample has other pictures, the test images of the same classes."""
    rows = sample.rows
    if rows is None:
        rows = np.flatnonzero(np.isin(dataset.test.labels, np.unique(sample.labels)))  # type: ignore[arg-type]
    return Sample(dataset.test.labels[rows], rows)  # type: ignore[index]
