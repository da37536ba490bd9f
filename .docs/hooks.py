"""The site's pages that are made of files in the repository: READMEs, CONTRIBUTING, the studies and their figures.

Nothing is copied into git: each page is read when the site is built. Its links lead to other pages of the site; a link
to a file that has no page becomes plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
FIGURES_OF = "experiments/speed/results"  # shown on its page, not in the gallery
STUDIES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/study.yaml"))
PAGES = {
    "README.md": "index.md",
    **{
        f"kdlab/{name}/README.md": f"{name}.md"
        for name in (
            *("strategies", "losses", "tasks", "teachers", "data", "sweep", "cache", "compare", "runs", "studies"),
            *("library", "generate", "export"),
        )
    },
    "kdlab/models/LARGE.md": "large.md",
    "experiments/README.md": "papers.md",
    **{f"experiments/{name}/README.md": f"papers/{name}.md" for name in STUDIES},
    "experiments/speed/README.md": "speed.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/CHANGELOG.md": "changelog.md",
}


def figures() -> list[Path]:
    """The figures of the studies, of which the gallery is made."""
    return [path for name in STUDIES for path in sorted((ROOT / "experiments" / name / "results").glob("*.svg"))]


def relinked(text: str, source: str) -> str:
    """A page's text with its links as the site has them."""
    here = (ROOT / source).parent
    page = Path(PAGES[source])

    def new(match: re.Match) -> str:
        mark, label, target, anchor = match[1], match[2], match[3], match[4] or ""
        if "://" in target or not target:
            return match[0]
        found = os.path.relpath((here / target).resolve(), ROOT)
        wanted = PAGES.get(found) or PAGES.get(f"{found}/README.md") or (f"figures/{found}" if mark else None)
        if wanted is None:
            return f"{mark}{label}" if mark else f"{label} (`{found}`)" if label.strip("`") != found else label
        return f"{mark}[{label}]({os.path.relpath(wanted, page.parent)}{anchor})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)]*)?\)", new, text)


def gallery() -> str:
    """The page of all figures, study by study."""
    lines = [
        "# Gallery",
        "",
        "The figures of the studies in git. `kdlab compare --report` draws these and more for your own runs.",
        "",
    ]
    for path in figures():
        study = path.relative_to(ROOT / "experiments").parts[0]
        lines += [
            f"## [{study}](papers/{study}.md)",
            "",
            f"![{path.stem}](figures/{path.relative_to(ROOT).as_posix()})",
            "",
        ]
    return "\n".join(lines)


def on_files(files, config):
    for source, page in PAGES.items():
        text = relinked((ROOT / source).read_text(encoding="utf-8"), source)
        files.append(File.generated(config, page, content=text))
    for path in [*figures(), *sorted((ROOT / FIGURES_OF).glob("*.svg"))]:
        files.append(File.generated(config, f"figures/{path.relative_to(ROOT).as_posix()}", abs_src_path=str(path)))
    files.append(File.generated(config, "gallery.md", content=gallery()))
    return files
