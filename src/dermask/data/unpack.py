"""Unpack a ZIP archive of photographs or masks that nobody here has written, whole or not at all.

Everything is judged before anything is written: names that leave their folder, links and devices, two entries of one
name, entries that share bytes, encryption, absurd counts and sizes. What headers claim is checked again while bytes
come out. Files go into a hidden folder beside the target, which takes the target's name when it is complete; what an
interrupted run has left there is kept where size and CRC agree with the archive.

Memory stays flat: one entry at a time, in pieces of `_PIECE` bytes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dermask import files, images
from dermask.errors import InputError, OutputExistsError

MARK = ".dermask-unpacked"
"""A file in an unpacked folder that says from what it came; it arrives with the folder's name, so it is never early."""

_PIECE = 2**20
_KEPT_SUFFIXES = images.SUFFIXES | {".csv", ".txt", ".md"}  # photographs, masks, tables, licences
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound on memory
_LOCAL_HEADER = 30  # bytes before an entry's name
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_REFETCH = "remove it and fetch it again"
_HOSTILE = "do not use this archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may ask for.

    Attributes:
        entries: Entries; the largest official archive has about 4,000.
        directory_bytes: Bytes of its table of contents, and of anything else that is read in one go.
        total_bytes: Bytes of all files unpacked; the largest official archive has about 11 GB.
        ratio: Bytes out for each byte in, of one entry or of all, once they pass `ratio_from`. Photographs and masks
            are compressed already, so the official archives stay below 10.
        ratio_from: Bytes up to which the ratio does not matter.
    """

    entries: int = 50_000
    directory_bytes: int = 8 * 2**20
    total_bytes: int = 64 * 2**30
    ratio: float = 200.0
    ratio_from: int = 2**20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked.

    Attributes:
        folder: Where it lies.
        files: Files in it.
        images: How many of them are photographs or masks.
        left_out: Entries that were not wanted: superpixels, system files, anything that is no image, table or text.
    """

    folder: Path
    files: int
    images: int
    left_out: int


@dataclass(frozen=True, slots=True)
class _Member:
    info: zipfile.ZipInfo
    path: PurePosixPath  # inside the target folder


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    origin: Mapping[str, object] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Unpack the images, tables and licences of an archive into a new folder.

    The folders above the images inside the archive are dropped, so that the images lie in `folder` itself.

    Args:
        archive: A ZIP file, plain or ZIP64, stored or deflated.
        folder: The folder to make; stands complete or not at all.
        limits: What the archive may ask for; None for the defaults.
        origin: What to note in the folder about where the archive is from, as JSON.
        on_progress: Told bytes done and bytes in all.

    Raises:
        OutputExistsError: `folder` is there already.
        InputError: The archive is damaged, encrypted, hostile or holds no image; or the disk is full or read-only.
            Says which entry.
    """
    limits = limits or Limits()
    if folder.exists() or folder.is_symlink():
        raise OutputExistsError(str(folder), "already exists", "move it away to have it unpacked again")
    with _opened(archive, limits) as bundle:
        members, left_out = _judge(bundle, archive, limits)
        _check_room(members, folder, archive)
        temporary = folder.parent / f".{folder.name}.unpacking"
        _extract_all(bundle, members, temporary, archive, limits, on_progress)
    image_count = sum(member.path.suffix.lower() in images.SUFFIXES for member in members)
    result = Unpacked(folder, len(members), image_count, left_out)
    _finish(temporary, result, {"archive": archive.name, **(origin or {})}, members)
    return result


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What `unpack` noted in a folder; None where there is no note that can be read."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


class _BoundedFile(io.BufferedReader):
    """A file that never gives more than `limit` bytes at once, however large a size the archive claims."""

    limit = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.limit:
            raise zipfile.BadZipFile(f"it asks for {size:,} bytes at once")
        return super().read(size)


@contextlib.contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    try:
        raw = io.FileIO(archive)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(archive), f"cannot be read: {reason}", "check the path") from None
    with _BoundedFile(raw) as file:
        file.limit = max(limits.directory_bytes, _PIECE)
        with _reading(str(archive)):
            bundle = zipfile.ZipFile(file)
        with bundle:
            yield bundle


@contextlib.contextmanager
def _reading(item: str) -> Iterator[None]:
    """Turn what reading a damaged archive can raise into one line."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError, OverflowError) as error:
        raise InputError(item, f"is damaged or cut off: {error}", _REFETCH) from None
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(item, f"cannot be unpacked here: {error}", "pack it again as a plain ZIP") from None
    except Exception as error:
        if type(error).__module__ != "struct":
            raise
        raise InputError(item, f"is damaged or cut off: {error}", _REFETCH) from None


# Judging


def _judge(bundle: zipfile.ZipFile, archive: Path, limits: Limits) -> tuple[list[_Member], int]:
    """The entries to unpack, each where it goes, and how many others there are."""
    entries = bundle.infolist()
    if len(entries) > limits.entries:
        problem = f"holds {len(entries):,} entries, more than the {limits.entries:,} that are unpacked"
        raise InputError(str(archive), problem, _HOSTILE)
    _check_overlaps(entries, bundle, archive)
    paths = [(info, _safe_path(info, archive)) for info in entries]
    file_paths = [(info, path) for info, path in paths if not info.is_dir()]
    wanted = [(info, path) for info, path in file_paths if _is_wanted(path)]
    for info, path in wanted:
        _check_spelling(info, path, archive)
    _check_names([path for _, path in wanted], archive)
    members = [_Member(info, path) for info, path in _without_top(wanted, archive)]
    _check_names([member.path for member in members], archive)
    for member in members:
        _check_kind(member.info, archive)
    _check_sizes(members, archive, limits)
    return members, len(file_paths) - len(members)


def _item(archive: Path, info: zipfile.ZipInfo) -> str:
    return f"{archive}: entry {info.orig_filename[:200]!r}"


def _safe_path(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The entry's name if it stays in its folder and is that of a file or folder."""
    item, name = _item(archive, info), info.orig_filename
    if info.is_dir() and not PurePosixPath(name).parts:
        return PurePosixPath()  # "./", the folder itself
    try:
        files.safe_join(Path(), name)
    except InputError as error:
        raise InputError(item, error.problem, _HOSTILE) from None
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "link" if kind == stat.S_IFLNK else "device or pipe"
        raise InputError(item, f"is a {what}, not a file", _HOSTILE)
    return PurePosixPath(name.replace("\\", "/"))


def _check_spelling(info: zipfile.ZipInfo, path: PurePosixPath, archive: Path) -> None:
    """No part of the name means something else on another system."""
    for part in path.parts:
        if ":" in part or any(ord(character) < 32 for character in part):
            raise InputError(_item(archive, info), "holds a colon or control character", _HOSTILE)
        if part.split(".")[0].strip().casefold() in _DEVICES:
            raise InputError(_item(archive, info), f"names the device {part}", _HOSTILE)


def _check_overlaps(entries: list[zipfile.ZipInfo], bundle: zipfile.ZipFile, archive: Path) -> None:
    """No two entries share bytes, as the entries of some bombs do, and none reaches into the table of contents."""
    ordered = sorted(entries, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in ordered[1:]] + [bundle.start_dir]
    for info, end in zip(ordered, ends, strict=False):  # no entries leave one end too many
        # At least these bytes are its own: names in the header and in the table of contents are of one length.
        own = _LOCAL_HEADER + len(info.orig_filename) + info.compress_size
        if info.header_offset < 0 or info.header_offset + own > end:
            raise InputError(_item(archive, info), "shares bytes with another entry", _HOSTILE)


def _check_names(paths: list[PurePosixPath], archive: Path) -> None:
    """No two files have one name, also where upper and lower case are the same, and none is a folder of another."""
    seen: dict[str, PurePosixPath] = {}
    for path in paths:
        key = _folded(path)
        if key in seen:
            problem = f"holds {str(seen[key])[:200]!r} and {str(path)[:200]!r}, which are one file on some systems"
            raise InputError(str(archive), problem, _HOSTILE)
        seen[key] = path
    for path in paths:
        for parent in path.parents:
            if _folded(parent) in seen:
                raise InputError(str(archive), f"holds {str(parent)[:200]!r} both as a file and a folder", _HOSTILE)


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _is_wanted(path: PurePosixPath) -> bool:
    is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    is_superpixels = path.stem.lower().endswith("_superpixels")
    return path.suffix.lower() in _KEPT_SUFFIXES and not is_hidden and not is_superpixels


def _without_top(
    wanted: list[tuple[zipfile.ZipInfo, PurePosixPath]], archive: Path
) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The entries without the folders that all images lie in; a table or text outside of these comes to the top."""
    parents = [path.parent.parts for _, path in wanted if path.suffix.lower() in images.SUFFIXES]
    if not parents:
        raise InputError(str(archive), "holds no photographs or masks", "check that it is the right archive")
    shared = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parents, strict=False))
    top = PurePosixPath(*(level[0] for level in shared))
    for info, path in wanted:
        yield info, path.relative_to(top) if path.is_relative_to(top) else PurePosixPath(path.name)


def _check_kind(info: zipfile.ZipInfo, archive: Path) -> None:
    if info.flag_bits & 0x1 or info.flag_bits & 0x40:
        raise InputError(_item(archive, info), "is encrypted", "unpack it by hand with its password")
    if info.compress_type not in _METHODS:
        name = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
        problem = f"is compressed by {name}, and only stored and deflated entries are read"
        raise InputError(_item(archive, info), problem, "pack the archive again as a plain ZIP")


def _check_sizes(members: list[_Member], archive: Path, limits: Limits) -> None:
    total = sum(member.info.file_size for member in members)
    if total > limits.total_bytes:
        problem = f"would unpack to {_size(total)}, more than the {_size(limits.total_bytes)} allowed"
        raise InputError(str(archive), problem, _HOSTILE)
    packed = sum(member.info.compress_size for member in members)
    if total > limits.ratio_from and total > limits.ratio * packed:
        problem = f"would unpack to {_size(total)} from {_size(packed)}, as no photographs do"
        raise InputError(str(archive), problem, _HOSTILE)


def _check_room(members: list[_Member], folder: Path, archive: Path) -> None:
    files.make_folder(folder.parent)
    needed = sum(member.info.file_size for member in members)
    temporary = folder.parent / f".{folder.name}.unpacking"
    needed -= sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file()) if temporary.is_dir() else 0
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        problem = f"needs {_size(needed)} to unpack {archive.name}, and {_size(free)} are free"
        raise InputError(str(folder.parent), problem, "make room, then run the same command again")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


# Writing


def _extract_all(
    bundle: zipfile.ZipFile,
    members: list[_Member],
    temporary: Path,
    archive: Path,
    limits: Limits,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    total, done = sum(member.info.file_size for member in members), 0
    for member in members:
        target = temporary / member.path
        if not _stands(target, member.info):
            _extract(bundle, member.info, target, archive, limits)
        done += member.info.file_size
        if on_progress is not None:
            on_progress(done, total)


def _stands(target: Path, info: zipfile.ZipInfo) -> bool:
    """Whether an earlier run has written this file whole."""
    if target.is_symlink() or not target.is_file() or target.stat().st_size != info.file_size:
        return False
    crc = 0
    with target.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc == info.CRC


def _extract(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, archive: Path, limits: Limits) -> None:
    item, count = _item(archive, info), 0
    most = max(limits.ratio_from, int(limits.ratio * info.compress_size))
    with _reading(item):
        source = bundle.open(info)
    with source, _writing(target) as file:
        while piece := _next_piece(source, item):
            count += len(piece)
            if count > info.file_size:
                raise InputError(item, f"holds more than the {info.file_size:,} bytes it claims", _HOSTILE)
            if count > most:
                raise InputError(item, f"unpacks to more than {limits.ratio:.0f} times its size", _HOSTILE)
            file.write(piece)
    if count != info.file_size:
        raise InputError(item, f"holds {count:,} bytes and claims {info.file_size:,}", _REFETCH)


def _next_piece(source: IO[bytes], item: str) -> bytes:
    with _reading(item):
        return source.read(_PIECE)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[IO[bytes]]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # what stands there may be a link
        with target.open("xb") as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(target), f"cannot be written: {reason}", "make room, then run the same again") from None


def _finish(temporary: Path, result: Unpacked, origin: Mapping[str, object], members: list[_Member]) -> None:
    """Leave nothing else in the folder, write the note, and give it its name."""
    expected = {temporary / member.path for member in members}
    note = {**origin, "files": result.files, "images": result.images, "date": datetime.now(UTC).date().isoformat()}
    try:
        for path in temporary.rglob("*"):
            if path not in expected and not path.is_dir():
                path.unlink()
        files.write_text(temporary / MARK, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
        if hasattr(os, "sync"):
            os.sync()  # the name must not come before the content is on the disk
        temporary.rename(result.folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(result.folder), f"cannot be made: {reason}", "choose another place") from None
