"""The `dermask` command: the table of commands, and the one place where an error becomes a line and a status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

import typer

import dermask
from dermask.cli import bench, card, compare, data, demo, evaluate, export, info, predict, train, web_page
from dermask.cli.common import RESEARCH_USE, UsageMistake, complain, result
from dermask.errors import DermaskError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="dermask",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=RESEARCH_USE,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        result(f"dermask {dermask.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Find and outline skin lesions in dermoscopy photographs.

    \b
      dermask demo                                        see all of it in a few minutes
      dermask predict photos/ -o outlined                 with the model that comes along
      dermask train --data labels.json -o runs/first      with your own outlines
      dermask evaluate runs/first --data isic --part Test_v2
      dermask compare runs/first runs/second --data isic --part Test_v2
      dermask export runs/first -o first.onnx             one file that predicts without torch
      dermask web-page -o site                            a page that outlines in the browser
      dermask bench                                       how fast a model is on this machine
    """


app.command()(demo.demo)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(predict.predict)
app.command()(card.card)
app.command()(export.export)
app.command("web-page")(web_page.web_page)
app.command()(bench.bench)
app.add_typer(data.app, name="data")
app.command()(info.info)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    A mistake gets one line on stderr. `DERMASK_TRACEBACK=1` adds the traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: an odd file name must not cost the result
    raise SystemExit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """As `main`, returning the status."""
    try:
        status = _command()(args=list(arguments), prog_name="dermask", standalone_mode=False)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our stdout (`| head`) has left; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageMistake as error:
        return _fail(str(error), WRONG_USAGE)
    except DermaskError as error:
        return _fail(str(error), FAILED)
    except Exception as error:
        if type(error).__name__ == "Abort":  # how the parser passes on a KeyboardInterrupt
            return _fail("interrupted", INTERRUPTED)
        return _from_parser(error) if hasattr(error, "format_message") else _fail_unexpectedly(error)
    if status == INTERRUPTED:  # the parser has caught a KeyboardInterrupt and says nothing
        return _fail("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else DONE


@cache
def _command() -> Callable[..., object]:
    """The parser of all commands; building it takes longer than many a command that is run in a process of others."""
    return typer.main.get_command(app)


def _from_parser(error: Exception) -> int:
    # Typer's parser errors are known by their shape: they belong to click or to typer's own copy of it by version.
    command = getattr(getattr(error, "ctx", None), "command_path", "dermask")
    message: str = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        complain(message)  # the help itself
    else:
        complain(f"{command}: {message.rstrip('.')}; see {command} --help")
    return WRONG_USAGE


def _fail_unexpectedly(error: Exception) -> int:
    message = " ".join(str(error).split())
    cure = "" if _wants_traceback() else " (set DERMASK_TRACEBACK=1 to see where)"
    kind = "" if isinstance(error, OSError) else f"unexpected {type(error).__name__}: "
    return _fail(f"{kind}{message}{cure}", FAILED)


def _fail(line: str, status: int) -> int:
    if _wants_traceback() and status == FAILED:
        import traceback

        traceback.print_exc()
    complain(f"dermask: {line}")
    return status


def _wants_traceback() -> bool:
    return os.environ.get("DERMASK_TRACEBACK", "") not in ("", "0")
