"""Put a run's best checkpoint into the package, as the model that comes along.

    uv run python tools/package_model.py runs/isic

Weights become float16, which halves the file; figures in docs/recipes.md are of the packaged file, not of the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ASSET = Path(__file__).parents[1] / "src" / "dermask" / "assets" / "small.safetensors"


def main() -> None:
    """Read the run, halve the weights, write the asset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="The run's folder.")
    parser.add_argument("-o", "--output", type=Path, default=ASSET, help="By default the package's own model.")
    arguments = parser.parse_args()
    source = arguments.run / "checkpoints" / "best.safetensors"
    with safe_open(source, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in load_file(source).items()
    }
    overflowing = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if overflowing:
        raise SystemExit(f"{source}: {overflowing[0]} does not fit float16")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = arguments.output.with_suffix(".part")
    save_file(tensors, temporary, metadata)
    temporary.replace(arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
