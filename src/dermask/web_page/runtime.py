"""ONNX Runtime for browsers: the one release that the page is tried with, fetched from npm or taken from a folder.

Two files of the package are used: the script for WebAssembly without GPU parts, and the engine itself. Only these two
names are read from the archive, and they go where we say, so no name in it leads anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dermask.data.download import Patience, fetch
from dermask.errors import InputError

NAME = "onnxruntime-web"
VERSION = "1.30.0"
TARBALL = f"https://registry.npmjs.org/{NAME}/-/{NAME}-{VERSION}.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""What npm publishes for this release (`npm view onnxruntime-web@1.30.0 dist.integrity`)."""

SCRIPT_FILE = "ort.wasm.bundle.min.mjs"
WASM_FILE = "ort-wasm-simd-threaded.wasm"

_MOST_TARBALL_BYTES = 200 * 2**20
_MOST_FILE_BYTES = 100 * 2**20
_PLACES = ("", "dist", f"{NAME}/dist", f"node_modules/{NAME}/dist", "package/dist")
_VERSION_LINE = re.compile(rb"ONNX Runtime Web v(\S+)")
_PATIENCE = Patience(attempts=3)
_BY_HAND = f"fetch it where there is a network (npm pack {NAME}@{VERSION}), unpack it, and name its folder in --runtime"


@dataclass(frozen=True, slots=True, eq=False)
class Runtime:
    """The two files of the engine.

    Attributes:
        script: A JavaScript module.
        wasm: The engine as WebAssembly.
        version: As the script says; empty where it does not.
    """

    script: bytes
    wasm: bytes
    version: str


def find_runtime(folder: Path) -> Runtime:
    """Take the engine from an unpacked npm package.

    Args:
        folder: Its `dist`, the package itself, or a folder with it in `node_modules`.

    Raises:
        InputError: The files are not there, or cannot be read.
    """
    for place in _PLACES:
        script, wasm = folder / place / SCRIPT_FILE, folder / place / WASM_FILE
        if script.is_file() and wasm.is_file():
            try:
                return _runtime(script.read_bytes(), wasm.read_bytes(), str(folder))
            except OSError as error:
                raise InputError(str(folder), f"cannot be read: {error.strerror}", "check its permissions") from None
    problem = f"holds no {SCRIPT_FILE} beside {WASM_FILE}" if folder.is_dir() else "no such folder"
    raise InputError(str(folder), problem, f"name an unpacked {NAME} {VERSION}: npm install {NAME}@{VERSION}")


def fetch_runtime(
    part: Path,
    *,
    url: str = TARBALL,
    integrity: str = INTEGRITY,
    patience: Patience = _PATIENCE,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_wait: Callable[[str, float], None] | None = None,
) -> Runtime:
    """Fetch the pinned release and check its sum before anything of it is read.

    Args:
        part: Where the archive goes meanwhile; stays there after a break, to go on from, and is removed at the end.
        url: The archive.
        integrity: ``sha512-`` and its SHA-512 in Base64, as npm writes it.
        patience: How long to wait for the server.
        on_progress: Told bytes that are there and bytes in all, None if the server does not say.
        on_wait: Told before each further attempt what went wrong, and seconds until it.

    Raises:
        InputError: It cannot be fetched, has another sum, or does not hold the engine.
    """
    try:
        fetched = fetch(
            [url],
            part,
            most_bytes=_MOST_TARBALL_BYTES,
            patience=patience,
            on_progress=on_progress,
            on_wait=on_wait,
        )
    except InputError as error:  # its cures are those of another command
        raise InputError(f"{NAME} {VERSION}", f"cannot be fetched: {error.problem}", _BY_HAND) from None
    found = _integrity(fetched.path)
    if found != integrity:
        fetched.path.unlink()
        problem = f"is not what npm published as {NAME} {VERSION}: its sum is {found}"
        raise InputError(url, problem, f"try again on another network, or {_BY_HAND}")
    runtime = read_tarball(fetched.path)
    fetched.path.unlink()
    return runtime


def read_tarball(archive: Path) -> Runtime:
    """The engine from an npm package as npm packs it.

    Raises:
        InputError: It is damaged, or lacks one of the files, or has something else under its name.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as bundle:
            for member in bundle:
                name = member.name.removeprefix("package/dist/")
                if name in (SCRIPT_FILE, WASM_FILE) and member.name != name:
                    contents[name] = _read_member(bundle, member, archive)
                if len(contents) == 2:
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputError(str(archive), f"is damaged: {error}", _BY_HAND) from None
    for name in (SCRIPT_FILE, WASM_FILE):
        if name not in contents:
            raise InputError(str(archive), f"holds no package/dist/{name}", f"give {NAME} {VERSION}")
    return _runtime(contents[SCRIPT_FILE], contents[WASM_FILE], str(archive))


def _read_member(bundle: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> bytes:
    source = bundle.extractfile(member) if member.isreg() else None
    if source is None:
        raise InputError(f"{archive}: {member.name}", "is a link or device, not a file", "do not use this archive")
    if member.size > _MOST_FILE_BYTES:
        raise InputError(f"{archive}: {member.name}", f"claims {member.size:,} bytes", "do not use this archive")
    return source.read()


def _runtime(script: bytes, wasm: bytes, item: str) -> Runtime:
    if not wasm.startswith(b"\0asm"):
        raise InputError(item, f"{WASM_FILE} in it is no WebAssembly", f"unpack {NAME} {VERSION} again")
    version = _VERSION_LINE.search(script[:1000])
    return Runtime(script, wasm, version[1].decode("ascii", "replace") if version else "")


def _integrity(path: Path) -> str:
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode("ascii")
