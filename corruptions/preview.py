"""A picture of all corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from shiftbench.corruptions.core import SEVERITIES, corrupt, corruptions
from shiftbench.errors import InputError
from shiftbench.records import atomic_path

PICTURE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".pdf")
_LABEL_WIDTH, _HEADER, _GAP = 120, 20, 3


def contact_sheet(
    images: Tensor, *, table: str = "auto", seed: int = 0, names: Sequence[str] | None = None
) -> Image.Image:
    """A labelled table of pictures: a row per corruption, a column for the clean image and for each severity.

    Args:
        images: uint8 (N, 3, H, W), or (3, H, W). Row i shows image i modulo N.
        table: the set whose severity constants are used, see :func:`resolve_table`.
        seed: of the randomness.
        names: which corruptions; all 19 if not given.

    Returns:
        An RGB picture; images below 64 pixels are enlarged by a whole factor.

    Examples:
        >>> contact_sheet(torch.zeros(3, 32, 32, dtype=torch.uint8), names=["fog"]).size
        (522, 87)
    """
    images = images if images.ndim == 4 else images[None]
    names = list(corruptions("all") if names is None else names)
    height, width = images.shape[2:]
    factor = max(1, -(-64 // min(height, width)))
    row_height, column_width = height * factor + _GAP, width * factor + _GAP
    size = _LABEL_WIDTH + (1 + len(SEVERITIES)) * column_width, _HEADER + len(names) * row_height
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, title in enumerate(["clean", *map(str, SEVERITIES)]):
        middle = _LABEL_WIDTH + column * column_width + width * factor / 2, _HEADER / 2
        pen.text(middle, title, fill="black", font=font, anchor="mm")
    for row, name in enumerate(names):
        top = _HEADER + row * row_height
        pen.text((4, top + row_height / 2), name, fill="black", font=font, anchor="lm")
        index = torch.tensor([row % len(images)])
        image = images[index]
        cells = [image, *(corrupt(image, name, s, table=table, seed=seed, index=index) for s in SEVERITIES)]
        for column, cell in enumerate(cells):
            pixels = cell[0].expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
            enlarged = np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1))
            sheet.paste(Image.fromarray(enlarged), (_LABEL_WIDTH + column * column_width, top))
    return sheet


def save_contact_sheet(path: Path, images: Tensor, **options: Any) -> None:
    """Write :func:`contact_sheet` to a picture file.

    Raises:
        InputError: the file's ending is not one of ``PICTURE_SUFFIXES``.

    Examples:
        >>> save_contact_sheet(Path("sheet.png"), torch.zeros(3, 32, 32, dtype=torch.uint8), names=["fog"])
        >>> Image.open("sheet.png").size
        (522, 87)
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"{str(path)!r} is no picture: end its name in {', '.join(PICTURE_SUFFIXES)}.")
    sheet = contact_sheet(images, **options)
    with atomic_path(path) as temporary:
        sheet.save(temporary)
