"""The page that outlines photographs, in a real browser: equal to Python on real photographs, and used as people do."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from page_checks import NAMELESS, TOO_SMALL, WORST_CONTRAST
from PIL import Image, ImageCms
from playwright.sync_api import Browser, FilePayload, Page, Request, Route, expect

from dermask import files, images, masks
from dermask.boxes import xyxy_to_xywh
from dermask.config import ImageSettings
from dermask.errors import InputError
from dermask.inference.detector import PACKAGED_MODEL
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.outputs import CSV_COLUMNS
from dermask.inference.overlay import mask_rings
from dermask.inference.preparing import DECODE_MARGIN
from dermask.records import BoolArray, Detections, ImageSize, Rle
from dermask.scaling import network_size
from dermask.web_page.runtime import NAME, SCRIPT_FILE, VERSION, WASM_FILE, Runtime, fetch_runtime, find_runtime
from dermask.web_page.site import write_site

pytestmark = pytest.mark.slow


class Tolerance(NamedTuple):
    """How far a lesion of the page may be from Python's."""

    box: float  # pixels of a side at the network's scale
    score: float
    iou: float


# What was measured stands in docs/browser.md. A JPEG that dermask reads at half its size or less is reduced by libjpeg
# on cosines and by the page by averages; all else is the same to the bit, and only the engine's arithmetic differs.
ALIKE = Tolerance(box=0.05, score=1e-3, iou=0.999)
REDUCED = Tolerance(box=1.0, score=1e-2, iou=0.98)

ADDED = 60_000  # milliseconds that a folder of photographs may take here


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """The engine, fetched once and kept in pytest's cache; without a network the tests skip, unless they must run."""
    folder: Path = request.config.cache.mkdir(f"{NAME}-{VERSION}")  # type: ignore[union-attr]
    try:
        return find_runtime(folder)
    except InputError:
        pass
    try:
        found = fetch_runtime(folder / f"{os.getpid()}.tgz.part")  # other processes may fetch it too
    except InputError as error:
        if os.environ.get("DERMASK_REQUIRE_BROWSER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    files.write_bytes(folder / WASM_FILE, found.wasm)
    files.write_bytes(folder / SCRIPT_FILE, found.script)
    return found


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # pages are closed while they load


@pytest.fixture(scope="session")
def site(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, on a server on this machine."""
    folder = tmp_path_factory.mktemp("site")
    write_site(folder, PACKAGED_MODEL, runtime)
    server = _QuietServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


Visitor = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visitor]:
    """Opens the page as a fresh visitor does; afterwards nothing may have been asked of any other address."""
    contexts, complaints = [], []

    def requested(request: Request) -> None:
        if not request.url.startswith((site, "blob:", "data:")) or request.method != "GET":
            complaints.append(f"asked for {request.method} {request.url}")

    def open_page(*, broken: str = "", status: int = 404, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        context.on("request", requested)
        page = context.new_page()
        if broken:
            context.route(site + broken, functools.partial(_refuse, status))
        else:
            page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(site)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _refuse(status: int, route: Route) -> None:
    if status == 200:
        route.fulfill(status=200, body=b"short")
    else:
        route.fulfill(status=status, body="no such file")


@pytest.fixture(scope="module")
def lasting(browser: Browser, site: str) -> Iterator[Page]:
    """One page for all tests that only use it: opening the model takes seconds."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(site)
    wait_until_ready(page)
    yield page
    context.close()


@pytest.fixture
def opened(lasting: Page) -> Iterator[Page]:
    """The page as it is when it has been opened; afterwards nothing may have gone wrong in it."""
    complaints: list[str] = []

    def complain(message: object) -> None:
        complaints.append(str(message))

    lasting.on("console", complain)
    lasting.on("pageerror", complain)
    yield lasting
    lasting.remove_listener("console", complain)
    lasting.remove_listener("pageerror", complain)
    lasting.evaluate(_AS_OPENED)
    assert complaints == []


_AS_OPENED = """
() => {
  document.getElementById("remove-all").click();
  const set = (id, changes) => Object.assign(document.getElementById(id), changes).dispatchEvent(new Event("input"));
  set("score", {max: 0.99, value: 0.5});
  set("rule", {value: "primary"});
  for (const name of ["outlines", "boxes", "labels"]) set(`show-${name}`, {checked: true});
}
"""


def wait_until_ready(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", "ready", timeout=ADDED)


def add(page: Page, *given: Path | FilePayload) -> None:
    contents = [one if isinstance(one, dict) else upload(one.name, one.read_bytes(), "image/jpeg") for one in given]
    page.set_input_files("#files", contents)
    expect(page.locator("#photographs article")).not_to_have_count(0)
    wait_until_ready(page)


def saved(page: Page, selector: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(selector)
    return Path(waiting.value.path()).read_bytes()


def png(pixels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def upload(name: str, content: bytes, kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": content}


# The same as Python


class Found(NamedTuple):
    """One lesion of the page's COCO results."""

    score: float
    box: Any  # (4,) xywh
    mask: BoolArray


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> list[Path]:
    found = sorted((real_data / "isic_native" / "images").glob("*.jpg"))
    assert len(found) == 16
    return found


@pytest.fixture(scope="module")
def in_python(photographs: list[Path]) -> dict[str, Detections]:
    detector = OnnxDetector(PACKAGED_MODEL, threads=1)
    return {path.stem: detector.predict([path])[0] for path in photographs}


def by_photograph(coco: bytes) -> dict[str, list[Found]]:
    found: dict[str, list[Found]] = {}
    for row in json.loads(coco):
        rle = Rle(row["segmentation"]["counts"].encode(), ImageSize(*row["segmentation"]["size"]))
        one = Found(row["score"], np.array(row["bbox"]), masks.rle_to_bitmask(rle))
        found.setdefault(row["image_id"], []).append(one)
    return found


def iou(first: BoolArray, second: BoolArray) -> float:
    return float((first & second).sum() / (first | second).sum())


def differences(here: list[Found], expected: Detections, wanted: ImageSize, allowed: Tolerance) -> list[str]:
    """What the page found otherwise than Python, beyond what is allowed; boxes in pixels of the network's scale."""
    kept = expected.above(0.5)
    if len(here) != len(kept):
        return [f"{len(here)} lesions, not {len(kept)}"]
    told = []
    pasted = masks.paste_masks(kept.boxes, kept.mask_probs, kept.size)
    for one, box, score, mask in zip(here, xyxy_to_xywh(kept.boxes), kept.scores, pasted, strict=True):
        if (apart := float(np.abs(one.box - box).max()) * wanted[0] / expected.size.height) > allowed.box:
            told.append(f"box {apart:.3f} pixels apart")
        if (apart := abs(one.score - float(score))) > allowed.score:
            told.append(f"score {apart:.5f} apart")
        if (overlap := iou(one.mask, mask)) < allowed.iou:
            told.append(f"masks overlap by {overlap:.4f}")
    return told


def test_sixteen_full_frame_photographs_give_what_python_gives(
    photographs: list[Path], in_python: dict[str, Detections], visit: Visitor
) -> None:
    page = visit()
    wait_until_ready(page)
    add(page, *photographs)
    expect(page.locator("#tally")).to_have_text(
        f"{sum(len(found.above(0.5)) for found in in_python.values())} lesions in 16 photographs"
    )
    found = by_photograph(saved(page, "#save-coco"))
    detector = OnnxDetector(PACKAGED_MODEL, threads=1)
    references = dict(in_python)
    for path in photographs:
        expected = in_python[path.stem]
        here = [one for one in found.get(path.stem, []) if one.score >= 0.5]
        wanted = network_size(expected.size, detector.settings.image)
        if min(expected.size) < 2 * DECODE_MARGIN * min(wanted):
            assert not differences(here, expected, wanted, ALIKE), path.stem
        elif told := differences(here, expected, wanted, REDUCED):
            # Of two outlines with all but the same score, how the file was reduced decides: then it is the one that
            # Python finds when it gets all pixels, as the page does.
            [from_pixels] = detector.predict([images.read_image(path)])
            assert not differences(here, from_pixels, wanted, REDUCED), (path.stem, told)
            references[path.stem] = from_pixels
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "#save-masks")))
    assert archive.testzip() is None
    assert archive.namelist() == [f"{name}_segmentation.png" for name in in_python]
    for name, expected in references.items():
        written = Image.open(archive.open(f"{name}_segmentation.png"))
        assert written.mode == "L"
        levels = np.asarray(written)
        assert set(np.unique(levels)) <= {0, 255}
        assert iou(levels > 128, masks.detections_bitmask(expected, "primary")) >= REDUCED.iou


def _in_page(page: Page, module: str, body: str, *values: Any) -> Any:
    """What an expression gives, with the functions of one of the page's modules by name."""
    code = f"async (given) => {{ const m = await import(new URL('{module}', document.baseURI)); {body} }}"
    return page.evaluate(code, list(values))


@pytest.mark.parametrize(
    "size",
    [
        (64, 48),  # as it is
        (20, 33),  # enlarged
        (61, 117),
        (403, 601),  # averaged over whole blocks first, with a rest at right and bottom
        (1021, 767),
        (500, 90),  # Pillow 13 takes the two directions in the other order for so narrow a strip
        (1, 1),
    ],
)
def test_photographs_are_scaled_bit_for_bit_as_in_python(size: tuple[int, int], opened: Page) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    settings = ImageSettings(min_size=64, max_size=64)
    wanted = network_size(size, settings)
    found = _in_page(
        opened,
        "pixels.js",
        "const [text, height, width, settings] = given; const wanted = m.networkSize(width, height, settings);"
        "const data = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));"
        "return {wanted, data: [...m.resize({data, height, width}, wanted).data]};",
        base64.b64encode(pixels.tobytes()).decode(),
        *size,
        settings.model_dump(),
    )
    assert (found["wanted"]["height"], found["wanted"]["width"]) == wanted
    expected = images.resize(pixels, ImageSize(*wanted))
    difference = np.array(found["data"]).reshape(expected.shape) - expected.astype(int)
    assert np.abs(difference).max() <= (1 if max(size) > 5 * min(size) else 0)


@pytest.mark.parametrize(
    "box",
    [
        (10.3, 5.2, 60.7, 44.1),
        (0, 0, 80, 50),  # the whole photograph
        (-5.5, -3, 12, 60),  # over its border
        (20.2, 20.2, 20.9, 20.6),  # less than a pixel
        (30, 30, 30, 40),  # nothing
    ],
)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_masks_are_pasted_and_encoded_as_in_python(box: tuple[float, ...], level: float, opened: Page) -> None:
    size = ImageSize(50, 80)
    noise = np.random.default_rng(1).random((14, 14), np.float32)
    probs = noise if level == 0.5 else np.full((14, 14), level, np.float32)
    found = _in_page(
        opened,
        "masks.js",
        "const [box, probs, width, height] = given; const canvas = new Uint8Array(width * height);"
        "m.pasteMask(canvas, box, Float32Array.from(probs), 14, width, height, 0.5);"
        "return {canvas: [...canvas], ...m.maskRuns(box, Float32Array.from(probs), 14, width, height, 0.5)};",
        list(box),
        probs.ravel().tolist(),
        size.width,
        size.height,
    )
    expected = masks.paste_masks(np.array([box], np.float32), probs[None], size)[0]
    assert np.array_equal(np.array(found["canvas"]).reshape(size) == 255, expected)
    assert found["counts"].encode() == masks.bitmask_to_rle(expected).counts
    assert found["area"] == expected.sum()


def test_outlines_run_where_python_draws_them(opened: Page) -> None:
    probs = np.zeros((14, 14), np.float32)
    probs[2:12, 3:11] = 0.9
    probs[5:8, 5:8] = 0.2  # a hole
    probs[12, 12] = 0.8  # touches by a corner
    box = np.array([10.0, 5.0, 66.0, 47.0], np.float32)
    rings = _in_page(
        opened,
        "masks.js",
        "return m.maskRings(given[0], Float32Array.from(given[1]), 14, 0.5);",
        box.tolist(),
        probs.ravel().tolist(),
    )
    expected = mask_rings(box, probs)
    assert len(rings) == len(expected)
    points = np.concatenate(expected)
    assert max(np.hypot(*(points - point).T).min() for ring in rings for point in ring) < 1e-3
    assert sum(_area(np.array(ring)) for ring in rings) == pytest.approx(
        sum(_area(ring) for ring in expected), abs=1e-3
    )


def _area(ring: Any) -> float:
    """Of what a ring encloses; rings come in both directions, so only its size counts."""
    x, y = np.asarray(ring).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def test_a_large_photograph_turned_by_its_camera_is_outlined_upright_while_the_page_stays_quick(
    photographs: list[Path], opened: Page
) -> None:
    with Image.open(photographs[-1]) as photo:
        large = photo.resize((6400, 4800), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    file = io.BytesIO()
    large.save(file, "JPEG", quality=85, exif=exif)
    [expected] = OnnxDetector(PACKAGED_MODEL, threads=1).predict([file.getvalue()])
    assert expected.size == ImageSize(4800, 6400)
    page = opened
    page.evaluate(_WATCH_FRAMES)
    add(page, upload("large.jpg", file.getvalue(), "image/jpeg"))
    longest = page.evaluate("window.longestWait")
    [one] = by_photograph(saved(page, "#save-coco"))["large"]
    [mask] = masks.paste_masks(expected.boxes, expected.mask_probs, expected.size)
    assert one.mask.shape == (4800, 6400)
    assert iou(one.mask, mask) >= REDUCED.iou
    assert longest < 1500, longest  # milliseconds in which the page did not answer; all of it takes seconds
    overlay = Image.open(io.BytesIO(saved(page, "[data-act=overlay]")))
    assert overlay.size == (2048, 1536)


_WATCH_FRAMES = """
() => {
  window.longestWait = 0;
  let last = performance.now();
  setInterval(() => {
    window.longestWait = Math.max(window.longestWait, performance.now() - last);
    last = performance.now();
  }, 20);
}
"""


# As people use it


@pytest.fixture(scope="module")
def lesion(photographs: list[Path]) -> Path:
    return photographs[0]


BLANK = upload("skin.png", png(np.full((120, 160, 3), 200, np.uint8)))


def test_empty_is_normal(opened: Page) -> None:
    page = opened
    expect(page.locator("#results")).to_be_hidden()
    add(page, BLANK)
    expect(page.locator("#tally")).to_have_text("0 lesions in 1 photograph")
    expect(page.locator(".lesions")).to_have_text("Nothing found from this score on")
    assert json.loads(saved(page, "#save-coco")) == []
    assert saved(page, "#save-csv").decode().strip() == ",".join(CSV_COLUMNS)
    assert not np.asarray(Image.open(io.BytesIO(saved(page, "[data-act=mask]")))).any()
    page.click("#remove-all")
    expect(page.locator("#results")).to_be_hidden()


def test_what_is_no_photograph_gets_one_line_and_the_others_are_outlined(lesion: Path, opened: Page) -> None:
    page = opened
    add(
        page,
        upload("notes.png", b"no image"),
        upload("empty.png", b""),
        upload("half.png", BLANK["buffer"][:60]),
        lesion,
    )
    expect(page.locator("#tally")).to_have_text("1 lesion in 1 photograph, 3 cannot be opened")
    lines = page.locator(".photo .problem").all_inner_texts()
    opened = "is not an image that this browser can open, or is damaged; convert it to JPEG or PNG"
    assert lines == [
        f"notes.png: {opened}",
        "empty.png: is empty (0 bytes); copy or export it again",
        f"half.png: {opened}",
    ]


def test_photographs_can_be_removed_while_they_are_outlined(lesion: Path, opened: Page) -> None:
    page = opened
    page.set_input_files("#files", [str(lesion)])
    page.set_input_files("#files", [str(lesion)])
    expect(page.locator("body")).to_have_attribute("data-state", "working")
    page.click("#remove-all")
    expect(page.locator("#results")).to_be_hidden()
    wait_until_ready(page)
    add(page, lesion)
    expect(page.locator("#tally")).to_have_text("1 lesion in 1 photograph")


def test_every_kind_of_file_gives_what_python_gives(lesion: Path, opened: Page) -> None:
    contents = dict(_in_all_kinds(images.read_image(lesion)))
    detector = OnnxDetector(PACKAGED_MODEL, threads=1)
    page = opened
    add(page, *(upload(f"{name}.image", content) for name, content in contents.items()))
    found = by_photograph(saved(page, "#save-coco"))
    for name, content in contents.items():
        [expected] = detector.predict([content])
        here = found.get(name, [])
        assert len(here) == len(expected) > 0, name
        ratio = network_size(expected.size, detector.settings.image)[0] / expected.size.height
        for one, box, score in zip(here, xyxy_to_xywh(expected.boxes), expected.scores, strict=True):
            assert np.abs(one.box - box).max() * ratio <= ALIKE.box, name
            assert abs(one.score - float(score)) <= ALIKE.score, name


def _in_all_kinds(pixels: Any) -> Iterator[tuple[str, bytes]]:
    photo = Image.fromarray(pixels)
    grey = photo.convert("L")
    cut = photo.copy()
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, :300] = 0
    cut.putalpha(Image.fromarray(alpha))
    for name, image, kind, options in (
        ("progressive", photo, "JPEG", {"progressive": True}),
        ("fine colours", photo, "JPEG", {"subsampling": 0}),
        ("with a colour profile", photo, "JPEG", {"icc_profile": _profile_that_swaps_red_and_blue()}),
        ("cmyk", photo.convert("CMYK"), "JPEG", {}),
        ("grey", grey, "PNG", {}),
        ("16 bits", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG", {}),
        ("palette", photo.quantize(256), "PNG", {}),
        ("transparent", cut, "PNG", {}),
        ("webp", photo, "WEBP", {}),
        ("bmp", photo, "BMP", {}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        yield name, file.getvalue()


def _profile_that_swaps_red_and_blue() -> bytes:
    """Neither Python nor the page applies profiles; this one would show."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    [count] = struct.unpack(">I", profile[128:132])
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = (slice(entries[name] + 4, entries[name] + 12) for name in (b"rXYZ", b"bXYZ"))
    profile[red], profile[blue] = profile[blue], profile[red]
    return bytes(profile)


def test_the_slider_decides_what_is_shown_and_counted_but_not_what_is_judged(lesion: Path, opened: Page) -> None:
    page = opened
    add(page, lesion)
    everything = saved(page, "#save-coco")
    page.focus("#score")
    page.keyboard.press("End")
    expect(page.locator("#score-said")).to_have_text("0.99")
    page.locator("#score").evaluate("(one) => { one.max = 1; one.value = 1; one.dispatchEvent(new Event('input')); }")
    expect(page.locator("#tally")).to_have_text("0 lesions in 1 photograph")
    assert page.locator("svg .lesion:visible").count() == 0
    page.select_option("#rule", "union")
    assert not np.asarray(Image.open(io.BytesIO(saved(page, "[data-act=mask]")))).any()
    page.select_option("#rule", "primary")  # the best lesion whatever its score, as dermask predict
    assert np.asarray(Image.open(io.BytesIO(saved(page, "[data-act=mask]")))).any()
    assert saved(page, "#save-coco") == everything
    assert len(saved(page, "#save-csv").decode().splitlines()) == 1


def test_outlines_boxes_and_labels_can_be_hidden(lesion: Path, opened: Page) -> None:
    page = opened
    add(page, lesion)
    for name, part in (("outlines", "path.line"), ("boxes", "rect.box"), ("labels", "text")):
        assert page.locator(f".lesion {part}").first.is_visible()
        page.uncheck(f"#show-{name}")
        assert not page.locator(f".lesion {part}").first.is_visible()


def test_it_works_by_keyboard_and_everything_has_a_name(lesion: Path, opened: Page) -> None:
    page = opened
    page.evaluate("document.activeElement.blur()")
    page.locator("h1").click()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    add(page, lesion, BLANK, lesion)
    assert page.locator(".photo h3").all_inner_texts() == [lesion.stem, "skin", f"{lesion.stem}_2"]
    assert page.evaluate(NAMELESS) == []
    assert "score" in (page.locator(".photo svg").first.get_attribute("aria-label") or "")
    page.locator("[data-act=remove]").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == f"{lesion.stem}_2"
    expect(page.locator("#tally")).to_have_text("2 lesions in 2 photographs")


def test_photographs_can_be_dropped(opened: Page) -> None:
    page = opened
    page.evaluate(
        "(bytes) => { const data = new DataTransfer();"
        " data.items.add(new File([Uint8Array.from(bytes)], 'dropped.png', {type: 'image/png'}));"
        " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }",
        list(BLANK["buffer"]),
    )
    expect(page.locator("#tally")).to_have_text("0 lesions in 1 photograph", timeout=ADDED)


@pytest.mark.parametrize(
    ("broken", "status", "message"),
    [
        ("model.onnx", 404, "model.onnx: not in this folder (404); make the folder again with dermask web-page"),
        ("model.onnx", 200, "model.onnx: has 5 of"),
        ("onnxruntime-web/ort-wasm-simd-threaded.wasm", 404, "ort-wasm-simd-threaded.wasm: not in this folder (404)"),
        (
            "onnxruntime-web/ort.wasm.bundle.min.js",
            404,
            "ort.wasm.bundle.min.js: cannot be loaded; make the folder again",
        ),
        ("worker.js", 404, "a file of this page cannot be loaded; make the folder again with dermask web-page"),
    ],
)
def test_a_missing_file_is_named_in_one_line(broken: str, status: int, message: str, visit: Visitor) -> None:
    page = visit(broken=broken, status=status)
    expect(page.locator("#problem")).to_contain_text(message, timeout=ADDED)
    assert page.locator("#files").is_disabled()


def test_without_webassembly_or_from_a_file_it_says_so(
    browser: Browser, site: str, runtime: Runtime, tmp_path: Path
) -> None:
    context = browser.new_context()
    context.add_init_script("delete window.WebAssembly")
    page = context.new_page()
    page.goto(site)
    expect(page.locator("#problem")).to_contain_text("This browser does not run WebAssembly")
    page.goto(write_site(tmp_path / "site", PACKAGED_MODEL, runtime).as_uri())
    expect(page.locator("#problem")).to_contain_text("only runs this page from a server")
    context.close()


def test_the_browser_refuses_other_addresses_to_the_page_and_to_its_worker(browser: Browser, site: str) -> None:
    context = browser.new_context()
    asked: list[str] = []
    context.route("http://elsewhere.test/**", lambda route: (asked.append(route.request.url), route.abort()))
    page = context.new_page()
    page.goto(site)
    refused = page.evaluate(_SEND_ELSEWHERE)
    assert refused == ["page: refused", "worker: refused"]
    assert asked == []
    context.close()


_SEND_ELSEWHERE = """
async () => {
  const send = 'fetch("http://elsewhere.test/", {mode: "no-cors"}).then(() => "sent", () => "refused")';
  const page = await fetch("http://elsewhere.test/", {mode: "no-cors"}).then(() => "sent", () => "refused");
  const code = `${send}.then(postMessage)`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], {type: "text/javascript"})), {type: "module"});
  const answer = await new Promise((resolve) => { worker.onmessage = (event) => resolve(event.data); });
  return [`page: ${page}`, `worker: ${answer}`];
}
"""


def test_it_fits_a_phone_and_can_be_read(lesion: Path, opened: Page) -> None:
    page = opened
    page.set_viewport_size({"width": 375, "height": 740})
    add(page, lesion, upload("notes.png", b"no image"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate(TOO_SMALL) == []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(WORST_CONTRAST) >= 4.5, scheme
    page.set_viewport_size({"width": 1200, "height": 900})
