"""Weights on disk: our run folders, other people's state dicts, and python callables. Nothing here runs a pickle."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from shiftbench.encoders.backbones import Head, build_backbone
from shiftbench.encoders.base import Encoder, Preprocess, module_encoder
from shiftbench.errors import InputError
from shiftbench.records import atomic_path, sha256, write_text
from shiftbench.registry import BACKBONES, import_target

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.yaml"
SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".tar", ".bin", ".safetensors")
NORMS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
CONTAINERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.")


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the 0..1 scale, by name."""
    if name not in NORMS:
        raise InputError(f"Unknown norm {name!r}: use one of {', '.join(NORMS)}.")
    return NORMS[name]


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
    """Write ``encoder.safetensors`` and ``encoder.yaml``: all that :func:`load` needs, without the trainer's code.

    Args:
        folder: the run folder.
        name: what tables call the encoder.
        backbone_name: a registered backbone.
        backbone, heads: the trained modules; the first head is the default feature.
        mean, std, size: the input normalisation on the 0..1 scale and the image size (None: any).
        train: how it was trained: seed, data, epochs, selection.
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
    write_text(folder / DESCRIPTION, yaml.safe_dump(description, sort_keys=False))


def load(location: str, *, device: torch.device, **options: str) -> Encoder:
    """Load a run folder of ours, or a state dict file.

    Raises:
        InputError: nothing there, not a checkpoint, an unfinished run, or weights that do not fit the architecture.
    """
    path = Path(location)
    if path.is_dir():
        return _load_run(path, device, **options)
    if not path.exists():
        raise InputError(
            f"No checkpoint {location!r}: give a run folder, a state dict file ({', '.join(SUFFIXES)}), "
            "package.module:callable, pixels or random:BACKBONE."
        )
    if path.suffix not in SUFFIXES:
        raise InputError(f"{location!r} is not a checkpoint: its name ends in none of {', '.join(SUFFIXES)}.")
    return _load_state_dict(path, device, **options)


def trained_on(folder: Path) -> str:
    """The data set that a finished run was trained on, as its description says; "digits" where it says nothing."""
    about = yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return str(about.get("train", {}).get("data", "digits")) if isinstance(about, dict) else "digits"


def load_callable(location: str, *, device: torch.device) -> Encoder:
    """Use a python callable as it is: uint8 (N, 3, H, W) on the CPU -> (N, D).

    Args:
        location: ``package.module:attribute``, importable from where the command runs.
        device: not used; the callable decides.
    """
    function = import_target(location)
    if not callable(function):
        raise InputError(f"{location!r} is a {type(function).__name__}, not a callable images -> (N, D).")
    return wrap_callable(function, name=location)


def wrap_callable(function: Callable[[torch.Tensor], Any], name: str) -> Encoder:
    """An :class:`Encoder` around any callable uint8 (N, 3, H, W) -> (N, D) tensor or array.

    Its fingerprint is that of a torch module's weights where it is one; else its name is all that can be known.
    """

    def compute(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"backbone": torch.as_tensor(function(images))}

    return Encoder(name, compute, fingerprint=hashlib.sha256(name.encode()).hexdigest())


def _load_run(folder: Path, device: torch.device, arch: str | None = None) -> Encoder:
    description_file = folder / DESCRIPTION
    if not description_file.is_file():
        unfinished = (folder / "checkpoint.pt").is_file()
        advice = (
            f"its training has not finished; go on with `shiftbench train resume={folder}`."
            if unfinished
            else f"it holds no {DESCRIPTION}, so it is not a run folder."
        )
        raise InputError(f"Cannot evaluate {str(folder)!r}: {advice}")
    try:
        about = yaml.safe_load(description_file.read_text(encoding="utf-8"))
        if (
            about["backbone"] not in BACKBONES and about["backbone"] != arch
        ):  # a stranger's file must not choose our code
            raise InputError(
                f"{str(folder)!r} was trained with {about['backbone']!r}, which is not a registered backbone. "
                f"If you trust that code: --checkpoint '{folder}?arch={about['backbone']}'."
            )
        backbone = build_backbone(about["backbone"])
        heads = {key: Head(**spec) for key, spec in about["heads"].items()}
        preprocess = Preprocess(**about["preprocess"])
        name, train, expected = about["name"], about["train"], about["sha256"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(description_file)!r} is damaged ({error}). Train again or restore it.") from error
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256(weights) != expected:
        raise InputError(f"{str(weights)!r} is missing or not the file that {DESCRIPTION} describes (sha256 differs).")
    state = _read_safetensors(weights)
    for part, module in {"backbone": backbone, **{f"heads.{key}": head for key, head in heads.items()}}.items():
        own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        _fill(module, own, f"{str(folder)!r}, {part}")
    return module_encoder(
        name,
        backbone,
        preprocess,
        heads,
        device=device,
        train_seed=train.get("seed"),
        selection=train.get("selection", "last"),
        origin={"sha256": expected, "train": train, "backbone": about["backbone"], "preprocess": about["preprocess"]},
    )


def _load_state_dict(
    path: Path, device: torch.device, arch: str | None = None, norm: str | None = None, size: str | None = None
) -> Encoder:
    if arch is None or norm is None:
        raise InputError(
            f"{path.name!r} does not say what it is: add ?arch=BACKBONE&norm=NORM "
            f"(arch: `shiftbench list backbones` or package.module:Class; norm: {', '.join(NORMS)})."
        )
    state = _plain(_read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path), path)
    backbone = build_backbone(arch)
    heads_dropped = _fill(backbone, _strip(state, backbone), repr(path.name), may_drop_head=True)
    if size is not None and not (str(size).isdigit() and int(size) >= 8):
        raise InputError(f"size={size}: a whole number of pixels, at least 8, is needed.")
    origin = {"sha256": sha256(path), "backbone": arch, "norm": norm, "dropped": heads_dropped}
    preprocess = Preprocess(*normalisation(norm), size=int(size) if size else None)
    return module_encoder(path.stem, backbone, preprocess, device=device, origin=origin)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path.name!r} is not a safetensors file ({error}).") from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks to report pickle protocols that it does not know
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked:
            raise InputError(
                f"{path.name!r} wants to run {blocked.group(1)} when loaded and is refused: a checkpoint must hold "
                "tensors only. Save its state_dict() alone, or as safetensors."
            ) from error
        raise InputError(f"{path.name!r} is not a torch checkpoint, or is damaged.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path.name!r} is not a torch checkpoint, or is damaged ({type(error).__name__}).") from error


def _plain(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors inside the containers in which people ship them."""
    for key in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {str(k): v for k, v in content.items() if torch.is_tensor(v)} if isinstance(content, dict) else {}
    if not tensors:
        raise InputError(
            f"{path.name!r} holds no state dict: no tensors at the top, nor under {', '.join(CONTAINERS)}."
        )
    return tensors


def _strip(state: dict[str, torch.Tensor], module: nn.Module) -> dict[str, torch.Tensor]:
    """Drop the wrapper prefixes that stand before the architecture's own names."""
    wanted = set(module.state_dict())
    while not wanted & set(state):
        prefix = next((p for p in PREFIXES if any(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return state


def _fill(module: nn.Module, state: dict[str, torch.Tensor], where: str, may_drop_head: bool = False) -> list[str]:
    """Load all of a module's tensors or say which do not fit; returns the names that were left over."""
    own = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in state]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    extra = [key for key in state if key not in own]
    if missing or wrong or (extra and not may_drop_head):
        matched = len(own) - len(missing) - len(wrong)
        kinds = {"missing": missing, "another shape for": wrong, "unknown": extra}
        some = ", ".join(f"{kind} {names[0]}" for kind, names in kinds.items() if names)
        raise InputError(f"{where} matches {matched} of {len(own)} tensors of this architecture ({some}).")
    module.load_state_dict(state, strict=False)
    return extra
