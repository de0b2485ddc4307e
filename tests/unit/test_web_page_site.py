"""The page as a folder: whole, told by the model itself, loading nothing from elsewhere, and never over other files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import escape

from dermask import images
from dermask.cli.main import run
from dermask.errors import InputError, OutputExistsError, WeightsError
from dermask.inference.detector import PACKAGED_MODEL
from dermask.inference.model_file import read_model_file
from dermask.web_page.runtime import SCRIPT_FILE, VERSION, WASM_FILE, Runtime
from dermask.web_page.site import POLICY, SCRIPTS, write_site

ENGINE = Runtime(f"/* ONNX Runtime Web v{VERSION} */".encode(), b"\0asm engine", VERSION)
FILES = {
    "index.html", "page.css", "model.onnx", *SCRIPTS,
    *(f"onnxruntime-web/{name}" for name in ("ort.wasm.bundle.min.js", WASM_FILE, "LICENSE.txt")),
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "site"
    assert write_site(folder, PACKAGED_MODEL, ENGINE) == folder / "index.html"
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def told(folder: Path) -> dict:
    text = (folder / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="site">(.*?)</script>', text)[1])


def test_the_folder_holds_page_model_engine_and_its_licence(site: Path) -> None:
    assert names_in(site) == FILES
    assert (site / "model.onnx").read_bytes() == PACKAGED_MODEL.read_bytes()
    assert "MIT License" in (site / "onnxruntime-web" / "LICENSE.txt").read_text()


def test_the_page_is_told_what_the_model_says_of_itself(site: Path) -> None:
    model = read_model_file(PACKAGED_MODEL)
    found = told(site)
    assert found["class_names"] == list(model.settings.class_names)
    assert found["model"] == {"file": "model.onnx", "bytes": model.num_bytes, "sha256": model.sha256}
    image = model.settings.image
    assert found["image"]["min_size"] == image.min_size
    assert found["image"]["max_size"] == image.max_size
    assert found["image"]["pad_multiple"] == image.pad_multiple
    assert found["image"]["max_pixels"] == images.MAX_PIXELS
    assert found["score_floor"] == model.settings.box_head.score_thresh
    assert found["runtime"]["wasm_bytes"] == len(ENGINE.wasm)
    for file in (found["model"]["file"], found["runtime"]["script"], found["runtime"]["wasm"]):
        assert (site / file).is_file()
    text = (site / "index.html").read_text()
    assert model.sha256 in text
    assert "Research use only" in text


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for name in ("index.html", "page.css", *SCRIPTS):
        text = (site / name).read_text(encoding="utf-8")
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name  # the name of a language, not a place
    assert f'content="{escape(POLICY)}"' in (site / "index.html").read_text()
    assert "unsafe-inline" not in POLICY
    assert re.search(r"default-src 'none'.*connect-src 'self'", POLICY)


def test_every_file_that_the_scripts_name_is_in_the_folder(site: Path) -> None:
    for name in SCRIPTS:
        for other in re.findall(r"from \"\./([\w.]+)\"", (site / name).read_text()):
            assert (site / other).is_file(), (name, other)


def test_other_files_are_never_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is not empty; choose another -o, or pass --overwrite"):
        write_site(tmp_path, PACKAGED_MODEL, ENGINE)
    assert names_in(tmp_path) == {"mine.txt"}
    write_site(tmp_path, PACKAGED_MODEL, ENGINE, overwrite=True)
    assert names_in(tmp_path) == {"mine.txt", *FILES}
    (tmp_path / "model.onnx").write_bytes(b"old")
    write_site(tmp_path, PACKAGED_MODEL, ENGINE, overwrite=True)
    assert (tmp_path / "model.onnx").stat().st_size == PACKAGED_MODEL.stat().st_size


def test_a_file_in_the_way_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("")
    with pytest.raises(InputError, match="a file has this name"):
        write_site(tmp_path / "site", PACKAGED_MODEL, ENGINE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "does not run in a browser; export it first: dermask export RUN -o model.onnx"),
        ("a.onnx", b"", "is not a model of dermask, or is damaged"),
        ("a.onnx", b"\x08\x07nonsense", "is not a model of dermask, or is damaged"),
    ],
)
def test_another_model_is_refused_before_anything_is_written(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        write_site(tmp_path / "site", tmp_path / name, ENGINE)
    assert names_in(tmp_path) == {name}


def test_the_command_makes_the_page_from_an_unpacked_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / SCRIPT_FILE).write_bytes(b"/* ONNX Runtime Web v1.2.3 */")
    (tmp_path / "dist" / WASM_FILE).write_bytes(ENGINE.wasm)
    assert run(["web-page", "-o", str(tmp_path / "site"), "--runtime", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'site' / 'index.html'}\n"
    assert f"onnxruntime-web 1.2.3; the page is tried with {VERSION}" in said.err
    assert told(tmp_path / "site")["runtime"]["version"] == "1.2.3"


def test_the_command_fetches_the_engine_into_a_hidden_file_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(
        part: Path, *, on_progress: Callable[[int, int], None], on_wait: Callable[[str, float], None]
    ) -> Runtime:
        assert part.parent == tmp_path / "site"
        assert part.name.startswith(".")
        on_progress(1, 2)
        on_wait("the server is busy", 2.0)
        part.write_bytes(b"half of it, left by a break")
        return ENGINE

    monkeypatch.setattr("dermask.web_page.runtime.fetch_runtime", fetched)
    assert run(["web-page", "-o", str(tmp_path / "site")]) == 0
    assert "the server is busy; trying again in 2 s" in capsys.readouterr().err
    assert (tmp_path / "site" / "index.html").is_file()


def test_values_of_the_files_cannot_become_code(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    engine = Runtime(ENGINE.script, ENGINE.wasm, hostile)
    write_site(tmp_path / "site", PACKAGED_MODEL, engine)
    assert hostile not in (tmp_path / "site" / "index.html").read_text()
    assert told(tmp_path / "site")["runtime"]["version"] == hostile
