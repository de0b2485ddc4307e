"""`dermask web-page`: a folder with a page that outlines photographs in the browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import note, result

if TYPE_CHECKING:
    from dermask.web_page.runtime import Runtime


def web_page(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(help="An exported .onnx file; by default the model that comes along.", show_default=False),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="An unpacked npm package onnxruntime-web, to fetch nothing; by default it is fetched from npm, 33 MB.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Make a web page that outlines photographs in the browser.

    \b
      dermask web-page -o site
      dermask web-page -o site --model first.onnx --runtime node_modules
      python -m http.server -d site            then open http://localhost:8000

    The folder can be put on any web server, which only hands out its files: photographs are opened and outlined in the
    browser and are never sent anywhere. Nothing is loaded from another server either. Research use only.
    """
    from dermask.inference.detector import find_model
    from dermask.web_page.runtime import NAME, VERSION, find_runtime
    from dermask.web_page.site import check_folder, describe_model, write_site

    path = find_model(model)
    describe_model(path)  # what is wrong with it is told before 33 MB are fetched
    check_folder(output, overwrite=overwrite)
    engine = find_runtime(runtime) if runtime else _fetch(output)
    if engine.version != VERSION:
        note(f"{runtime}: {NAME} {engine.version or 'of an unknown version'}; the page is tried with {VERSION}")
    page = write_site(output, path, engine, overwrite=overwrite)
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    note(f"{size / 1e6:.1f} MB; try it: python -m http.server -d {output}, then open http://localhost:8000")
    result(str(page))


def _fetch(output: Path) -> Runtime:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from dermask.web_page.runtime import NAME, VERSION, fetch_runtime

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    is_quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=is_quiet, transient=True) as bar:
        task = bar.add_task(f"fetch {NAME} {VERSION}", total=None)
        return fetch_runtime(
            output / f".{NAME}-{VERSION}.tgz.part",
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_wait=lambda problem, seconds: note(f"{problem}; trying again in {seconds:g} s"),
        )
