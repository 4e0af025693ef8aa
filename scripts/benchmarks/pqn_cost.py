"""What one update of PQN demands of the machine, with the acting that it takes."""

from __future__ import annotations

import functools

import torch
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import PQN
from pixelq.agents.experience.rollout import Minibatch
from pixelq.scripts.benchmarks.peer_pixelq_pqn import config_of
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.roofline import Cost, Traffic
from pixelq.scripts.benchmarks.update_cost import ACTIONS, OBSERVATIONS


@functools.cache
def pqn_cost(work: PQNWork, device: torch.device) -> Cost:
    """Return the demands of one update of our agent: a minibatch, forward and backward, and acting for its new steps.

    Args:
        work: Settings of the benchmark.
        device: Device to compute on.
    """
    learner = PQN(OBSERVATIONS, ACTIONS, config_of(work), device=device).learner
    size = work.batch_size
    pixels = torch.randint(256, (size, 4, 84, 84), dtype=torch.uint8, device=device)
    action = torch.zeros(size, dtype=torch.int64, device=device)
    batch = Minibatch(pixels, action, torch.zeros(size, device=device), torch.ones_like(action, dtype=torch.bool))
    learner.update(batch)  # the optimiser creates its state
    with FlopCounterMode(display=False) as counter:
        learner.update(batch)
    with Traffic() as traffic:
        learner.update(batch)
    with FlopCounterMode(display=False) as acting, torch.no_grad():
        learner.network(pixels)
    steps = work.train_every / size  # that are played for an update, in batches
    return Cost((counter.get_total_flops() + steps * acting.get_total_flops()) / 1e9, traffic.bytes / 1e9)
