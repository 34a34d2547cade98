"""Run folders: what our trainers write when they finish, enough to load the encoder without the trainer's code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.base import Encoder, module_encoder
from shiftbench.encoders.preprocess import Preprocess
from shiftbench.encoders.reading import read_tensors
from shiftbench.encoders.state_dict import fill
from shiftbench.errors import InputError
from shiftbench.records import atomic_path, sha256, write_text
from shiftbench.registry import BACKBONES
from shiftbench.runtime.plain_yaml import dump_yaml, read_yaml

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.yaml"


def save_encoder(
    folder: Path,
    *,
    name: str,
    backbone_name: str,
    backbone: nn.Module,
    heads: Mapping[str, Head],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: int | None,
    train: Mapping[str, Any],
) -> None:
    """Write ``encoder.safetensors`` and ``encoder.yaml``, which is all that :func:`load_run` needs.

    Args:
        folder: the run folder.
        name: what tables call the encoder.
        backbone_name: a registered backbone.
        backbone, heads: the trained modules; the first head is the default feature.
        mean, std, size: the input normalisation on the 0..1 scale and the image size (None: any).
        train: how it was trained: seed, data, epochs, selection.

    Examples:
        >>> about = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": None, "train": {"seed": 0, "data": "digits"}}
        >>> network = build_backbone("small_cnn")
        >>> save_encoder(Path("run"), name="net", backbone_name="small_cnn", backbone=network, heads={}, **about)
        >>> sorted(path.name for path in Path("run").iterdir())
        ['encoder.safetensors', 'encoder.yaml']
    """
    parts = {"backbone": backbone, **{f"heads.{key}": head for key, head in heads.items()}}
    tensors = {
        f"{part}.{key}": value.detach().cpu().contiguous()
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    description = {
        "format": 1,
        "name": name,
        "backbone": backbone_name,
        "heads": {key: head.spec() for key, head in heads.items()},
        "preprocess": {"mean": list(mean), "std": list(std), "size": size},
        "train": dict(train),
        "sha256": sha256(folder / WEIGHTS),
    }
    write_text(folder / DESCRIPTION, dump_yaml(description))


def load_run(folder: Path, *, device: torch.device, arch: str | None = None) -> Encoder:
    """Load a finished run.

    Args:
        folder: the run folder.
        device: where the encoder runs.
        arch: the backbone that its description names, repeated by the user where it is not a registered backbone.

    Raises:
        InputError: an unfinished run, no run at all, a damaged description, or other weights than it describes.

    Examples:
        >>> about = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": None, "train": {"seed": 0, "data": "digits"}}
        >>> network = build_backbone("small_cnn")
        >>> save_encoder(Path("run"), name="net", backbone_name="small_cnn", backbone=network, heads={}, **about)
        >>> load_run(Path("run"), device=torch.device("cpu")).train_seed
        0
    """
    if not (folder / DESCRIPTION).is_file():
        unfinished = (folder / "checkpoint.pt").is_file()
        advice = (
            f"its training has not finished; go on with `shiftbench train resume={folder}`."
            if unfinished
            else f"it holds no {DESCRIPTION}, so it is not a run folder."
        )
        raise InputError(f"Cannot evaluate {str(folder)!r}: {advice}")
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{str(folder / name)!r} is a link that leads out of its run folder: refused.")
    about, weights = _description(folder), folder / WEIGHTS
    try:
        if about["backbone"] not in BACKBONES and about["backbone"] != arch:  # a stranger must not choose our code
            raise InputError(
                f"{str(folder)!r} was trained with {about['backbone']!r}, which is not a registered backbone. "
                f"If you trust that code: --checkpoint '{folder}?arch={about['backbone']}'."
            )
        if not weights.is_file() or sha256(weights) != about["sha256"]:
            raise InputError(
                f"{str(weights)!r} is missing or not the file that {DESCRIPTION} describes (sha256 differs)."
            )
        tensors = read_tensors(weights)
        heads = {
            key: _head(spec, _part(f"heads.{key}", tensors), f"{str(folder)!r}, head {key}")
            for key, spec in about["heads"].items()
        }
        preprocess = Preprocess(**about["preprocess"])
        train = {"train_seed": about["train"].get("seed"), "selection": about["train"].get("selection", "last")}
        origin = {key: about[key] for key in ("sha256", "train", "backbone", "preprocess")}
        name = str(about["name"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(folder / DESCRIPTION)!r} is damaged ({error}). Train again or restore it.") from error
    backbone = build_backbone(about["backbone"])
    fill(backbone, _part("backbone", tensors), f"{str(folder)!r}, backbone")
    return module_encoder(name, backbone, preprocess, heads, device=device, origin=origin, **train)


def trained_on(folder: Path) -> str:
    """The data set that a finished run was trained on, as its description says; "digits" where it says nothing.

    Examples:
        >>> about = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": None, "train": {"seed": 0, "data": "digits"}}
        >>> network = build_backbone("small_cnn")
        >>> save_encoder(Path("run"), name="net", backbone_name="small_cnn", backbone=network, heads={}, **about)
        >>> trained_on(Path("run"))
        'digits'
    """
    about = _description(folder)
    return str(about.get("train", {}).get("data", "digits")) if isinstance(about, dict) else "digits"


def _description(folder: Path) -> Any:
    try:
        return read_yaml(folder / DESCRIPTION)
    except InputError as error:
        raise InputError(f"{error} Train again or restore it.") from error


def _part(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _head(spec: Mapping[str, Any], state: Mapping[str, torch.Tensor], where: str) -> Head:
    """A head as described, made only if the file has tensors of its widths, since a description may claim any width."""
    with torch.device("meta"):
        described = {name: tuple(value.shape) for name, value in Head(**spec).state_dict().items()}
    if described != {name: tuple(value.shape) for name, value in state.items()}:
        raise InputError(f"{where} is not the one that {DESCRIPTION} describes.")
    head = Head(**spec)
    fill(head, state, where)
    return head
