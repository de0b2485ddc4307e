"""Fetch one large file over HTTP so that a break costs nothing: what has arrived stays and is gone on from.

Bytes go into a `.part` file; beside it a small JSON file keeps what tells whether the server still has the same file
(ETag or Last-Modified). A new attempt asks for the rest with Range and If-Range (RFC 9110, sections 13.1.5 and 14). A
server that has another file by now, or that ignores ranges, sends everything, and the file is begun again.

MD5 and SHA-256 are computed as bytes arrive, over what an earlier run has left as well.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.response import addinfourl

import dermask
from dermask import files
from dermask.data.http_answers import (
    BrokenError,
    ElsewhereError,
    connection_error,
    make_opener,
    retry_after,
    validators_of,
    whole_number,
)
from dermask.errors import InputError

_PIECE = 2**18
_AGAIN = "run the same command again to go on from there"
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_ELSEWHERE_STATUS = {401, 403, 404, 410}  # a bucket answers 403 for what it does not have
_REDIRECT_STATUS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a download waits, and how often it tries.

    Attributes:
        timeout: Seconds without an answer or a byte after which a connection counts as broken.
        slow_seconds: Seconds in which at least `slow_bytes` must arrive; a server that drips counts as broken.
        slow_bytes: See `slow_seconds`.
        attempts: Attempts in a row that bring nothing new, after which it gives up.
        first_wait: Seconds before the second attempt; each further wait doubles, up to `longest_wait`.
        longest_wait: Seconds.
    """

    timeout: float = 30.0
    slow_seconds: float = 60.0
    slow_bytes: int = 2**16
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived.

    Attributes:
        path: The `.part` file, complete.
        size: Bytes.
        md5: Hexadecimal.
        sha256: Hexadecimal.
        url: Where it came from, after redirects.
        was_resumed: Whether bytes of an earlier run or connection are in it.
    """

    path: Path
    size: int
    md5: str
    sha256: str
    url: str
    was_resumed: bool


def fetch(
    urls: Sequence[str],
    part: Path,
    *,
    most_bytes: int,
    patience: Patience | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_wait: Callable[[str, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetch a file into `part`, going on with what is there.

    Args:
        urls: Where it lies; the next is tried when a server says that it does not have it.
        part: Where to write. Left as it is on an error or Ctrl-C, so that the next call goes on with it.
        most_bytes: More than this is never written.
        patience: None for the defaults.
        on_progress: Told bytes that are there and bytes in all, None if the server does not say.
        on_wait: Told before each further attempt what went wrong, and seconds until it.
        sleep: How to wait.

    Raises:
        InputError: No server has it, the connection breaks again and again, a certificate is not valid, the file is
            larger than `most_bytes` or is a web page, the disk is full, or another process writes `part`.
    """
    patience = patience or Patience()
    files.make_folder(part.parent)
    try:
        file = part.open("r+b" if part.exists() else "x+b", buffering=0)
    except OSError as error:
        raise _write_error(part, error) from None
    with file:
        _lock(file, part)
        transfer = _Transfer(file, part, most_bytes, patience, on_progress or (lambda done, total: None))
        transfer.take_up()

        def wait(problem: str, seconds: float) -> None:
            if on_wait is not None:
                on_wait(problem, seconds)
            sleep(seconds)

        url = _fetch_from_any(transfer, urls, patience, wait)
        result = Fetched(
            part, transfer.done, transfer.md5.hexdigest(), transfer.sha256.hexdigest(), url, transfer.was_resumed
        )
    notes_of(part).unlink(missing_ok=True)
    return result


def notes_of(part: Path) -> Path:
    """The file that keeps what the server said about `part`."""
    return part.with_name(part.name + ".json")


def _fetch_from_any(
    transfer: _Transfer, urls: Sequence[str], patience: Patience, wait: Callable[[str, float], None]
) -> str:
    problems, has_broken = [], False
    for url in urls:
        try:
            return _fetch_patiently(transfer, url, patience, wait)
        except ElsewhereError as error:
            problems.append(f"{url} {error}")
        except BrokenError as error:
            has_broken = True
            problems.append(f"{url}: {error}, after {patience.attempts} attempts in a row that brought nothing new")
    cure = "name another place with --source, or try again later"
    if has_broken:
        cure = f"with {transfer.done:,} bytes here, {_AGAIN}, or name another place with --source"
    raise InputError(urls[0].rpartition("/")[2], "; ".join(problems), cure)


def _fetch_patiently(transfer: _Transfer, url: str, patience: Patience, wait: Callable[[str, float], None]) -> str:
    attempts, furthest = 0, transfer.done
    while True:
        try:
            return transfer.attempt(url)
        except BrokenError as error:
            attempts = 1 if transfer.done > furthest else attempts + 1
            furthest = max(furthest, transfer.done)
            if attempts >= patience.attempts:
                raise
            seconds = patience.first_wait * 2 ** (attempts - 1) if error.wait is None else error.wait
            wait(str(error), min(seconds, patience.longest_wait))


class _Transfer:
    """One file on its way: how much of it is here, its sums, and what the server said about it."""

    def __init__(
        self,
        file: IO[bytes],
        part: Path,
        most_bytes: int,
        patience: Patience,
        on_progress: Callable[[int, int | None], None],
    ) -> None:
        self.file = file
        self.part = part
        self.done = 0
        self.was_resumed = False
        self._most_bytes = most_bytes
        self._patience = patience
        self._on_progress = on_progress
        self._opener = make_opener()
        self._was_asked_for_rest = False
        self._validators = _read_notes(part)
        self._restart_sums()

    def take_up(self) -> None:
        """Read what an earlier run has left, for the sums."""
        while piece := self.file.read(_PIECE):
            self._add_to_sums(piece)
            self._on_progress(self.done, None)
        if self.done > self._most_bytes:
            self._begin_again()

    def attempt(self, url: str) -> str:
        """Ask for what is missing and take what comes.

        Returns:
            Where the complete file came from.

        Raises:
            BrokenError: There may be more to get from this server.
            ElsewhereError: This server does not have it.
            InputError: Trying again does not help.
        """
        request = urllib.request.Request(url, headers=self._headers())
        self._was_asked_for_rest = request.has_header("Range")
        try:
            response = self._opener.open(request, timeout=self._patience.timeout)
        except urllib.error.HTTPError as error:
            with error:
                return self._after_refusal(error, url)
        except urllib.error.URLError as error:
            raise connection_error(url, error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise connection_error(url, error) from None
        with response:
            total = self._agree(response, url)
            self._receive(response, total, url)
            return str(response.url)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"dermask/{dermask.__version__}", "Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
            validator = self._validators.get("etag") or self._validators.get("last_modified")
            if validator:
                headers["If-Range"] = str(validator)
        return headers

    def _after_refusal(self, error: urllib.error.HTTPError, url: str) -> str:
        said = f"answered {error.code} {error.reason}".rstrip()
        if error.code == 416:
            total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
            if total and int(total[1]) == self.done and self._is_same_file(error.headers):
                self.was_resumed = True
                return str(error.url)
            self._begin_again()
            raise BrokenError(f"the server has no bytes from {self.done:,} on", 0.0)
        if error.code in _ELSEWHERE_STATUS:
            raise ElsewhereError(said)
        if error.code in _RETRY_STATUS:
            raise BrokenError(f"the server {said}", retry_after(error.headers.get("Retry-After")))
        if error.code in _REDIRECT_STATUS:
            raise InputError(url, "leads in a circle, or through more than 5 addresses", "name another with --source")
        raise InputError(url, said, "try again later, or name another place with --source")

    def _agree(self, response: addinfourl, url: str) -> int | None:
        """Check what the server is about to send against what is here; begin again where they do not fit.

        Returns:
            Bytes of the whole file; None if the server does not say.
        """
        headers = response.headers
        if (headers.get("Content-Encoding") or "identity").lower() != "identity":
            raise InputError(url, f"is sent as {headers['Content-Encoding']}, not as it is", "name another place")
        if "text/html" in (headers.get("Content-Type") or ""):
            raise InputError(url, "gives a web page, not an archive", "log in to the network, or check the proxy")
        length = whole_number(headers.get("Content-Length"))
        if response.status == 206:
            total = self._check_range(headers)
        elif response.status == 200:
            if self.done:
                self._begin_again()
            total = length
        else:
            raise InputError(url, f"answered {response.status}", "try again later")
        if max(total or 0, self.done + (length or 0)) > self._most_bytes:
            problem = f"has {total or self.done + (length or 0):,} bytes, and at most {self._most_bytes:,} are expected"
            raise InputError(url, problem, "check the address")
        self._check_room((total or self.done) - self.done)
        self._keep_validators(headers)
        return total

    def _check_range(self, headers: Any) -> int | None:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
        if not self._was_asked_for_rest or not match or int(match["first"]) != self.done:
            self._begin_again()
            raise BrokenError("the server sent another range than was asked for", 0.0)
        if not self._is_same_file(headers):
            self._begin_again()
            raise BrokenError("the file has changed on the server", 0.0)
        self.was_resumed = True
        return None if match["total"] == "*" else int(match["total"])

    def _is_same_file(self, headers: Any) -> bool:
        """Whether the validators of an answer are those of what is here, as far as both have them."""
        found = validators_of(headers)
        names = ("etag",) if "etag" in found and "etag" in self._validators else ("last_modified",)
        return all(found.get(name, known) == known for name, known in self._validators.items() if name in names)

    def _receive(self, response: addinfourl, total: int | None, url: str) -> None:
        since, arrived = time.monotonic(), 0
        while True:
            try:
                piece = response.read1(_PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise connection_error(url, error) from None
            if not piece:
                break
            if self.done + len(piece) > self._most_bytes:
                raise InputError(url, f"sends more than the {self._most_bytes:,} bytes expected", "check the address")
            self._write(piece)
            self._on_progress(self.done, total)
            arrived += len(piece)
            if time.monotonic() - since > self._patience.slow_seconds:
                if arrived < self._patience.slow_bytes:
                    raise BrokenError(f"only {arrived:,} bytes came in {self._patience.slow_seconds:g} seconds")
                since, arrived = time.monotonic(), 0
        if total is not None and self.done < total:
            raise BrokenError(f"the connection ended at {self.done:,} of {total:,} bytes")
        if total is not None and self.done > total:
            self._begin_again()
            raise BrokenError(f"the server sent more than the {total:,} bytes it had announced", 0.0)

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]  # unbuffered, so that a full disk shows here and not at the end
        except OSError as error:
            raise _write_error(self.part, error) from None
        self._add_to_sums(piece)

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if free < needed:
            problem = f"needs {needed:,} more bytes, and {free:,} are free on its disk"
            raise InputError(str(self.part), problem, f"make room, then {_AGAIN}")

    def _begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.done, self.was_resumed, self._validators = 0, False, {}
        notes_of(self.part).unlink(missing_ok=True)
        self._restart_sums()

    def _restart_sums(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)  # what the challenge's loaders compare
        self.sha256 = hashlib.sha256()

    def _add_to_sums(self, piece: bytes) -> None:
        self.md5.update(piece)
        self.sha256.update(piece)
        self.done += len(piece)

    def _keep_validators(self, headers: Any) -> None:
        found = validators_of(headers)
        if found != self._validators:
            self._validators = found
            files.write_text(notes_of(self.part), json.dumps(found) + "\n")


def _read_notes(part: Path) -> dict[str, str]:
    try:
        notes = json.loads(notes_of(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = notes.items() if isinstance(notes, dict) else ()
    return {
        name: value
        for name, value in known
        if name in ("etag", "last_modified") and isinstance(value, str) and value.isprintable()
    }


def _write_error(part: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(str(part), f"cannot be written: {reason}", f"make room or choose another place, then {_AGAIN}")


def _lock(file: IO[bytes], part: Path) -> None:
    """Keep a second process from writing the same file, where the system can."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(str(part), "is being written by another dermask", "wait until that one has ended") from None
    except OSError:
        return  # a file system without locks
