"""Write files whole or not at all, read back what a run wrote, keep names from label files inside their folder.

A file is written under a temporary name in the folder where it belongs and then renamed, so a reader, or a run killed
at any moment, meets either the old file or the new one and never half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from dermask.errors import InputError


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Replace the file at `path` by `data` in one step; makes the folder if there is none.

    Args:
        path: Where to write. A file that stands there is replaced, with the permissions a new file gets.
        data: The whole content.

    Raises:
        InputError: The folder cannot be made or written to, or the disk is full; what stood there is untouched.
    """
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, with UTF-8 text; line ends stay as they are in `text`.

    What UTF-8 cannot say, such as file names that are not valid in it, is written as JSON escapes it: ``\\udcff``.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: Path, *, temporary: Path | None = None) -> Iterator[Path]:
    """Where to write what then takes the name `path`; makes the folder if there is none.

    Args:
        path: The file to replace or make, once the block has ended without an error.
        temporary: Where to write until then, in the same folder; a fixed name leaves at most one file behind when the
            process is killed. None makes one up.

    Raises:
        InputError: As `write_bytes`, also for an `OSError` of the block; what stood there is untouched.
    """
    # Short, so that a long name does not pass the file system's limit; hidden, so that listings leave it out.
    temporary = temporary or path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        make_folder(path.parent)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the name must not move to the new content before the content is on the disk
        temporary.replace(path)
    except OSError as error:
        _remove_quietly(temporary)
        reason = error.strerror or str(error)
        raise InputError(str(path), f"cannot be written: {reason}", "choose another place or make room") from None
    except BaseException:
        _remove_quietly(temporary)  # Ctrl-C leaves nothing behind
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that is there stays as it is.

    Raises:
        InputError: It cannot be made, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file has this name" if path.is_file() else error.strerror or str(error)
        raise InputError(str(path), f"no folder can be made here: {reason}", "choose another place") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object that a run wrote, such as environment.json; empty where there is no such file.

    Raises:
        InputError: It cannot be read, or is not a JSON object any more.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(str(path), "is not as the run wrote it", "restore it, or remove it")
    return content


def safe_join(root: Path, name: str) -> Path:
    """The path of `name` below `root`, for names that come from files of others.

    The check is on the name alone: links that stand in the folder were put there by its owner and are followed.

    Args:
        root: The folder that must not be left.
        name: A relative name; both kinds of slash count as separators when it is checked.

    Raises:
        InputError: The name is empty, absolute, holds ``..`` or a NUL; says which.
    """
    windows = PureWindowsPath(name)  # splits at / and \, and knows drives
    if not PurePosixPath(name).parts or not windows.parts:
        problem = "is empty"
    elif "\0" in name:
        problem = "holds a NUL character"
    elif windows.drive or windows.root:
        problem = "is an absolute path"
    elif ".." in windows.parts:
        problem = "leaves its folder through '..'"
    else:
        return root / name
    raise InputError(f"file name {name!r}", problem, f"use a name relative to {root}")


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):  # the error that brought us here tells more
        path.unlink(missing_ok=True)
