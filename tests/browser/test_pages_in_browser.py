"""What holds for every page, in a real browser: it fits a phone, and is read without eyes, mouse or light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comparison_examples import dataset, made_up, predictions
from evaluation_examples import evaluated
from page_checks import NAMELESS, WORST_CONTRAST
from playwright.sync_api import Page

from dermask.audit.findings import AuditReport, Finding, Part, Place, Severity
from dermask.data.dataset import Dataset
from dermask.records import ImageSize, Instance, Polygons, Sample
from dermask.report.audit_page import write_audit_page
from dermask.report.comparison_page import write_comparison_page
from dermask.report.evaluation_page import write_evaluation_page
from dermask.report.page import write_run_report

Opener = Callable[..., Page]
pytestmark = pytest.mark.slow
KINDS = ("run", "evaluation", "comparison", "audit")
READABLE = 4.5  # least contrast of text, WCAG 2 level AA


def write_run(folder: Path) -> Path:
    rows = ["epoch,step,loss,val_loss,val_jaccard,val_mask_ap", "1,10,1.2,1.1,0.6,0.4", "2,20,0.9,1.0,0.7,0.5"]
    (folder / "history.csv").write_text("\n".join(rows) + "\n")
    judged = evaluated(40)
    return write_run_report(
        folder,
        command="dermask train x",
        evaluation=judged.evaluation,
        dataset=judged.dataset,
        detections=judged.predictions,
        processes=1,
    )


def write_audit(folder: Path) -> Path:
    ring = np.array([[5.0, 5], [30, 5], [30, 25], [5, 25]])
    samples = [
        Sample(name, np.full((30, 40, 3), 180, np.uint8), ImageSize(30, 40), (Instance(1, Polygons((ring,))),))
        for name in ("a", "b")
    ]
    kinds = {"self-crossing": Severity.WARNING, "near-duplicate": Severity.ERROR, "tiny-outline": Severity.NOTE}
    findings = [
        Finding(kind, severity, f"train: {name}", "is wrong", "draw it again", place=Place("train", name))
        for kind, severity in kinds.items()
        for name in ("a", "b")
    ]
    report = AuditReport({"train": 2}, findings, command="dermask data check x")
    return write_audit_page(report, [Part("train", Dataset(samples))], folder / "audit.html")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    compared = folders["comparison"] / "report.html"
    return {
        "run": write_run(folders["run"]),
        "evaluation": write_evaluation_page(
            folders["evaluation"] / "report.html", *evaluated(40), command="dermask evaluate x", processes=1
        ),
        "comparison": write_comparison_page(
            made_up(shifts=(0.0, 0.03)), compared, command="dermask compare", dataset=dataset(),
            predictions=dict(list(predictions().items())[:2]),
        ),
        "audit": write_audit(folders["audit"]),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_a_phone_and_all_of_it_has_a_name(kind: str, pages: dict[str, Path], open_page: Opener) -> None:
    page = open_page(pages[kind], viewport={"width": 375, "height": 740})
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.data)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_can_be_read_by_day_and_by_night(
    kind: str, scheme: str, pages: dict[str, Path], open_page: Opener
) -> None:
    page = open_page(pages[kind], color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(background) < 384) == (scheme == "dark")
    assert page.evaluate(WORST_CONTRAST) >= READABLE


@pytest.mark.parametrize("kind", KINDS)
def test_the_keyboard_reaches_what_can_be_used(kind: str, pages: dict[str, Path], open_page: Opener) -> None:
    page = open_page(pages[kind])
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break  # behind the last one
        reached.append(page.evaluate("document.activeElement.outerHTML.slice(0, 120)"))
        assert page.evaluate("document.activeElement.matches(':focus-visible')"), reached[-1]
    assert len(set(reached)) == len(reached) >= 6
