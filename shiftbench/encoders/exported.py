"""Networks that were exported with their graph: ONNX, torch.export archives, TorchScript.

ONNX files hold data alone. The other two are programs for torch, which unpickles parts of both, so they are opened only
where the user says that he trusts their maker.
"""

from __future__ import annotations

import glob
import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.preprocess import Preprocess, flag
from shiftbench.encoders.zoo import adjusted, library
from shiftbench.errors import InputError
from shiftbench.records import sha256

Run = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class Graph:
    """An exported network.

    Attributes:
        run: images (N, 3, H, W) in the dtype that it takes -> its outputs by name.
        batch: the number of images that it takes; None for any.
        size: the side of the images that it takes; None for any.
        raw: whether it takes uint8 images and normalises them itself.

    Examples:
        >>> graph = Graph(lambda images: {"flat": images.flatten(1)}, batch=4)
        >>> graph.outputs(torch.zeros(3, 3, 2, 2))["flat"].shape
        torch.Size([3, 12])
    """

    run: Run
    batch: int | None = None
    size: int | None = None
    raw: bool = False

    def outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run any number of images; a fixed batch is filled up with the last image."""
        if self.batch is None:
            return dict(self.run(images))
        parts = []
        for chunk in images.split(self.batch):
            lack = self.batch - len(chunk)
            full = torch.cat([chunk, chunk[-1:].expand(lack, -1, -1, -1)])
            parts.append({name: value[: len(chunk)] for name, value in self.run(full).items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def load(
    location: str, *, device: torch.device, trust: str | bool = False, norm: str | None = None, **changes: Any
) -> Encoder:
    """Load an ``.onnx`` file, a ``.pt2`` archive of torch.export, or TorchScript (``.ts``, ``.torchscript``, ``.pt``).

    Its features are its outputs by name; the first is the default. A single output without a name is "backbone".

    Args:
        location: the file.
        device: where it runs.
        trust: open a ``.pt2`` archive or TorchScript, which may run code of its maker.
        norm: input normalisation; needed unless the network takes uint8 images.
        changes: size (where the network takes any), crop, interpolation.

    Raises:
        InputError: no such file, a file that is not what its name says or is not trusted, no norm, or a network that
            fails.

    Examples:
        >>> torch.jit.trace(torch.nn.Flatten(), torch.zeros(2, 3, 8, 8)).save("net.ts")
        >>> load("net.ts", device=torch.device("cpu"), trust=True, norm="half", size=8).feature_names
        ('backbone',)
    """
    path = Path(location)
    if not path.is_file():
        raise InputError(f"No checkpoint {location!r}: there is no such file.")
    graph = _onnx(path, device) if path.suffix == ".onnx" else _torch(path, device, flag("trust", trust))
    if norm is None and not graph.raw:
        raise InputError(f"{path.name!r} does not say how its images were normalised: add ?norm=imagenet or another.")
    if norm is not None and graph.raw:
        raise InputError(f"{path.name!r} takes uint8 images and normalises them itself: leave norm out.")
    start = Preprocess((0.0,) * 3, (1 / 255,) * 3 if graph.raw else (1.0,) * 3, graph.size)
    preprocess = adjusted(start, norm=norm, **changes).to(device)
    if graph.size is not None and preprocess.size != graph.size:
        raise InputError(f"{path.name!r} takes images of {graph.size} pixels only, not size={preprocess.size}.")

    def compute(images: torch.Tensor) -> dict[str, torch.Tensor]:
        pixels = preprocess(images.to(device))
        return graph.outputs(pixels.round().to(torch.uint8) if graph.raw else pixels)

    side, digest = preprocess.size or 32, _sha256(path)
    try:
        with torch.inference_mode():
            names = list(compute(torch.zeros(2, 3, side, side, dtype=torch.uint8)))
    except InputError:
        raise
    except Exception as error:  # a stranger's graph may fail in any way
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path.name!r} fails on images of {side} pixels ({reason}): add ?size=.") from error
    about = {"sha256": digest, "weights": str(path), "preprocess": preprocess.describe()}
    fingerprint = hashlib.sha256((digest + json.dumps(preprocess.describe())).encode()).hexdigest()
    encoder = Encoder(path.stem, compute, fingerprint=fingerprint, feature_names=names, origin=about)
    encoder.device = device
    return encoder


def _onnx(path: Path, device: torch.device) -> Graph:
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # work is parallel over conditions
    options.log_severity_level = 4
    wanted = ["CUDAExecutionProvider"] * (device.type == "cuda") + ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has an exception of its own for each way to fail
        raise InputError(f"{path.name!r} is not an ONNX model: {' '.join(str(error).split())[:200]}") from error
    inputs = session.get_inputs()
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] != 3 or inputs[0].type not in kinds:
        said = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise InputError(f"{path.name!r} takes {said}; one input of images (N, 3, H, W) is needed.")
    batch, _, height, _ = (side if isinstance(side, int) else None for side in inputs[0].shape)
    kind, names = kinds[inputs[0].type], [output.name for output in session.get_outputs()]

    def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
        arrays = session.run(names, {inputs[0].name: images.cpu().contiguous().numpy().astype(kind)})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}

    return Graph(run, batch, height, raw=kind is np.uint8)


def _torch(path: Path, device: torch.device, trusted: bool) -> Graph:
    if not trusted:
        raise InputError(
            f"{path.name!r} holds a program that torch would run, and is refused. If you trust its maker: ?trust=true; "
            "or ask for the weights alone, or ONNX."
        )
    kind = "torch.export archive" if path.suffix == ".pt2" else "TorchScript file"
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path.name!r} is not a {kind}, or is damaged.")
    batch = size = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript at each step
            if path.suffix == ".pt2":
                program = torch.export.load(path)
                batch, size = _fixed(program)
                module: Any = program.module()
            else:
                module = torch.jit.load(str(path), map_location=device).eval()
        module.to(device)
    except Exception as error:  # torch raises whatever its readers meet
        raise InputError(f"{path.name!r} is not a {kind}: {' '.join(str(error).split())[:200]}") from error
    return Graph(lambda images: _named(module(images)), batch, size)


def _fixed(program: torch.export.ExportedProgram) -> tuple[int | None, int | None]:
    """The number and the side of images that an exported program takes; None for any."""
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor) or values[0].ndim != 4:
        raise ValueError("one input of images (N, 3, H, W) is needed")
    batch, _, height, _ = (side if isinstance(side, int) else None for side in values[0].shape)
    return batch, height


def _sha256(path: Path) -> str:
    """The hash of the file and of the files beside it in which ONNX keeps large weights (``NAME.onnx.data``)."""
    beside = sorted(file for file in path.parent.glob(f"{glob.escape(path.name)}?data") if path.suffix == ".onnx")
    digests = [sha256(file) for file in (path, *beside)]
    return digests[0] if not beside else hashlib.sha256("".join(digests).encode()).hexdigest()


def _named(result: Any) -> dict[str, torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return {"backbone": result}
    pairs = result.items() if isinstance(result, Mapping) else enumerate(result)
    return {f"output{key}" if isinstance(key, int) else str(key): value for key, value in pairs}
