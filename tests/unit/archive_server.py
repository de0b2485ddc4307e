"""A small HTTP server on this machine that misbehaves on request, and ZIP archives for it to serve."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from dermask.data.archives import ARCHIVES, Archive


@dataclass
class Served:
    """One file of the server, and how it is served.

    Attributes:
        body: The content.
        etag: Quoted; "" for none. Changes when a test sets it.
        modified: Last-Modified; "" for none.
        cuts: For each of the first requests, bytes after which the connection ends; None to send all.
        statuses: For each of the first requests, a status to answer with instead.
        ranges: False to ignore Range and send everything.
        if_range: False to send ranges whatever If-Range says.
        length: What Content-Length claims; None for the truth.
        location: Where to redirect to; "" for nowhere.
        headers: Further headers, which win over the usual ones.
        range_shift: Added to the first byte of what is sent and announced for a range.
        hook: Called before each answer, with the number of the request.
    """

    body: bytes
    etag: str = '"one"'
    modified: str = ""
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    if_range: bool = True
    length: int | None = None
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    range_shift: int = 0
    hook: Callable[[int], None] | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        served = self.server.files.get(self.path)
        if served is None:
            self._answer(404, {}, b"no such file")
            return
        number = len(served.requests)
        served.requests.append(dict(self.headers.items()))
        if served.hook is not None:
            served.hook(number)
        if served.location:
            self._answer(302, {"Location": served.location}, b"")
        elif number < len(served.statuses) and served.statuses[number] != 200:
            self._answer(served.statuses[number], dict(served.headers), b"")
        else:
            self._send(served, number)

    def _send(self, served: Served, number: int) -> None:
        headers = {"Content-Type": "application/zip"}
        headers |= {"ETag": served.etag} if served.etag else {}
        headers |= {"Last-Modified": served.modified} if served.modified else {}
        body, status = served.body, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        validator = self.headers.get("If-Range", "")
        is_same = not served.if_range or validator in ("", served.etag, served.modified)
        if wanted and served.ranges and is_same:
            first = int(wanted[1])
            if first >= len(body):
                self._answer(416, headers | {"Content-Range": f"bytes */{len(body)}"}, b"")
                return
            first += served.range_shift
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            body, status = body[first:], 206
        cut = served.cuts[number] if number < len(served.cuts) else None
        self._answer(status, headers | dict(served.headers), body, length=served.length, cut=cut)

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, length: int | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(length or len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: dict[str, Served]) -> None:
        self.files = files
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients of these tests hang up


@contextmanager
def serving(files: dict[str, Served]) -> Iterator[str]:
    """Serve files by path (``/a.zip``) and give the server's address."""
    server = _Server(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def picture(kind: str, seed: int = 0) -> bytes:
    """A small photograph (JPEG) or mask (PNG), 24 x 32."""
    file = io.BytesIO()
    if kind == "photographs":
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(file, "JPEG")
    else:
        mask = np.zeros((24, 32), np.uint8)
        mask[4:12, 6:20] = 255
        Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def official_zip(folder: str, kind: str, mask_ending: str, ids: list[str], *, superpixels: bool = False) -> bytes:
    """An archive as the challenges lay it out: one folder called as the archive, and what else lies there."""
    files = {f"{folder}/": b""}
    for number, image_id in enumerate(ids):
        ending = ".jpg" if kind == "photographs" else mask_ending
        files[f"{folder}/{image_id}{ending}"] = picture(kind, number)
        if superpixels and kind == "photographs":
            files[f"{folder}/{image_id}_superpixels.png"] = picture("masks")
    if kind == "photographs":
        files[f"{folder}/{folder}_metadata.csv"] = b"image_id,age_approximate,sex\n"
    files[f"{folder}/LICENSE.txt"] = b"CC-0"
    files[f"__MACOSX/{folder}/._{ids[0]}.jpg"] = b"fork"
    files[f"{folder}/.DS_Store"] = b"store"
    return zipped(files)


IDS = {
    (2016, "training"): ["ISIC_0000001", "ISIC_0000002"],
    (2016, "test"): ["ISIC_0000003", "ISIC_0000004", "ISIC_0000005"],
    (2017, "training"): ["ISIC_0000001", "ISIC_0000010", "ISIC_0000011"],
    (2017, "validation"): ["ISIC_0000012"],
    (2017, "test"): ["ISIC_0000013", "ISIC_0000014"],
    (2018, "training"): ["ISIC_0000001", "ISIC_0000003", "ISIC_0000004", "ISIC_0000013"],
    (2018, "validation"): ["ISIC_0000020"],
    (2018, "test"): ["ISIC_0000021"],
}
"""Photographs of each part in the small challenges of `small_archives`; those of 2018 overlap, as in truth."""


def small_archives() -> dict[Archive, bytes]:
    """The table of official archives with sums, sizes and counts of small ones, and these small ones."""
    small = {}
    for archive in ARCHIVES:
        ids = IDS[archive.year, archive.part]
        content = official_zip(archive.folder, archive.kind, archive.mask_ending, ids, superpixels=archive.year == 2017)
        checksum = hashlib.new(archive.checksum_kind, content).hexdigest()
        small[replace(archive, checksum=checksum, size=len(content), count=len(ids))] = content
    return small
