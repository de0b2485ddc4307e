"""The engine for browsers: from npm, checked before it is read, or from a folder; never a path of the archive's own."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_server import Served, serving

from dermask.data.download import Patience
from dermask.errors import InputError
from dermask.web_page import runtime
from dermask.web_page.runtime import SCRIPT_FILE, WASM_FILE, fetch_runtime, find_runtime, read_tarball

SCRIPT = b"/*!\n * ONNX Runtime Web v1.30.0\n */\nexport default 1;"
WASM = b"\0asm" + bytes(range(256)) * 400
QUICK = Patience(timeout=5, attempts=2, first_wait=0.01)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def packed(files: dict[str, bytes | str]) -> bytes:
    """A tarball as npm makes it; text stands for a link to there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                bundle.addfile(member)
            else:
                member.size = len(content)
                bundle.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


GOOD: dict[str, bytes | str] = {
    "package/package.json": b"{}",
    "package/dist/ort.min.js": b"another build",
    f"package/dist/{WASM_FILE}": WASM,
    f"package/dist/{SCRIPT_FILE}": SCRIPT,
}


def sum_of(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_pinned_release_is_one_of_npm_with_a_whole_sum() -> None:
    assert runtime.TARBALL.startswith("https://registry.npmjs.org/onnxruntime-web/-/")
    assert runtime.VERSION in runtime.TARBALL
    kind, _, text = runtime.INTEGRITY.partition("-")
    assert (kind, len(base64.b64decode(text, validate=True))) == ("sha512", 64)


def test_the_engine_is_fetched_checked_and_nothing_else_stays(tmp_path: Path) -> None:
    content = packed(GOOD)
    told: list[tuple[int, int | None]] = []
    with serving({"/a.tgz": Served(content)}) as address:
        found = fetch_runtime(
            tmp_path / "a.part",
            url=f"{address}/a.tgz",
            integrity=sum_of(content),
            patience=QUICK,
            on_progress=lambda *counts: told.append(counts),
        )
    assert (found.script, found.wasm, found.version) == (SCRIPT, WASM, "1.30.0")
    assert told[-1] == (len(content), len(content))
    assert everything_in(tmp_path) == []


def test_a_cut_connection_is_gone_on_from(tmp_path: Path) -> None:
    content = packed(GOOD)
    served = Served(content, cuts=[len(content) // 2])
    waits: list[str] = []
    with serving({"/a.tgz": served}) as address:
        found = fetch_runtime(
            tmp_path / "a.part",
            url=f"{address}/a.tgz",
            integrity=sum_of(content),
            patience=QUICK,
            on_wait=lambda problem, seconds: waits.append(problem),
        )
    assert found.wasm == WASM
    assert len(waits) == 1
    assert served.requests[1]["Range"] == f"bytes={len(content) // 2}-"


def test_another_sum_is_refused_and_removed(tmp_path: Path) -> None:
    with (
        serving({"/a.tgz": Served(packed(GOOD))}) as address,
        pytest.raises(InputError, match=r"a\.tgz: is not what npm published as onnxruntime-web .*--runtime"),
    ):
        fetch_runtime(tmp_path / "a.part", url=f"{address}/a.tgz", integrity=sum_of(b"other"), patience=QUICK)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("statuses", [[503, 503], [404]])
def test_what_cannot_be_fetched_is_told_in_one_line_with_the_way_out(statuses: list[int], tmp_path: Path) -> None:
    with (
        serving({"/a.tgz": Served(b"", statuses=statuses)}) as address,
        pytest.raises(InputError, match=r"^onnxruntime-web \S+: cannot be fetched: .*npm pack .*--runtime$") as caught,
    ):
        fetch_runtime(tmp_path / "a.part", url=f"{address}/a.tgz", patience=QUICK)
    assert "\n" not in str(caught.value)
    assert "--source" not in str(caught.value)


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    with serving({}) as address:
        pass  # nobody listens there any more
    with pytest.raises(InputError, match=r"cannot be fetched: .*the connection broke.*--runtime"):
        fetch_runtime(tmp_path / "a.part", url=f"{address}/a.tgz", patience=QUICK)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, f"holds no package/dist/{SCRIPT_FILE}"),
        ({f"package/dist/{SCRIPT_FILE}": SCRIPT}, f"holds no package/dist/{WASM_FILE}"),
        # Names that lead elsewhere are never looked at, whatever stands there.
        ({**GOOD, f"package/dist/{SCRIPT_FILE}": b"x", f"package/dist/{WASM_FILE}": b"no engine"}, "is no WebAssembly"),
        ({f"package/dist/../../{SCRIPT_FILE}": SCRIPT, f"/tmp/{WASM_FILE}": WASM}, "holds no package/dist/"),
        ({SCRIPT_FILE: SCRIPT, WASM_FILE: WASM}, "holds no package/dist/"),
        ({**GOOD, f"package/dist/{SCRIPT_FILE}": "/etc/passwd"}, "is a link or device, not a file"),
    ],
)
def test_a_hostile_or_other_archive_is_refused(files: dict[str, bytes | str], message: str, tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(packed(files))
    with pytest.raises(InputError, match=message):
        read_tarball(archive)
    assert everything_in(tmp_path) == ["a.tgz"]


def test_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_MOST_FILE_BYTES", 1000)
    (tmp_path / "a.tgz").write_bytes(packed(GOOD))
    with pytest.raises(InputError, match=r"claims 102,404 bytes"):
        read_tarball(tmp_path / "a.tgz")


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[:-900], lambda data: b"no tarball at all"])
def test_a_damaged_archive_gets_one_line(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(spoil(packed(GOOD)))
    with pytest.raises(InputError, match=r"is damaged: "):
        read_tarball(tmp_path / "a.tgz")


@pytest.mark.parametrize("place", ["", "dist", "node_modules/onnxruntime-web/dist", "package/dist"])
def test_an_unpacked_package_is_found_in_its_usual_places(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT_FILE).write_bytes(SCRIPT)
    (folder / WASM_FILE).write_bytes(WASM)
    assert find_runtime(tmp_path).version == "1.30.0"


def test_a_folder_without_the_engine_says_what_to_name(tmp_path: Path) -> None:
    (tmp_path / SCRIPT_FILE).write_bytes(SCRIPT)
    with pytest.raises(InputError, match=rf"holds no {SCRIPT_FILE} beside {WASM_FILE}; name an unpacked"):
        find_runtime(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_runtime(tmp_path / "none")
