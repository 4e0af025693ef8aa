"""The limits of the machine, and what one update demands of it: arithmetic and memory traffic."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.learning.gradient import has_bfloat16
from pixelq.envs import is_atari, make_vec
from pixelq.scripts.benchmarks.timing import wait_for
from pixelq.scripts.benchmarks.update_cost import ACTIONS, OBSERVATIONS, random_batch
from pixelq.scripts.benchmarks.work import Work

SIDE = 2048
"""Rows and columns of the matrices whose product is timed."""
COPIED = 256 * 2**20
"""Bytes of the copy that is timed."""
REPEATS = 5
"""Number of measurements, of which the best counts."""
CALLS = {"cpu": 1, "cuda": 20}
"""Calls between two looks at the clock; waiting for a GPU after each would take longer than the call."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Cost:
    """Demands of one update."""

    gflop: float
    """10⁹ multiplications and additions of matrix products and convolutions: forward, backward, target."""
    gigabytes: float
    """Gigabytes that its operations read and write, each operand once, even if it stays in a cache."""


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A counter of the bytes of operands and results of all operations that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.nbytes for t in tensors)
        return out


@functools.cache
def update_cost(work: Work, device: torch.device) -> Cost:
    """Return the demands of one update of our agent.

    Args:
        work: Settings of the benchmark.
        device: Device to compute on.
    """
    config = AgentConfig.from_dict(
        {
            "encoder": work.network,
            "hidden": work.hidden,
            "batch_size": work.batch_size,
            "max_grad_norm": work.max_grad_norm,
            "precision": work.precision,
        }
    )
    space: Any = OBSERVATIONS
    actions: Any = ACTIONS
    if not is_atari(work.env):
        envs = make_vec(work.env, 1)
        space, actions = envs.single_observation_space, envs.single_action_space
        config = replace(config, frame_stack=1)
    learner = DQN(space, actions, config, device=device).learner
    batch = random_batch(config, device, space, int(actions.n))
    learner.update(batch)  # the optimiser creates its state
    with FlopCounterMode(display=False) as counter:
        learner.update(batch)
    with Traffic() as traffic:
        learner.update(batch)
    return Cost(counter.get_total_flops() / 1e9, traffic.bytes / 1e9)


def measure_peaks(device: torch.device) -> dict[str, float]:
    """Return GFLOP/s of a large matrix product in each precision that the device has, and GB/s of a copy."""
    peaks = {}
    # By PyTorch's default convolutions may round their operands to TF32 and matrix products may not: measure with it.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for name, dtype in PRECISIONS.items():
        if name == "bfloat16" and not has_bfloat16(device):
            continue
        a, b = torch.randn(2, SIDE, SIDE, device=device).to(dtype)
        peaks[f"gflop_per_second_{name}"] = 2 * SIDE**3 / 1e9 / _best(lambda a=a, b=b: a @ b, device)
    source, target = torch.ones(2, COPIED, dtype=torch.uint8, device=device)
    peaks["gigabytes_per_second"] = 2 * COPIED / 1e9 / _best(lambda: target.copy_(source), device)
    return peaks


def _best(way: Any, device: torch.device) -> float:
    """Return the least seconds of a call, over `REPEATS` measurements after a first that does not count."""
    seconds = []
    for _ in range(1 + REPEATS):
        wait_for(device)
        start = time.perf_counter()
        for _ in range(CALLS[device.type]):
            way()
        wait_for(device)
        seconds.append((time.perf_counter() - start) / CALLS[device.type])
    return min(seconds[1:])
