"""Where a trained model comes from, for its exported file, which travels without its run's folder.

A run keeps this in files of its own: data.json, its photographs and first weights, and environment.json, the commit,
the versions and the device. An exported file takes both along, without the places of the machine that trained it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermask.files import read_json_object
from dermask.wording import plain_path

_PLACES = ("data", "images", "val", "val_images", "split_file", "weights")
_SOURCES = (*_PLACES, "part", "val_part", "split", "split_hash", "fold", "weights_hash")
_ENVIRONMENT = (
    "commit",
    "started",
    "python",
    "packages",
    "photographs",
    "device",
    "device_name",
    "precision",
    "threads",
    "processes",
)


def describe_run(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """What the run of a checkpoint says of its making.

    Args:
        checkpoint: A file that may lie in the folder `checkpoints` of a run.

    Returns:
        JSON-ready `sources` and `environment`, as data.json and environment.json have them, of each path its last part;
        empty where the checkpoint lies in no run.

    Raises:
        InputError: A file of the run is damaged; names it.
    """
    if checkpoint.parent.name != "checkpoints":
        return {}
    run_dir = checkpoint.parent.parent
    sources = _chosen(run_dir / "data.json", _SOURCES)
    for name in _PLACES:
        if name in sources:
            sources[name] = plain_path(str(sources[name]))
    environment = _chosen(run_dir / "environment.json", _ENVIRONMENT)
    return {name: part for name, part in (("sources", sources), ("environment", environment)) if part}


def _chosen(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The named values of a run's file, those that are null left out."""
    content = read_json_object(path)
    return {name: content[name] for name in names if content.get(name) is not None}
