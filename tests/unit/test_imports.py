"""The direction of imports: arrows point down only, and only the parts that need torch see it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dermask

ROOT = Path(dermask.__file__).parent
LAYERS = {
    **dict.fromkeys(("errors", "records", "config", "files", "threads", "wording"), 0),
    **dict.fromkeys(("boxes", "contours", "masks", "images", "regions", "scaling", "tidying"), 1),
    **dict.fromkeys(("data", "models"), 2),
    **dict.fromkeys(("training", "evaluation", "inference", "audit", "report", "export", "web_page"), 3),
    **dict.fromkeys(("cli", "__main__", ""), 4),  # "" is the package itself, which loads lazily
}
# Sideways or downwards, and still not allowed: importer, imported.
FORBIDDEN = {
    ("data", "models"),
    ("models", "data"),
    ("evaluation", "models"),
    ("report", "models"),
    ("audit", "models"),
    ("audit", "training"),
    ("audit", "evaluation"),
    ("audit", "report"),
    ("evaluation", "training"),
    ("inference", "training"),
    ("export", "training"),
    ("inference", "export"),
    ("web_page", "models"),
    ("web_page", "training"),
    ("web_page", "report"),  # plotly; their look alone is shared, as a template
}
TORCH = {"torch", "torchvision"}


@dataclass
class Imports:
    """What one module imports: when it is imported itself, and at any time."""

    at_once: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)


def _name_of(path: Path) -> str:
    parts = ("dermask", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Imports]:
    found = {_name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
    result = {}
    for name, path in found.items():
        imports = Imports()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        _collect(tree, imports, found, at_once=True)
        result[name] = imports
    return result


def _collect(node: ast.AST, imports: Imports, known: dict[str, Path], *, at_once: bool) -> None:
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            base = child.module or ""
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in child.names]
        imports.ever.update(names)
        if at_once:
            imports.at_once.update(names)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        _collect(child, imports, known, at_once=at_once and not is_function and not is_for_types)


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def may_import_torch(name: str) -> bool:
    return part_of(name) in ("models", "training", "export") or name == "dermask.inference.torch_detector"


def uses_torch(names: set[str]) -> bool:
    return any(name.split(".")[0] in TORCH for name in names)


@cache
def closure(name: str) -> frozenset[str]:
    """Every module that importing `name` imports, packages on the way included."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.add(current)
        if current in modules():
            waiting.extend(modules()[current].at_once)
            parts = current.split(".")
            waiting.extend(".".join(parts[:count]) for count in range(1, len(parts)))
    return frozenset(reached)


ALL_MODULES = sorted(modules())


def test_every_part_has_a_layer() -> None:
    assert {part_of(name) for name in ALL_MODULES} <= set(LAYERS)


@pytest.mark.parametrize("name", ALL_MODULES)
def test_imports_point_down(name: str) -> None:
    part = part_of(name)
    inner = [other for other in modules()[name].ever if other.split(".")[0] == "dermask" and other != "dermask"]
    if part == "":
        return  # the public door names everything it offers
    upwards = [other for other in inner if LAYERS[part_of(other)] > LAYERS[part]]
    assert not upwards, f"{name} imports from a layer above its own"
    sideways = [other for other in inner if (part, part_of(other)) in FORBIDDEN]
    if name == "dermask.inference.torch_detector":
        sideways = [other for other in sideways if part_of(other) != "training"]  # its checkpoints are read there
    assert not sideways, f"{name} imports a part that it must not see"
    if part == "inference" and name != "dermask.inference.torch_detector":
        assert not [other for other in inner if part_of(other) == "models"], f"{name} must not see the network"


@pytest.mark.parametrize("name", ALL_MODULES)
def test_torch_is_imported_only_where_it_is_needed(name: str) -> None:
    imports = modules()[name]
    if may_import_torch(name):
        return
    assert not uses_torch(imports.at_once), f"{name} imports torch"
    if part_of(name) != "cli":
        assert not uses_torch(imports.ever), f"{name} imports torch in a function"


@pytest.mark.parametrize("name", [name for name in ALL_MODULES if not may_import_torch(name)])
def test_module_imports_without_torch(name: str) -> None:
    with_torch = sorted(other for other in closure(name) if other in modules() and uses_torch(modules()[other].at_once))
    assert not with_torch, f"{name} reaches torch through these when it is imported"


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {name: imports.at_once & modules().keys() for name, imports in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
