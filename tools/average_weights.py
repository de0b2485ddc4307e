"""The mean of the weights of trained networks, as one checkpoint: between two stages often lies a better network.

    uv run python tools/average_weights.py runs/first runs/second --shares 0.25 0.75 -o mean.safetensors

The networks must be of one architecture, and the later ones trained on from the first: the mean of networks that began
apart is none (Wortsman et al. 2022, arXiv:2109.01903). Statistics of batch norm are averaged too. The file says of what
it is the mean, and otherwise what the last of them says of itself; `dermask export` takes it. Judge it on validation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from dermask.errors import DermaskError, WeightsError
from dermask.export.provenance import describe_run
from dermask.files import replacing
from dermask.inference.detector import find_model, model_fingerprint, read_checkpoint_header
from dermask.models.weights import read_state


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="runs' folders or checkpoints; best.safetensors of a run")
    parser.add_argument("--shares", type=float, nargs="+", help="one for each, above 0; equal ones if not given")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    shares = options.shares or [1.0] * len(options.models)
    if len(shares) != len(options.models) or min(shares) <= 0:
        raise SystemExit(f"--shares: {len(options.models)} numbers above 0 are needed, one for each model")
    try:
        write_mean([find_model(model) for model in options.models], shares, options.output)
    except DermaskError as error:
        raise SystemExit(str(error)) from None
    print(options.output)


def write_mean(paths: Sequence[Path], shares: Sequence[float], output: Path) -> None:
    """Write the mean of checkpoints.

    Args:
        paths: `.safetensors` files with weights alone, such as a run's best.safetensors; at least one.
        shares: How much each counts, above 0; only their ratios matter.
        output: The file, replaced if it is there.

    Raises:
        WeightsError: A file is no checkpoint, or they are of different networks.
    """
    total = sum(shares)
    parts = [share / total for share in shares]
    headers = [read_checkpoint_header(path) for path in paths]  # first: a file of another kind is refused by name
    mean = average([read_state(path) for path in paths], parts, names=[str(path) for path in paths])
    header = headers[-1]
    header["mean_of"] = [
        {"model": name_of(path), "sha256": model_fingerprint(path), "share": round(part, 6)}
        for path, part in zip(paths, parts, strict=True)
    ]
    if run := describe_run(paths[-1]):
        header["run"] = run
    with replacing(output) as temporary:
        save_file(mean, temporary, {"dermask": json.dumps(header)})


def average(
    weights: Sequence[Mapping[str, torch.Tensor]], parts: Sequence[float], *, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """The mean of each tensor, in float64 and back in its own type; counters are the last one's."""
    last = weights[-1]
    for name, tensors in zip(names, weights, strict=True):
        if {key: value.shape for key, value in tensors.items()} != {key: value.shape for key, value in last.items()}:
            raise WeightsError(
                name, f"is of another network than {names[-1]}", "average runs that go on from each other"
            )
    mean = dict(last)
    for key, value in last.items():
        if value.is_floating_point():
            stack = torch.stack([part * tensors[key].double() for part, tensors in zip(parts, weights, strict=True)])
            mean[key] = stack.sum(dim=0).to(value.dtype)
    return mean


def name_of(path: Path) -> str:
    """A run's name, or a file's."""
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.name


if __name__ == "__main__":
    main()
