"""From an official archive to a folder that reads: fetch or find it, check its sum, unpack it, note what was done.

A folder that stands under its official name with `unpack.MARK` in it is done; `download_record`
keeps which archives were verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dermask import files
from dermask.data.archives import LICENCES, SUMS_FROM, Archive, licence_text
from dermask.data.download import Fetched, Patience, fetch
from dermask.data.download_record import Record
from dermask.data.http_answers import check_url
from dermask.data.unpack import read_mark, unpack
from dermask.errors import InputError, OutputExistsError, SettingError

LICENCE_FILE = "LICENCE.txt"

_LICENCE_HEAD = "Terms of the data in this folder, written by dermask"
_MASKS_GROWTH = 4  # a generous guess: masks are PNG, small in any case
_SLACK = 2**28  # bytes left free on the disk
_PIECE = 2**20

OnProgress = Callable[[str, int, int | None], None]
"""Told what is being done to which archive, bytes done, and bytes in all or None."""


@dataclass(frozen=True, slots=True)
class Step:
    """What has to be done about one archive.

    Attributes:
        archive: Which.
        state: ``unpacked``: its folder is there. ``at hand``: the archive is. ``to fetch``: neither.
        path: Where the archive is, or will be.
        present: Bytes of it that are here.
    """

    archive: Archive
    state: Literal["unpacked", "at hand", "to fetch"]
    path: Path
    present: int = 0


@dataclass(frozen=True, slots=True)
class Acquired:
    """An archive that stands unpacked.

    Attributes:
        archive: Which.
        folder: Where its files lie.
        images: How many photographs or masks it gave.
        md5: Of the archive.
        sha256: Of the archive.
        checked: ``known``: its sum is the known one. ``accepted``: its sum was accepted by name.
        url: Where the archive came from: an address or a path.
        is_new: Whether it was unpacked just now.
    """

    archive: Archive
    folder: Path
    images: int
    md5: str
    sha256: str
    checked: str
    url: str
    is_new: bool


def make_plan(archives: Sequence[Archive], folder: Path, source: str | None = None) -> list[Step]:
    """What has to be done for each archive; writes nothing.

    Args:
        archives: Which.
        folder: Where the official folders go.
        source: A folder that holds the archives, or the address of a folder on a server; None for the official ones.

    Raises:
        OutputExistsError: A folder of an official name is there, and not from here.
        InputError: The source is no address and no folder, or a folder that lacks an archive.
    """
    at_hand = source_folder(source)
    steps, missing = [], []
    for archive in archives:
        target, local = folder / archive.folder, folder / archive.name
        if target.exists() or target.is_symlink():
            mark = read_mark(target)
            if mark is None or mark.get("archive") != archive.name:
                cure = "move it away, choose another -o, or leave it out with --parts and --only"
                raise OutputExistsError(str(target), "is there and was not unpacked by this command", cure)
            steps.append(Step(archive, "unpacked", local))
        elif at_hand is not None:
            places = [at_hand / archive.name, at_hand / str(archive.year) / archive.name]
            path = next((place for place in places if place.is_file()), None)
            missing += [] if path else [archive.name]
            steps.append(Step(archive, "at hand", path or places[0], path.stat().st_size if path else 0))
        else:
            steps.append(_local_step(archive, local))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(str(at_hand), f"lacks {missing[0]}{more}", "add it, or choose with --parts and --only")
    return steps


def _local_step(archive: Archive, local: Path) -> Step:
    for path in (local, _unverified(local)):
        if path.is_file():
            return Step(archive, "at hand", path, path.stat().st_size)
    part = _part(local)
    return Step(archive, "to fetch", local, part.stat().st_size if part.is_file() else 0)


def source_folder(source: str | None) -> Path | None:
    """The folder that `source` names; None if it is an address, or none is given.

    Raises:
        InputError: It is neither.
    """
    if source is None:
        return None
    if "://" in source:
        check_url(source, "--source")
        if urllib.parse.urlsplit(source).query or urllib.parse.urlsplit(source).fragment:
            raise InputError("--source", f"{source!r} has a query", "give the address of the folder alone")
        return None
    folder = Path(source)
    if not folder.is_dir():
        raise InputError("--source", f"{source!r} is neither a folder nor an https address", "check the path")
    return folder


def addresses(archive: Archive, source: str | None) -> tuple[str, ...]:
    """Where to fetch an archive: the official addresses, or the folder on a server that `source` names."""
    if source is None:
        return archive.urls
    return (f"{source.rstrip('/')}/{urllib.parse.quote(archive.name)}",)


def space_needed(steps: Sequence[Step], *, keep_archives: bool) -> int:
    """Bytes that the steps will need at most at any one time, about."""
    peak = kept = 0
    for step in steps:
        if step.state == "unpacked":
            continue
        archive = step.archive
        fetched = max(archive.size - step.present, 0) if step.state == "to fetch" else 0
        unpacked = archive.size * (_MASKS_GROWTH if archive.kind == "masks" else 1)
        peak = max(peak, kept + fetched + unpacked)
        kept += unpacked + (fetched if keep_archives else 0)
    return peak


def check_space(steps: Sequence[Step], folder: Path, *, keep_archives: bool) -> None:
    """Check that the disk has room for the steps.

    Raises:
        InputError: It has not; says how much is needed and free.
    """
    needed = space_needed(steps, keep_archives=keep_archives)
    files.make_folder(folder)
    free = shutil.disk_usage(folder).free
    if needed and free < needed + _SLACK:
        problem = f"needs about {needed / 2**30:.1f} GiB for this, and {free / 2**30:.1f} GiB are free"
        raise InputError(str(folder), problem, "make room, take fewer --parts, or choose another -o")


def acquire(
    step: Step,
    folder: Path,
    *,
    source: str | None = None,
    accepted: Collection[str] = (),
    keep_archives: bool = False,
    patience: Patience | None = None,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[str, float], None] | None = None,
) -> Acquired:
    """Bring one archive to its official folder.

    Args:
        step: From `make_plan`.
        folder: As in `make_plan`.
        source: As in `make_plan`.
        accepted: MD5 or SHA-256 sums that are good although they are not the known ones, lower case.
        keep_archives: Keep what was fetched after it was unpacked. What was here before is never removed.
        patience: Of the download.
        on_progress: See `OnProgress`.
        on_wait: As in `download.fetch`.

    Raises:
        InputError: It cannot be fetched or unpacked, or has another sum; the line says what to do.
    """
    archive, tell = step.archive, on_progress or (lambda what, done, total: None)
    target = folder / archive.folder
    if step.state == "unpacked":
        return _from_mark(archive, target, is_new=False)
    record = Record(folder)
    path = _at_hand(step, record, accepted, tell) if step.state == "at hand" else None
    if path is None:
        path = _fetch_verified(archive, folder, source, accepted, record, patience, tell, on_wait)
    entry = record.entry(archive.name)
    origin = {key: entry[key] for key in ("md5", "sha256", "checked", "url")}
    unpack(path, target, origin=origin, on_progress=lambda done, total: tell(f"unpack {archive.name}", done, total))
    if entry["fetched"] and not keep_archives:
        with contextlib.suppress(OSError):  # the data are there; a file too many does no harm
            path.unlink()
    return _from_mark(archive, target, is_new=True)


def _from_mark(archive: Archive, target: Path, *, is_new: bool) -> Acquired:
    mark = read_mark(target) or {}
    texts = {key: str(mark.get(key, "")) for key in ("md5", "sha256", "checked", "url")}
    images = mark.get("images")
    return Acquired(archive, target, images if isinstance(images, int) else 0, **texts, is_new=is_new)


# Getting archives, and judging their sums


def _at_hand(step: Step, record: Record, accepted: Collection[str], tell: OnProgress) -> Path:
    archive, path = step.archive, step.path
    if record.knows(archive.name, path):
        return path
    md5, sha256 = _sums(path, lambda done, total: tell(f"check {archive.name}", done, total))
    checked = _judge(archive, path, md5, sha256, accepted)
    was_fetched = path.suffix == ".unverified"
    if was_fetched:
        path = path.replace(path.with_suffix(""))
    record.add(archive.name, path, md5, sha256, checked, url=str(path.resolve()), fetched=was_fetched)
    return path


def _fetch_verified(
    archive: Archive,
    folder: Path,
    source: str | None,
    accepted: Collection[str],
    record: Record,
    patience: Patience | None,
    tell: OnProgress,
    on_wait: Callable[[str, float], None] | None,
) -> Path:
    local = folder / archive.name
    for _ in range(2):
        fetched = fetch(
            addresses(archive, source),
            _part(local),
            most_bytes=2 * archive.size + _SLACK,
            patience=patience,
            on_progress=lambda done, total: tell(f"fetch {archive.name}", done, total),
            on_wait=on_wait,
        )
        if not fetched.was_resumed or _is_good(archive, fetched.md5, fetched.sha256, accepted):
            break
        fetched.path.unlink()  # its pieces may not belong together: once more, from the start
    return _take(archive, fetched, local, accepted, record)


def _take(archive: Archive, fetched: Fetched, local: Path, accepted: Collection[str], record: Record) -> Path:
    """Give a fetched file its name, or set it aside where its sum is not the known one."""
    if not _is_good(archive, fetched.md5, fetched.sha256, accepted):
        aside = fetched.path.replace(_unverified(local))
        _judge(archive, aside, fetched.md5, fetched.sha256, accepted)
    checked = _judge(archive, fetched.path, fetched.md5, fetched.sha256, accepted)
    path = fetched.path.replace(local)
    record.add(archive.name, path, fetched.md5, fetched.sha256, checked, url=fetched.url, fetched=True)
    return path


def _is_good(archive: Archive, md5: str, sha256: str, accepted: Collection[str]) -> bool:
    return {"md5": md5, "sha256": sha256}[archive.checksum_kind] == archive.checksum or bool(
        {md5, sha256} & {*accepted}
    )


def _judge(archive: Archive, path: Path, md5: str, sha256: str, accepted: Collection[str]) -> str:
    """How the archive's sum is good: ``known`` or ``accepted``.

    Raises:
        InputError: It is neither; says both sums, how far the known one can be trusted, and how to go on.
    """
    found = {"md5": md5, "sha256": sha256}[archive.checksum_kind]
    if found == archive.checksum:
        return "known"
    if _is_good(archive, md5, sha256, accepted):
        return "accepted"
    kind = {"md5": "MD5", "sha256": "SHA-256"}[archive.checksum_kind]
    raise InputError(
        str(path),
        f"has the {kind} {found}, and {archive.checksum} is known for it (from {SUMS_FROM})",
        f"remove it to fetch it again, or, where you trust it, go on with --accept-checksum {found}",
    )


def check_accepted(checksums: Collection[str]) -> frozenset[str]:
    """Sums as they are compared.

    Raises:
        SettingError: One has not the form of an MD5 or SHA-256.
    """
    lowered = frozenset(checksum.strip().lower() for checksum in checksums)
    for checksum in lowered:
        if len(checksum) not in (32, 64) or set(checksum) - set("0123456789abcdef"):
            raise SettingError(
                "--accept-checksum", f"{checksum!r} is no MD5 or SHA-256", "give 32 or 64 hexadecimal digits"
            )
    return lowered


def _sums(path: Path, on_progress: Callable[[int, int | None], None]) -> tuple[str, str]:
    md5, sha256, done = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                md5.update(piece)
                sha256.update(piece)
                done += len(piece)
                on_progress(done, size)
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror or error}", "check the file") from None
    return md5.hexdigest(), sha256.hexdigest()


def _part(local: Path) -> Path:
    return local.with_name(local.name + ".part")


def _unverified(local: Path) -> Path:
    return local.with_name(local.name + ".unverified")


# Terms


def write_licence(folder: Path, year: int) -> Path:
    """Keep the terms of a year's data beside them, with those of other years that the folder has.

    Returns:
        The file: `LICENCE_FILE`, or one with the year in its name where a file of other people has that name.
    """
    path, years = folder / LICENCE_FILE, {year}
    if path.exists():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = ""
        if text.startswith(_LICENCE_HEAD):
            years |= {known for known in LICENCES if f"ISIC {known}, Task 1:" in text}
        else:
            path = folder / f"LICENCE-isic{year}.txt"
    date = datetime.now(UTC).date().isoformat()
    files.write_text(path, f"{_LICENCE_HEAD} on {date}.\n\n{licence_text(years)}\n")
    return path
