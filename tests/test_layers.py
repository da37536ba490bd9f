"""The layers of the package: who may import whom. Every import is counted, also those inside functions."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdlab"

#: from the ground up; a file imports from layers below its own, and from its own package
LAYERS = (
    ("errors",),
    ("batch", "counter", "outputs", "schedules", "functional"),
    ("chunks", "metrics", "models", "normalisation"),
    ("config", "measure"),
    ("tasks", "weights"),
    ("runs", "teachers"),
    ("data",),
    ("cache", "launch", "losses"),
    ("objective",),
    ("strategies",),
    ("methods", "training"),
    ("api", "compare", "export", "generate", "library", "sweep"),
    ("studies",),
    ("cli",),
)
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}


def module_of(path: Path) -> str:
    parts = ("kdlab", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """The modules of the package that a module's import statements name."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names
            }
    return {name for name in found if name in MODULES} - {module}


def part(module: str) -> str:
    """The folder or file below ``kdlab/`` that a module is in; empty for ``kdlab`` itself."""
    return module.split(".")[1] if "." in module else ""


IMPORTS = {module: imported(module) for module in MODULES}


def test_every_part_has_its_layer():
    assert {part(module) for module in MODULES} - {""} == set(FLOOR)


@pytest.mark.parametrize("name", FLOOR)
def test_imports_go_down(name):
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if part(module) == name
        for other in sorted(others)
        if part(other) not in ("", name) and FLOOR[part(other)] >= FLOOR[name]
    ]
    assert not wrong, "an import that goes up, or to a neighbour of the same layer: " + "; ".join(wrong)


def test_no_files_import_each_other_in_a_circle():
    """A package's ``__init__.py`` only hands names on, and is left out."""
    graph = {
        module: {other for other in others if MODULES[other].name != "__init__.py"}
        for module, others in IMPORTS.items()
        if MODULES[module].name != "__init__.py"
    }
    while free := {module for module, others in graph.items() if not others & set(graph)}:
        graph = {module: others for module, others in graph.items() if module not in free}
    assert not graph, f"files that import each other, or that import such files: {sorted(graph)}"


def test_the_reader_of_imports_sees_all_kinds():
    assert {"kdlab.functional", "kdlab.batch", "kdlab.losses.base"} <= IMPORTS["kdlab.losses.logits"]
    assert "kdlab.launch.devices" in IMPORTS["kdlab.launch.ranks"], "an import inside a function counts"
    assert "kdlab.runs.known" in IMPORTS["kdlab.sweep.composing"], "from package import module"
