"""The style of figures: colours, sizes and labels, and their output as SVG and PNG.

:data:`COLOURS` holds every colour for ink, grid and series, with its counterpart on a dark page. So a figure is drawn
once, on white. It follows a page's theme when its colours are replaced by the page's variables (:func:`inline_svg`).
"""

from __future__ import annotations

import functools
import html
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

# name -> (on white, on dark). The series can be distinguished with red-green colour blindness: blue, vermilion, green,
# purple, amber after Okabe and Ito, https://jfly.uni-koeln.de/color/, darkened for lines on white and lightened for
# dark; and each has a marker of its own
COLOURS = {
    "ink": ("#1b1f26", "#e8eaee"),
    "muted": ("#5d6672", "#a2abb8"),
    "grid": ("#dde1e7", "#363c46"),
    "paper": ("#fefefe", "#14171c"),
    "series-0": ("#4b5563", "#b4bcc8"),
    "series-1": ("#0068a8", "#5db8f0"),
    "series-2": ("#c94f00", "#ff9a5c"),
    "series-3": ("#00855f", "#3ecf9f"),
    "series-4": ("#a3427f", "#e79bc9"),
    "series-5": ("#8d6400", "#e9bd3f"),
    "series-6": ("#5a50b8", "#a9a2f5"),
}
INK, MUTED, GRID, PAPER = (COLOURS[name][0] for name in ("ink", "muted", "grid", "paper"))
SERIES = [COLOURS[f"series-{number}"][0] for number in range(7)]
MARKERS, DASHES = "soD^vPX", [(0, (4, 2)), "-", "-", "-", "-", "-", "-"]
MOST_SERIES = len(SERIES)  # the baseline (grey, dashed) and six others
COLUMN, WIDE = 5.2, 8.6  # inches: a column of the page, both

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "text.parse_math": False,
    "hatch.color": GRID,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "kdlab",
    "image.interpolation": "none",
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}  # the same data give the same file


class Drawing(Figure):
    """A matplotlib figure without pyplot, which a notebook shows by itself.

    ``caption`` explains how to read it, ``alt`` describes its content, and ``wide`` means that it is wider than a
    column.
    """

    title: str = ""
    caption: str = ""
    alt: str = ""
    wide: bool = False

    def describe(self, title: str, caption: str, alt: str) -> Drawing:
        """Set title, caption and alternative text; returns the figure itself."""
        self.title, self.caption, self.alt = title, caption, alt
        return self

    def _repr_png_(self):
        return png(self, dpi=120), {"width": round(self.get_figwidth() * 96)}


def drawing(width: float = COLUMN, height: float = 3.4) -> Drawing:
    """An empty figure with automatic layout; width and height in inches."""
    figure = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.wide = width > COLUMN
    return figure


def styled(draw: Callable[..., Drawing]) -> Callable[..., Drawing]:
    """A decorator: draw in kdlab's style, whatever the user's matplotlib settings are."""

    @functools.wraps(draw)
    def within(*arguments: Any, **options: Any) -> Drawing:
        with matplotlib.rc_context(RC):
            figure = draw(*arguments, **options)
            figure.draw_without_rendering()  # ticks are made at the first drawing, with the settings at that time
            figure.set_layout_engine("none")  # the layout is done; it is not repeated for every file
            return figure

    return within


@dataclass(frozen=True)
class Line:
    """How a series is drawn."""

    color: str
    marker: str
    linestyle: object


def line(slot: int) -> Line:
    """The style of a series; slot 0 is the baseline.

    Raises:
        ValueError: there are more series than can be distinguished.
    """
    if slot >= MOST_SERIES:
        raise ValueError(f"a figure can show {MOST_SERIES} distinct series, got {slot + 1}; choose some")
    return Line(SERIES[slot], MARKERS[slot], DASHES[slot])


def slots_of(labels: Sequence[str], slots: dict[str, int] | None) -> dict[str, int]:
    """The slot of every series: the given one, or 1, 2, … in order."""
    return {label: (slots or {}).get(label, number) for number, label in enumerate(labels, start=1)}


def wrapped(label: str, width: int = 30, lines: int = 2) -> str:
    """A label wrapped into a limited number of lines. If it is too long, its middle is left out, since labels differ at
    their ends.

    >>> wrapped("offline ce+kd  kd.temperature=4  kd.weight=0.5", 20)
    'offline ce+kd …\\nkd.weight=0.5'
    >>> wrapped("supervised ce", 20)
    'supervised ce'
    """
    words = label.split()
    for left_out in range(len(words)):
        kept = len(words) - left_out
        middle = ["…"] if left_out else []
        rows = textwrap.wrap(
            " ".join([*words[: (kept + 1) // 2], *middle, *words[len(words) - kept // 2 :]]),
            width,
            break_on_hyphens=False,
        )
        if len(rows) <= lines and all(len(row) <= width for row in rows) and (kept > 1 or not left_out):
            return "\n".join(rows)
    text = " ".join(words)
    return (
        f"{text[: (width * lines) // 2 - 2]}…{text[1 - (width * lines) // 2 :]}"
        if lines == 1
        else "\n".join([text[: width - 1] + "…", "…" + text[1 - width :]])
    )


def number(value: float) -> str:
    """A metric with four decimals, or fewer if it is large.

    >>> number(0.91234), number(12.3456), number(float("nan"))
    ('0.9123', '12.35', '–')
    """
    return "–" if not np.isfinite(value) else f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def quantity(value: float, _position: object = None) -> str:
    """A count in short form.

    >>> quantity(2410), quantity(85002), quantity(1.2e9), quantity(0.05), quantity(100)
    ('2.4k', '85k', '1.2G', '0.05', '100')
    """
    for factor, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return (
                f"{value / factor:.3g}".removesuffix(".0") + sign
                if value / factor >= 10
                else f"{value / factor:.2g}{sign}"
            )
    return f"{value:.3g}"


def logarithmic(axis: Axis) -> None:
    """Make an axis logarithmic, with tick labels without powers. If its values span less than two decades, there are
    also ticks between."""
    axis.set_major_formatter(FuncFormatter(quantity))
    low, high = axis.get_view_interval()
    if high / low < 100:
        axis.set_minor_formatter(FuncFormatter(lambda value, _: quantity(value) if f"{value:e}"[0] in "25" else ""))
    else:
        axis.set_minor_formatter(NullFormatter())


def by_seeds(labels: Sequence[str], counts: Sequence[int]) -> tuple[list[str], str]:
    """Labels with their numbers of seeds where these differ; and the words about seeds for a caption.

    >>> by_seeds(["a", "b"], [3, 3]), by_seeds(["a", "b"], [3, 1])
    ((['a', 'b'], '3 seeds'), (['a (3 seeds)', 'b (1 seed)'], 'seeds'))
    """

    def seeds_text(count: int) -> str:
        return f"{count} seed{'' if count == 1 else 's'}"

    if len(set(counts)) == 1:
        return list(labels), seeds_text(counts[0])
    return [f"{label} ({seeds_text(count)})" for label, count in zip(labels, counts)], "seeds"


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int | None = None) -> None:
    """Add a legend below the axes, where it covers nothing, with wrapped labels."""
    columns = columns or (2 if all(len(label) <= 30 for label in labels) else 1)
    short = [wrapped(label, round(figure.get_figwidth() * 14 / columns) - 4, 3) for label in labels]
    rows = -(-len(short) // columns)
    figure.set_figheight(
        figure.get_figheight()
        + 0.14 * sum(max(text.count("\n") + 1 for text in short[row::rows]) for row in range(rows))
        + 0.1
    )
    figure.legend(handles, short, loc="outside lower left", ncols=columns, columnspacing=1.2, labelspacing=0.35)


def png(figure: Figure, dpi: int = 200) -> bytes:
    """On white."""
    stream = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(stream, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure, facecolor: str = "white", text: str = "path") -> str:
    """An SVG file's text; with ``text="none"`` letters stay text, in the reader's fonts."""
    stream = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.fonttype": text}):
        figure.savefig(stream, format="svg", facecolor=facecolor, metadata=_NO_METADATA)
    return stream.getvalue()


def inline_svg(figure: Drawing, name: str) -> str:
    """An ``<svg>`` for use inside a page. Colours are the page's variables (``var(--ink)``). Ids begin with ``name``,
    so that two figures share none. Text stays text. The figure's title is its label, and the page's element
    ``<name>-seen`` its description."""
    text = svg(figure, "none", "none")
    text = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for key, (white, _) in COLOURS.items():
        text = text.replace(white, f"var(--{key})")
    box = cast(re.Match, re.search(r'viewBox="[^"]*"', text)).group()
    label = f'role="img" aria-label="{html.escape(figure.title)}" aria-describedby="{name}-seen"'
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box} {label}>' + text[text.index(">") + 1 :].strip()


def remove(path: Path) -> None:
    """Remove what :func:`save` wrote, if anything."""
    for ending in (".png", ".svg"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``path`` with the endings .png and .svg, on white."""
    from kdlab.runs.files import write_atomically, write_text

    image, vector = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    content = png(figure)
    write_atomically(image, lambda temporary: temporary.write_bytes(content))
    write_text(vector, svg(figure))
    return [image, vector]
