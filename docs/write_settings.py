"""Write docs/settings.md from the docstrings of src/dermask/config.py: `uv run python docs/write_settings.py`.

A test compares the page with what this script would write, so the two cannot drift apart.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from pathlib import Path

from pydantic import BaseModel

from dermask import config

PAGE = Path(__file__).parent / "settings.md"

_HEAD = """# Settings

<!-- Written by docs/write_settings.py from src/dermask/config.py; change that file and run the script again. -->

Every setting of a run, by the dotted name that `--set` takes and that stands in a run's `config.toml`. Defaults are
those of the preset `small`; the presets `{others}` change the network's, which
`dermask info --settings --preset base` prints. `none` stands for "not set".

```sh
dermask info --settings > settings.toml
dermask train --data labels.json --config settings.toml --set train.epochs=50 -o runs/first
```

The command line wins over `--preset`, that over `--config FILE`, that over the defaults. A name that does not exist or
a value out of range is an error before anything starts. Values are written as in TOML: `0.5`, `true`, `[0.5, 1.5]`, and
words without quotes. Two settings are not for `--set`: `model.preset` only records what `--preset` chose, and
`model.class_names` comes from the labels. How to train: [training.md](training.md).
"""


def render() -> str:
    """The whole page."""
    others = "`, `".join(name for name in config.MODEL_PRESETS if name != "small")
    parts = [_HEAD.format(others=others), *_sections(config.RunSettings(), ())]
    return "\n".join(parts)


def _sections(settings: BaseModel, names: tuple[str, ...]) -> list[str]:
    """This part's table, then those of the parts in it."""
    meanings = _field_docstrings(type(settings))
    rows, inner = [], []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            inner += _sections(value, (*names, name))
            continue
        meaning = " ".join(meanings.get(name, "").split()).replace("|", "\\|")
        meaning = f"{meaning} {_choices(field.annotation, meaning)}".strip()
        rows.append(f"| `{'.'.join((*names, name))}` | {_show(value)} | {meaning} |")
    if not rows:
        return inner
    title = ".".join(names)
    summary = textwrap.fill(" ".join((inspect.getdoc(type(settings)) or "").split()), 120)
    return [f"## {title}\n\n{summary}\n\n| setting | default | meaning |\n| --- | --- | --- |", *rows, "", *inner]


def _field_docstrings(kind: type[BaseModel]) -> dict[str, str]:
    """The text that stands under each field of a settings class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and is_text:
            found[statement.target.id] = str(following.value.value)
    return found


def _show(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(_show(part) for part in value)
    return str(value)


def _choices(annotation: object, meaning: str) -> str:
    """The values that may be chosen from, where there is a list of them that `meaning` does not give already."""
    options = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    if all(f"`{option}`" in meaning for option in options):
        return ""
    return f"One of {', '.join(f'`{option}`' for option in options)}."


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
