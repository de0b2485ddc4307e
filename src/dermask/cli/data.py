"""`dermask data`: the table of its commands, one module each."""

from __future__ import annotations

import typer

from dermask.cli import data_check, data_convert, data_download, data_show, data_split, data_stats, data_synthesize

app = typer.Typer(help="Look at labelled photographs, or draw some.", no_args_is_help=True)
app.command()(data_check.check)
app.command()(data_convert.convert)
app.command()(data_download.download)
app.command()(data_show.show)
app.command()(data_split.split)
app.command()(data_stats.stats)
app.command()(data_synthesize.synthesize)
