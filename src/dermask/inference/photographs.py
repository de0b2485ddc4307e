"""Which photographs a person means by paths, folders, patterns and standard input."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dermask import images
from dermask.errors import ImageError, InputError

STDIN = "-"

# In a folder these accompany photographs: labels of the ISIC challenges, and our own pictures.
COMPANION_ENDINGS = ("_segmentation", "_superpixels", "_overlay")


@dataclass(frozen=True, slots=True)
class Photo:
    """One input.

    Attributes:
        file: Its full path; for a photograph from stdin, "stdin:" and the first digits of its SHA-256.
        source: What to read it from.
    """

    file: str
    source: Path | bytes

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix."""
        return self.source.stem if isinstance(self.source, Path) else "stdin"

    def stamp(self) -> str:
        """Changes when the content changes; for files from size and time, without reading them.

        Raises:
            ImageError: No such file.
        """
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        try:
            status = self.source.stat()
        except OSError:
            raise ImageError(str(self.source), "no such file") from None
        return f"{status.st_size}-{status.st_mtime_ns}"


def collect_photographs(inputs: Iterable[str | Path], *, output: Path, stdin: bytes | None = None) -> list[Photo]:
    """The photographs that paths, folders, glob patterns and "-" stand for, each once, in order.

    Folders are searched with all their subfolders for files named like images, except hidden ones, mask and
    superpixel files of the ISIC challenges, and `output` itself. A path that does not exist is kept, so that it gets
    listed among the failures.

    Args:
        inputs: What was asked for.
        output: The folder of results.
        stdin: What came in for "-": one photograph's bytes, or a list of paths, one per line.

    Raises:
        InputError: There is no photograph at all.
    """
    found: dict[str, Photo] = {}
    for item in inputs:
        for photo in _expand(str(item), output.resolve(), stdin):
            found.setdefault(photo.file, photo)
    if not found:
        shown = ", ".join(str(item) for item in inputs)
        raise InputError(shown or "photographs", "holds no photograph", f"give files named {_suffixes()}, or a folder")
    return list(found.values())


def _expand(item: str, output: Path, stdin: bytes | None) -> Iterator[Photo]:
    if item == STDIN:
        yield from _from_stdin(stdin or b"", output)
        return
    path = Path(item)
    if os.path.isdir(path):  # noqa: PTH112 -- Path.is_dir raises where a folder above is locked
        yield from (_photo(child) for child in _photographs_in(path, output))
    elif not os.path.exists(path) and glob.has_magic(item):  # noqa: PTH110 -- as above
        matches = sorted(glob.glob(item, recursive=True))  # noqa: PTH207 -- Path.glob cannot take absolute patterns
        for match in matches:
            yield from _expand(match, output, None) if Path(match).is_dir() else [_photo(Path(match))]
        if not matches:
            yield _photo(path)  # listed as missing
    else:
        yield _photo(path)


def _from_stdin(data: bytes, output: Path) -> Iterator[Photo]:
    if b"\0" in data:  # every image file has a zero byte, and no path has
        yield Photo(f"stdin:{hashlib.sha256(data).hexdigest()[:16]}", data)
        return
    for line in data.splitlines():
        name = os.fsdecode(line.strip())
        if name and name != STDIN:
            yield from _expand(name, output, None)


def _photographs_in(folder: Path, output: Path) -> Iterator[Path]:
    locked: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: locked.append(Path(error.filename, "*"))):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != output
        )
        for name in sorted(files):
            path = Path(parent, name)
            is_companion = path.stem.lower().endswith(COMPANION_ENDINGS)
            if path.suffix.lower() in images.SUFFIXES and not is_companion and not name.startswith("."):
                yield path
    yield from locked  # not to be read either, so that they get listed among the failures


def _photo(path: Path) -> Photo:
    return Photo(str(path.resolve()), path)


def _suffixes() -> str:
    return ", ".join(f"*{suffix}" for suffix in sorted(images.SUFFIXES))
