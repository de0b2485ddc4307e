"""Pages from templates: one file each, with its styles, scripts and pictures inside, that loads nothing."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from dermask import __version__
from dermask.inference.overlay import CLASS_COLOURS, TRUTH_COLOUR
from dermask.report.charts import Chart


def render_page(template: str, context: Mapping[str, Any], *, charts: Iterable[Chart] = ()) -> str:
    """The HTML of a page; every value of `context` is escaped unless a template marks it as safe.

    Args:
        template: Its file name among the templates.
        context: What the template shows.
        charts: What plotly draws; without any, plotly is left out of the page.
    """
    drawn = list(charts)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dermask.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["colour"] = _is_colour
    shared = {
        "version": __version__,
        "made_on": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "truth_colour": css_colour(TRUTH_COLOUR),
        "pred_colour": css_colour(CLASS_COLOURS[0]),
        "figures": {chart.key: chart.figure for chart in drawn},
        "plotly_js": get_plotlyjs() if drawn else "",
    }
    return environment.get_template(template).render(shared | dict(context))


def _is_colour(text: object) -> bool:
    """Whether a table's cell is a colour such as ``#c08a70``, which is then shown beside its name."""
    return isinstance(text, str) and re.fullmatch("#[0-9a-f]{6}", text) is not None


def css_colour(colour: tuple[int, int, int]) -> str:
    """An RGB colour as CSS writes it."""
    red, green, blue = colour
    return f"rgb({red}, {green}, {blue})"
