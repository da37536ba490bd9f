"""The table as a notebook shows it."""

from html.parser import HTMLParser

from kdlab.compare import Interval, Table
from kdlab.compare.table import Row


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes).get("style", "")))
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, text):
        if self.tags[-1][0] in ("td", "th"):
            self.rows[-1].append(text)


def test_cells_are_escaped_and_numbers_stand_to_the_right():
    row = Row(
        "variant",
        "loss=<ce> & kd",
        Interval(0.9, 0.01, 3),
        Interval(0.91, None, 3),
        retention=0.95,
        parameters=2410,
        seconds=1.25,
        weights="ce=0.1 kd=0.9",
    )
    text = Table("accuracy", [row], ["not in the table: runs/<x>"])._repr_html_()
    read = Cells()
    read.feed(text)
    head, cells = read.rows
    assert head[1] == "variant" and "loss=<ce> & kd" in cells and "0.9000 ± 0.0100" in cells
    assert all(style.startswith("text-align: right") for tag, style in read.tags if tag == "td" and "nowrap" in style)
    assert "<small>not in the table: runs/&lt;x&gt;</small>" in text
