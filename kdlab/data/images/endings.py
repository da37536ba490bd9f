"""Which files of an image folder are images, by their endings, and which of the others are reported."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache

from PIL import Image, features

ALWAYS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# formats that Pillow opens and that hold no pixels, or need another program to draw them
_NO_PIXELS = {"BUFR", "GRIB", "HDF5", "MPEG", "EPS", "WMF", "IPTC", "PDF"}
_CODECS = {"JPEG2000": "jpg_2000", "WEBP": "webp", "AVIF": "avif"}  # that Pillow may have been built without

# files that belong into image folders, or that a system puts there
_SILENT_NAMES = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "readme",
    "license",
    "licence",
    "copying",
    "makefile",
    "icon\r",
}
_SILENT_ENDINGS = {
    ".txt",
    ".md",
    ".rst",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".xml",
    ".yaml",
    ".yml",
    ".toml",
    ".ini",
    ".log",
    ".db",
    ".lnk",
    ".url",
    ".py",
    ".sh",
    ".sha1",
    ".sha256",
    ".md5",
}
MOST_SHOWN = 8


@cache
def readable() -> tuple[str, ...]:
    """The endings, in lower case, of the images that the installed Pillow reads."""
    Image.init()
    found = {
        ending.lower()
        for ending, format in Image.registered_extensions().items()
        if format in Image.OPEN
        and format not in _NO_PIXELS
        and (format not in _CODECS or features.check(_CODECS[format]))
    }
    return tuple(sorted(found.union(ALWAYS)))


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image.

    >>> is_image("a.JFIF"), is_image("a.jpg_"), is_image("notes.txt")
    (True, False, False)
    """
    return name.lower().endswith(readable())


def left_out(name: str) -> str | None:
    """The ending of a file that is no image but may have been meant as one; None for files that are clearly something
    else.

    >>> left_out("a.JPG_"), left_out("a"), left_out("labels.csv"), left_out("Thumbs.db"), left_out(".DS_Store")
    ('.JPG_', 'without ending', None, None, None)
    """
    ending = os.path.splitext(name)[1]
    if name.startswith(".") or name.lower() in _SILENT_NAMES or ending.lower() in _SILENT_ENDINGS:
        return None
    return ending or "without ending"


def counted(endings: Counter) -> str:
    """Endings with their numbers, the most frequent first.

    >>> counted(Counter({".heic": 1, ".avif": 20}))
    '.avif 20, .heic 1'
    """
    order = sorted(endings.items(), key=lambda item: (-item[1], item[0].lower(), item[0]))
    shown = [f"{ending} {number}" for ending, number in order[:MOST_SHOWN]]
    rest = sum(number for _, number in order[MOST_SHOWN:])
    return ", ".join([*shown, *([f"others {rest}"] if rest else [])])
