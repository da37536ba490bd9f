"""From an image file to RGB of 8 bits a channel, whatever its depth: 16 bits of which some are unused, 32-bit
integers, floats."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kdlab.errors import DataDamaged, InputError

FULL = 2**16 - 1  # the brightest value of a deep image where the user gives no scale
USUAL_BITS = (8, 10, 12, 14, 15, 16)
_ORIENTATION = 0x0112  # EXIF's tag, and how to turn an image upright by it
_UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COLOUR_16 = re.compile(r"(LA|RGB\w?);16([BLN])")  # what Pillow calls 16 bits a channel that it reads as 8
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


@dataclass(frozen=True)
class Deep:
    """The pixels of an image with more than 8 bits a channel.

    Args:
        path, mode: of the file; the mode as Pillow names it.
        values: (H, W), or (H, W, 3): integers or floats, without transparency.
        exact: False where only the upper 8 bits of 16 can be read.
    """

    path: str
    mode: str
    values: np.ndarray
    exact: bool = True


@dataclass(frozen=True)
class Reader:
    """Reads image files as RGB of 8 bits a channel. Images of 8 bits stay as they are; ``bits`` and ``value_range``
    are for deeper ones.

    Args:
        bits: how many bits the values use, from 1 to 32: 2^bits - 1 is white, and no value may be greater. None: 16.
        value_range: (black, white), for floats, and for integers whose black is not 0. Values outside are clipped.
        exif_rotation: turn an image according to its EXIF orientation.

    Raises:
        ValueError: an argument is out of its range, or both ``bits`` and ``value_range`` are given.
    """

    bits: int | None = None
    value_range: Sequence[float] | None = None
    exif_rotation: bool = False

    def __post_init__(self):
        if self.bits is not None and not 1 <= self.bits <= 32:
            raise ValueError(f"bits must be from 1 to 32, got {self.bits}")
        if self.value_range is not None and (
            isinstance(self.value_range, str)
            or len(self.value_range) != 2
            or not self.value_range[0] < self.value_range[1]
        ):
            raise ValueError(
                f"value_range must be two numbers, black and white, the smaller first, got {self.value_range}"
            )
        if self.bits is not None and self.value_range is not None:
            raise ValueError(
                f"bits={self.bits} and value_range={list(self.value_range)} both say what is white; leave one of"
                " them out"
            )

    @property
    def stated(self) -> bool:
        """Whether the user has given a scale for deep images."""
        return self.bits is not None or self.value_range is not None

    def __call__(self, path: str) -> Image.Image:
        """An image file as RGB.

        Raises:
            DataDamaged: it is missing, damaged, or no image.
            InputError: its values do not fit ``bits`` or ``value_range``.
        """
        try:
            with Image.open(path) as opened:
                image: Image.Image = opened
                colour = _is_colour_16(opened)
                image.load()
                turned = _UPRIGHT.get(image.getexif().get(_ORIENTATION)) if self.exif_rotation else None
                if _is_grey(image) or colour and self.stated:
                    image = Image.fromarray(
                        self.scaled(_colour_16(path, image) if colour else Deep(path, image.mode, np.asarray(image)))
                    )
                elif "transparency" in image.info:
                    image = image.convert("RGBA")
                image = image.convert("RGB")
                return image if turned is None else image.transpose(turned)
        except InputError:
            raise
        except Exception as error:  # a reader of bytes that mean nothing may fail in any way
            raise unreadable(path, error) from error

    def scaled(self, deep: Deep) -> np.ndarray:
        """The pixels of a deep image as bytes: (H, W), or (H, W, 3).

        >>> Reader(bits=12).scaled(Deep("x.png", "I;16", np.array([[0, 16, 4095]]))).tolist()
        [[0, 1, 255]]
        >>> Reader(value_range=(-1, 1)).scaled(Deep("x.tif", "F", np.array([[-1.5, 0.0, 1.0]]))).tolist()
        [[0, 128, 255]]
        """
        values = deep.values
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise InputError(
                f"data: {deep.path} has pixels that are no finite numbers (NaN or infinity); repair it or remove it"
            )
        least, most = values.min(), values.max()
        if self.value_range is not None:
            black, white = self.value_range
            return np.rint((values.astype(np.float64) - black).clip(0, white - black) * (255 / (white - black))).astype(
                np.uint8
            )
        cure = f"'data.value_range=[{_number(least)},{_number(most if most > least else most + 1)}]'"
        if np.issubdtype(values.dtype, np.floating):
            raise InputError(
                f"data: {deep.path} (mode {deep.mode}) has floating-point pixels, from {_number(least)} to "
                f"{_number(most)}; say which value is black and which is white, for all images: {cure}"
            )
        if least < 0:
            raise InputError(
                f"data: {deep.path} (mode {deep.mode}) has negative pixels, from {least} to {most}; say which value is"
                f" black and which is white, for all images: {cure}"
            )
        if not deep.exact and self.bits not in (None, 16):
            raise InputError(
                f"data: {deep.path}: Pillow reads only the upper 8 bits of its 16 (grey with transparency), so"
                f" data.bits={self.bits} cannot be applied; save it without transparency"
            )
        bits = self.bits or 16
        if most >= 2**bits:
            more = f"data.bits={_bits(most)}" if most < 2**32 else cure
            raise InputError(
                f"data: {deep.path} (mode {deep.mode}) has pixels up to {most}, and {bits} bits hold {2**bits - 1} at"
                f" most; say what is white, for all images: {more}"
            )
        if bits < 8:
            return (values.astype(np.int64) * 255 // (2**bits - 1)).astype(np.uint8)
        return (values.astype(np.int64) >> (bits - 8)).astype(np.uint8)


def read_image(path: str) -> Image.Image:
    """An image file as RGB, read by a :class:`Reader` with its defaults: deep images use all 16 bits."""
    return Reader()(path)


def unreadable(path: str, error: Exception) -> DataDamaged:
    """The error for a file that is no image."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataDamaged(
        f"data: {path} cannot be read as an image ({reason}); fetch it again or remove it. Names and sizes of the"
        " images are part of a run's identity, so after that a new run begins. All such files: kdlab check"
        " data=image_folder data.folder=… --images",
        reason=reason,
    )


def is_deep(path: str) -> bool:
    """Whether a file has more than 8 bits a channel, by its header.

    Raises:
        DataDamaged: it is missing, or no image.
    """
    try:
        with Image.open(path) as image:
            return _is_grey(image) or _is_colour_16(image)
    except Exception as error:
        raise unreadable(path, error) from error


def deep_pixels(path: str) -> Deep:
    """The pixels of a file that :func:`is_deep`.

    Raises:
        DataDamaged: it is missing, damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            colour = _is_colour_16(image)
            image.load()
            return _colour_16(path, image) if colour else Deep(path, image.mode, np.asarray(image))
    except Exception as error:
        raise unreadable(path, error) from error


def notes(looked_at: Sequence[Deep], reader: Reader) -> list[str]:
    """Warnings about the depth of some images: they use far fewer bits than they are scaled by, or lie outside the
    range.

    Args:
        looked_at: deep images of the data.
        reader: what will read all of them. It must be able to scale these.
    """
    if not looked_at:
        return []
    first = looked_at[0]
    which = f"{first.path} (mode {first.mode})"
    if reader.value_range is not None:
        black, white = reader.value_range
        outside = float(np.mean([((one.values < black) | (one.values > white)).mean() for one in looked_at]))
        if outside <= 0.5:
            return []
        least, most = (getattr(np, name)([getattr(one.values, name)() for one in looked_at]) for name in ("min", "max"))
        return [
            f"data: warning: {which}: {outside:.0%} of the pixels lie outside data.value_range=[{black:g},{white:g}]"
            f" and are clipped; they go from {least:g} to {most:g}"
        ]
    whole = 2 ** (reader.bits or 16) - 1
    brightest = max(int(one.values.max()) for one in looked_at)
    shown = max(int(reader.scaled(one).max()) for one in looked_at)
    if reader.bits is not None and shown >= 8 or brightest > whole // 2:
        return []
    keep = "" if reader.bits else "; data.bits=16 keeps them as they are, without this line"
    return [
        f"data: warning: {which}: the brightest pixel of {len(looked_at)} images of this depth is {brightest} of"
        f" {whole}, which becomes {shown} of 255. If they use fewer bits, type data.bits={_bits(brightest)}{keep}"
    ]


def _bits(value: int) -> int:
    """The usual number of bits that holds a value.

    >>> _bits(4095), _bits(4096), _bits(70000)
    (12, 14, 17)
    """
    needed = int(value).bit_length()
    return next((bits for bits in USUAL_BITS if bits >= needed), needed)


def _number(value: Any) -> str:
    """A number as it is typed.

    >>> _number(np.float32(0.1)), _number(np.int64(1048575)), _number(np.float32(4095))
    ('0.1', '1048575', '4095')
    """
    return f"{float(value):.7g}" if np.issubdtype(type(value), np.floating) else str(value)


def _is_grey(image: Image.Image) -> bool:
    """Whether Pillow holds it with more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _raw_mode(tile: tuple) -> str:
    arguments = tile[3]
    found = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return found if isinstance(found, str) else ""


def _is_colour_16(image: ImageFile) -> bool:
    """Whether it has several channels of 16 bits, of which Pillow keeps the upper 8. To be asked before the image is
    loaded."""
    return (
        not _is_grey(image) and bool(image.tile) and all(_COLOUR_16.fullmatch(_raw_mode(tile)) for tile in image.tile)
    )


def _colour_16(path: str, upper: Image.Image) -> Deep:
    """All 16 bits of each channel: the file is decoded once more, with the bytes of each value taken in the other
    order."""
    high = _colours(upper)
    mode = f"16 bits of {upper.mode}"
    with Image.open(path) as lower:
        for number, tile in enumerate(lower.tile):
            found = _COLOUR_16.fullmatch(_raw_mode(tile))
            if found is None:
                raise ValueError(f"{path} has parts of several modes")
            raw = f"{found[1]};16{_OTHER_BYTE[found[2]]}"
            arguments = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
            # before Pillow 11 a tile was a plain tuple
            changed: Any = tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)
            lower.tile[number] = changed
        try:
            lower.load()
        except (ValueError, OSError):  # Pillow has no such mode
            return Deep(path, mode, high * 256 + 255, exact=False)
        return Deep(path, mode, high * 256 + _colours(lower))


def _colours(image: Image.Image) -> np.ndarray:
    """The channels without transparency, whose values are at their greatest however dark the image is: (H, W) of a grey
    image, else (H, W, 3)."""
    values = np.asarray(image).astype(np.int64)
    return values[..., 0] if image.mode == "LA" else values[..., :3]
