"""Several processes that train one model: started by torchrun, nothing else to change.

`torchrun --nproc-per-node 4 -m dermask train ...` sets RANK, WORLD_SIZE and LOCAL_RANK for each process. Every process
computes its share of each batch, gradients are averaged, and the first process alone writes files. All of them
must see the same run folder, since each reads the checkpoint when a run is resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from dermask.errors import SettingError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Which one, from 0.
        world_size: How many.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value averaged over the processes; every process must call it."""
        if self.world_size == 1:
            return values
        # On the CPU in float64, so that one process and many round alike; NCCL needs the GPU.
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.world_size).tolist(), strict=True))

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all processes, dealt back in the order in which `rank::world_size` took them."""
        if self.world_size == 1:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(parts, items)
        return [part[row] for row in range(max(map(len, parts))) for part in parts if row < len(part)]


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if it did, and leave them at the end.

    Args:
        device: `auto`, `cpu`, `cuda` or a name as torch knows it; with several processes on GPUs each takes its own.

    Raises:
        SettingError: There is no such device.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1 or dist.is_initialized():
        several = dist.is_available() and dist.is_initialized()
        yield Processes(dist.get_rank() if several else 0, dist.get_world_size() if several else 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name; `auto` prefers a GPU.

    Raises:
        SettingError: torch does not know the name or has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingError(f"device {name!r}", "torch finds no GPU here", "use auto or cpu")
    try:
        return torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
    except RuntimeError:
        raise SettingError(f"device {name!r}", "is unknown", "use auto, cpu or cuda") from None


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16 for `precision`; `auto` takes bfloat16 where the device multiplies it faster."""
    if setting == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if setting == "bf16" else torch.float32


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # AMX multiplies bfloat16 tiles and AVX512-BF16 pairs of them; other CPUs would emulate both. A training step of
    # `small` is 1.7 times as fast on the latter. torch tells through private functions alone.
    tests = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(test() for test in tests if test is not None)
