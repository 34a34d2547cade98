"""Vision transformers (Dosovitskiy et al. 2021), built by torchvision, with the names of timm, DINO, MAE or torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from shiftbench.runtime.compat import torchvision

NAME = "ViT"
ANCHOR = r"(?:blocks\.0\.norm1|encoder\.layers\.encoder_layer_0\.ln_1)\.weight"
SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
HEAD_WIDTH = 64  # of every attention head in the published networks; tensors do not tell
OTHERS = (
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)


def vit_small_patch16() -> nn.Module:
    """ViT-S/16 at 224 pixels: (N, 3, 224, 224) -> (N, 384), the class token.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = vit_small_patch16()
        >>> network.feature_dim
        384
    """
    return _vit(384, 12, 16, 224, 1536)


def vit_base_patch16() -> nn.Module:
    """ViT-B/16 at 224 pixels: (N, 3, 224, 224) -> (N, 768), the class token.

    Examples:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = vit_base_patch16()
        >>> network.feature_dim
        768
    """
    return _vit(768, 12, 16, 224, 3072)


def rename(names: Sequence[str]) -> dict[str, str]:
    """New names for those that timm, DINO and MAE give: torchvision's."""

    def new(name: str) -> str:
        if not name.startswith("decoder_"):  # MAE's other half has the same names behind that
            for pattern, replacement in OTHERS:
                name = re.sub(pattern, replacement, name)
        return name

    return {name: new(name) for name in names}


def infer(shapes: Mapping[str, Sequence[int]]) -> tuple[str, Callable[[], nn.Module]] | None:
    """Name and builder of the network with tensors of these names and shapes; None where it is of another kind.

    Layer scales, register tokens and a norm before the blocks make another network (DINOv2, CLIP).
    """
    first = "encoder.layers.encoder_layer_0"
    needed = ("conv_proj.weight", "class_token", "encoder.pos_embedding", f"{first}.mlp.0.weight", "encoder.ln.weight")
    if not all(name in shapes for name in needed) or any(re.search(r"\.ls1\.|reg_token|norm_pre", n) for n in shapes):
        return None
    projection, _, position, mlp, _ = (shapes[name] for name in needed)
    width, patch, side = projection[0], projection[-1], round((position[1] - 1) ** 0.5)
    if side**2 + 1 != position[1] or width % HEAD_WIDTH:
        return None
    depth = len(
        {match.group(1) for name in shapes if (match := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name))}
    )
    name = f"vit_{SIZES.get(width, width)}_patch{patch}_{side * patch}"
    return name, partial(_vit, width, depth, patch, side * patch, mlp[0])


def _vit(width: int, depth: int, patch: int, size: int, mlp: int) -> nn.Module:
    network = torchvision().models.VisionTransformer(size, patch, depth, width // HEAD_WIDTH, width, mlp)
    network.heads = nn.Identity()
    network.feature_dim, network.image_size, network.stride = width, size, patch
    backbone: nn.Module = network
    return backbone
