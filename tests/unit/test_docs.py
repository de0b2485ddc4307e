"""The pages say what is true: links lead somewhere, the tree is the tree, commands parse, generated pages are fresh."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from scripts import load_script
from typer.main import get_command

import dermask
from dermask import config
from dermask.cli.common import parse_assignments
from dermask.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dermask"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]

_LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BACKTICKED_FILE = re.compile(r"`((?:tests|docs|src|benchmarks|\.ci)/[\w./-]+)`")
_SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}
# Work left undone, places on one machine, and judgements that this program never makes.
_FORBIDDEN = re.compile(r"\bTODO\b|\bFIXME\b|/work/|(?i:maligna)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(text_of(page)) if kind == language]


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, spaces to hyphens, punctuation gone."""
    plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    without_code = _FENCE.sub("", text_of(page))
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target in (one or other for one, other in _LINK.findall(_FENCE.sub("", text_of(page)))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        is_there = path.is_file() or (path.is_dir() and not heading)
        if not is_there or (heading and heading not in anchors(path)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_files_named_in_text_are_there(page: Path) -> None:
    missing = [name for name in _BACKTICKED_FILE.findall(text_of(page)) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_no_page_says_what_it_must_not(page: Path) -> None:
    assert _FORBIDDEN.findall(text_of(page)) == []


def test_the_tree_names_every_module_and_no_other() -> None:
    block = next(body for body in blocks(ROOT / "docs" / "architecture.md", "text") if body.startswith("src/dermask/"))
    named, folder = [], ""
    for line in block.splitlines()[1:]:
        name, remark = re.fullmatch(r" +(\S+) {2,}(\S.*)", line).groups()
        assert remark
        indent = len(line) - len(line.lstrip())
        if name.endswith("/"):
            folder = name
            assert indent == 2
            assert (PACKAGE / folder / "__init__.py").is_file() or not list((PACKAGE / folder).glob("*.py")), folder
        else:
            named.append((folder if indent == 4 else "") + name)
    modules = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent == PACKAGE
    ]
    assert len(named) == len(set(named))
    assert {name for name in named if name.endswith(".py")} == set(modules)
    assert all((PACKAGE / name).is_file() for name in named)


def commands_in(script: str) -> list[list[str]]:
    """The arguments of each `dermask` command of a shell script, without what runs it and where its output goes."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words, command = [*lexer, ";"], []
        for word in words:
            if word not in _SEPARATORS:
                command.append(word)
                continue
            arguments = _dermask_arguments(command)
            if arguments is not None:
                found.append(arguments)
            command = []
    return found


def _dermask_arguments(words: list[str]) -> list[str] | None:
    for index, word in enumerate(words):
        is_module = index > 0 and words[index - 1] == "-m"
        before = words[: index - 1] if is_module else words[:index]
        runs_it = all(part == "run" or part.startswith("-") or part in ("uv", "python", "torchrun") or "=" in part
                      or part.isdigit() for part in before)  # fmt: skip
        if word == "dermask" and runs_it:
            return words[index + 1 :]
    return None


def test_commands_are_found_in_scripts() -> None:
    script = "A=1 uv run dermask demo\nfind . | dermask predict - -o out > log  # dermask x\ncd dermask && \\\n ls\n"
    assert commands_in(script) == [["demo"], ["predict", "-", "-o", "out"]]
    assert commands_in("torchrun --nproc-per-node 4 -m dermask train --data x") == [["train", "--data", "x"]]
    assert commands_in("pip install dermask") == []


QUOTED = [
    pytest.param(arguments, id=f"{page.relative_to(ROOT).as_posix()}: {' '.join(arguments)}")
    for page in PAGES
    for script in blocks(page, "sh")
    for arguments in commands_in(script)
]


@pytest.mark.parametrize("arguments", QUOTED)
def test_quoted_commands_parse(arguments: list[str]) -> None:
    command, names, rest = get_command(app), ["dermask"], list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        assert names[-1] in command.commands, f"{' '.join(names)} is no command"
        command = command.commands[names[-1]]
    if {"--help", "--version"} & set(rest):
        return
    context = command.make_context(" ".join(names), rest)  # raises for what is unknown or missing
    assignments = parse_assignments(context.params.get("assign"))
    config.override(config.RunSettings(), assignments)
    if name := context.params.get("preset"):
        config.preset(name)


def test_every_command_is_shown_in_some_page() -> None:
    shown = {tuple(param.values[0][:2]) for param in QUOTED}
    for name, command in get_command(app).commands.items():
        if not hasattr(command, "commands"):
            assert any(words[0] == name for words in shown), name
            continue
        for inner in command.commands:
            assert (name, inner) in shown


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_python_examples_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        compile(tree, str(page), "exec")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dermask":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dermask":
                assert hasattr(dermask, node.attr), f"dermask.{node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_dotted_names_of_ours_exist(page: Path) -> None:
    missing = []
    for name in re.findall(r"`((?:dermask|model|train|augment)\.[\w.]+)`", text_of(page)):
        head, *parts = name.split(".")
        if not _resolves(head, parts):
            missing.append(name)
    assert not missing


def _resolves(head: str, parts: list[str]) -> bool:
    if head != "dermask":
        value: object = getattr(config.RunSettings(), head)
    else:
        value = dermask
        while parts and importlib.util.find_spec(f"{value.__name__}.{parts[0]}"):
            value = importlib.import_module(f"{value.__name__}.{parts.pop(0)}")
            if not hasattr(value, "__path__"):
                break
    for part in parts:
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def test_the_page_of_settings_is_fresh() -> None:
    module = load_script("docs/write_settings.py")
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run: uv run python docs/write_settings.py"


def citation() -> dict[str, str]:
    """The top-level scalars of CITATION.cff; no YAML reader is among our dependencies."""
    pairs = (line.partition(":") for line in text_of(ROOT / "CITATION.cff").splitlines() if re.match(r"[a-z]", line))
    return {key: value.strip().strip('"') for key, _, value in pairs}


def test_the_citation_is_complete_and_of_this_version() -> None:
    text, found = text_of(ROOT / "CITATION.cff"), citation()
    assert {"cff-version", "message", "title", "authors"} <= found.keys()  # what the format requires
    assert found["cff-version"] == "1.2.0"
    assert found["version"] == dermask.__version__
    assert found["license"] == "Apache-2.0"
    assert "\t" not in text
    assert re.search(r"^authors:\n  - name: \S", text, re.MULTILINE)


def test_the_changelog_knows_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert dermask.__version__ in headings
