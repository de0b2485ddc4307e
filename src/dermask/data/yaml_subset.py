"""The part of YAML that `data.yaml` files of YOLO data sets use; anything else is refused by name and line.

Read: one level of ``key: value`` with plain, quoted and block (``|``, ``>``) text; below a key a block list, a block
mapping, or a flow list or mapping of plain or quoted text, also over several lines; comments; one leading ``---``.
Not read: anchors, aliases, tags, tabs as indentation, deeper nesting, several documents. All values stay text, so that
a class called ``no`` or ``1.0`` keeps its name.

Source: YAML 1.2.2, https://yaml.org/spec/1.2.2/; data.yaml files of Ultralytics, Roboflow and CVAT.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from dermask.data.checks import show
from dermask.errors import LabelError

Value = str | list[str] | dict[str, str]

MAX_BYTES = 200_000
"""A table of classes and three paths is small; more is another file."""

_BLOCK_TEXT = re.compile(r"[|>][+-]?\d?")
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'"
_PLAIN = r"[^,\[\]{}\"'\s][^,\[\]{}]*"
_FLOW_ENTRY = re.compile(rf"\s*(?P<item>(?:(?:{_QUOTED}|[^,\[\]{{}}\"'\s:]+)\s*:\s+)?(?:{_QUOTED}|{_PLAIN}))\s*")


def read_yaml(path: Path) -> dict[str, Value]:
    """The keys and values of a small YAML file.

    Raises:
        LabelError: The file cannot be read, is not YAML, or uses more of it than is read here: says where.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise LabelError(str(path), f"has {len(data):,} bytes, too many for a data.yaml", "name the right file")
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise LabelError(str(path), "no such file", "check the path") from None
    except UnicodeDecodeError as error:
        raise LabelError(str(path), f"cannot be read as text: {error}", "save it as UTF-8") from None
    except OSError as error:
        raise LabelError(str(path), f"cannot be read: {error.strerror or error}", "check its permissions") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, item: str) -> dict[str, Value]:
    """As `read_yaml`, from text; `item` names it in messages."""
    return _Parser(text, item).parse()


class _Parser:
    """Goes through the lines once; `number` is the line that comes next, from 0."""

    def __init__(self, text: str, item: str) -> None:
        self.lines = re.split(r"\r\n|\r|\n", text)
        self.item = item
        self.number = 0

    def parse(self) -> dict[str, Value]:
        tree: dict[str, Value] = {}
        is_first = True
        while (line := self._next_line()) is not None:
            if is_first and line == "---":
                is_first = False
                continue
            is_first = False
            if line == "..." and self._peek() is None:
                break
            if line[0] == " ":
                raise self._error(f"{show(line)} is indented below nothing")
            key, rest = self._key(line)
            if key in tree:
                raise self._error(f"key {show(key)} appears twice")
            tree[key] = self._value(rest)
        return tree

    def _peek(self) -> str | None:
        """The next line that is neither empty nor a comment, without its comment."""
        while self.number < len(self.lines):
            line = _strip_comment(self.lines[self.number])
            if line:
                if "\t" in line[: len(line) - len(line.lstrip())]:
                    self.number += 1
                    raise self._error("a tab indents the line")
                return line
            self.number += 1
        return None

    def _next_line(self) -> str | None:
        line = self._peek()
        if line is not None:
            self.number += 1
        return line

    def _key(self, line: str) -> tuple[str, str]:
        """Key and the text behind its colon."""
        line = line.strip()
        found = _split_key(line)
        if found is None:
            raise self._error(f"{show(line)} is not 'key: value'")
        return self._scalar(found[0]), found[1]

    def _value(self, rest: str) -> Value:
        if not rest:
            return self._block()
        if _BLOCK_TEXT.fullmatch(rest):
            return self._block_text()
        if rest[0] in "[{":
            return self._flow(rest)
        return self._scalar(rest)

    def _block(self) -> Value:
        """The list or mapping below a key, or empty text where nothing stands there."""
        line = self._peek()
        if line is None:
            return ""
        indent = _indent(line)
        if line.lstrip().startswith(("- ", "-")) and line.lstrip()[1:2] in ("", " "):
            return self._block_list(indent)
        if indent == 0:
            return ""
        entries: dict[str, str] = {}
        while (line := self._peek()) is not None and _indent(line) > 0:
            self.number += 1
            if _indent(line) != indent:
                raise self._error("is indented unlike the line above")
            key, rest = self._key(line)
            if key in entries:
                raise self._error(f"key {show(key)} appears twice")
            entries[key] = self._inner(rest)
        return entries

    def _block_list(self, indent: int) -> list[str]:
        entries = []
        while (line := self._peek()) is not None and _indent(line) >= indent:
            content = line.lstrip()
            if indent == 0 and not (content == "-" or content.startswith("- ")):
                break
            self.number += 1
            if _indent(line) != indent or not (content == "-" or content.startswith("- ")):
                raise self._error("is indented unlike the list above")
            entries.append(self._inner(content[1:].strip()))
        return entries

    def _inner(self, text: str) -> str:
        if text[:1] in ("[", "{") or _BLOCK_TEXT.fullmatch(text) or _split_key(text) is not None:
            raise self._error(f"{show(text)} is nested more deeply than dermask reads")
        return self._scalar(text)

    def _block_text(self) -> str:
        lines = []
        while self.number < len(self.lines):
            line = self.lines[self.number]
            if line.strip() and line[0] not in " \t":
                break
            lines.append(line.strip())
            self.number += 1
        return "\n".join(lines).strip()

    def _flow(self, text: str) -> Value:
        close = "]" if text[0] == "[" else "}"
        while text[-1] != close:
            line = self._next_line()
            if line is None or (line[0] not in " ]}"):
                raise self._error(f"{show(text)} is not closed")
            text += " " + line.strip()
        items = self._flow_items(text[1:-1])
        if close == "]":
            return [self._scalar(item) for item in items]
        pairs: dict[str, str] = {}
        for item in items:
            key, rest = self._key(item)
            if key in pairs:
                raise self._error(f"key {show(key)} appears twice")
            pairs[key] = self._scalar(rest)
        return pairs

    def _flow_items(self, body: str) -> list[str]:
        items, position = [], 0
        while position < len(body):
            match = _FLOW_ENTRY.match(body, position)
            if match is None or (match.end() < len(body) and body[match.end()] != ","):
                if not body[position:].strip():
                    break  # a comma behind the last entry
                raise self._error(f"{show(body[position:].strip())} is nested or quoted unlike what dermask reads")
            items.append(match["item"].strip())
            position = match.end() + 1
        return items

    def _scalar(self, text: str) -> str:
        if text[:1] == '"':
            return self._double_quoted(text)
        if text[:1] == "'":
            if not re.fullmatch(r"'(?:[^']|'')*'", text):
                raise self._error(f"{show(text)} has a stray quote")
            return text[1:-1].replace("''", "'")
        if text[:1] in ("&", "*", "!", "%", "@", "`", "[", "]", "{", "}", ",", "|", ">"):
            raise self._error(f"{show(text)} uses YAML that dermask does not read")
        return "" if text in ("~", "null") else text

    def _double_quoted(self, text: str) -> str:
        try:
            value = json.loads(text)  # the escapes that JSON has mean the same in YAML
        except ValueError:
            value = None
        if not isinstance(value, str):
            raise self._error(f"{show(text)} has a stray quote or an escape that dermask does not read")
        return value

    def _error(self, problem: str) -> LabelError:
        return LabelError(f"{self.item}: line {self.number}", problem, "write plain 'key: value' lines and lists")


def _split_key(text: str) -> tuple[str, str] | None:
    """Key and value of ``key: value``, both as written; None where it is none."""
    if text[:1] in ('"', "'"):
        quoted = re.match(_QUOTED, text)
        if quoted is None or not (behind := text[quoted.end() :].lstrip()).startswith(":"):
            return None
        return (quoted[0], behind[1:].strip()) if behind[1:2] in ("", " ") else None
    if text[:1] in ("", "?", ":", ",", "[", "]", "{", "}", "#") or text == "-" or text.startswith("- "):
        return None
    key, colon, value = text.partition(": ")
    if colon:
        return key.rstrip(), value.strip()
    return (text[:-1].rstrip(), "") if text.endswith(":") else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _strip_comment(line: str) -> str:
    """Without a comment and trailing blanks; `#` counts at the start and behind a blank, outside of quotes."""
    quote = ""
    index = 0
    while index < len(line):
        char = line[index]
        if quote == '"' and char == "\\":
            index += 1
        elif quote:
            if char == quote == "'" and line[index + 1 : index + 2] == "'":
                index += 1  # a doubled quote is a quote in the text
            else:
                quote = "" if char == quote else quote
        elif char in "\"'" and (index == 0 or line[index - 1] in " [{,:-"):
            quote = char
        elif char == "#" and (index == 0 or line[index - 1] in " \t"):
            return line[:index].rstrip()
        index += 1
    return line.rstrip()
