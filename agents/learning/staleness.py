"""How stale the LSTM states are that learning begins with."""

from __future__ import annotations

import torch

from pixelq.agents.experience.batches import remembered
from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.windows import SequenceWindow
from pixelq.networks import QNetwork

HISTORY = 200
"""Most steps before a sequence that are gone through again to know the state that the network would have now."""


PROBES = 4
"""Sequences whose q-values are compared for a row of metrics."""


PROBE_EVERY = 100
"""Updates between two such comparisons; fewer change little."""


@torch.no_grad()
def q_discrepancy(network: QNetwork, replay: Replay) -> float | None:
    """‖q(h) − q(h*)‖₂ / max |q(h*)| at the first step after the burn-in, a mean over some sequences of the replay.

    h is the state that learning begins with, from the stored one (or zeros) through the burn-in; h* the one that the
    network would have if it had gone through the episode with its present weights. It goes through at most ``HISTORY``
    steps, or what the replay has of them. None where there is no sequence to compare.

    So it tells how stale the states are that are learned from. R2D2's ΔQ (section 3, figure 1) asks for the same at a
    sequence's first and last step. It compares with the state that was stored there while acting, with the weights of
    then, and divides by max |q(h)|.

    Args:
        network: the online network; noisy layers without noise.
        replay: where sequences are taken from, evenly over their age.
    """
    window = replay.window
    if not isinstance(window, SequenceWindow) or not len(replay):
        return None
    rows = torch.from_numpy(window.starts(replay.first, replay.time - window.ahead))
    row = rows[torch.linspace(0, len(rows) - 1, min(PROBES, len(rows))).long()].to(replay.device)  # [P]
    batch = window.gather(row)
    stretch = batch.stretch.steps(0, batch.burn_in + 1, batch.stretch.state)
    burned_in = remembered(network, stretch, batch.burn_in)[0]  # [P, H]
    truth = remembered(network, window.history(row, HISTORY), HISTORY - 1)[0]
    q, true_q = (network.head.q(network.head(features)).float() for features in (burned_in, truth))  # [P, A]
    return float(((q - true_q).norm(dim=1) / true_q.abs().amax(1).clamp(min=1e-6)).mean())


def q_discrepancy_of_row(network: QNetwork, replay: Replay, updates: int, new_updates: int) -> float | None:
    """``q_discrepancy`` for a row of metrics with the last so many updates; None if no comparison falls into it.

    It is made after the first update, and then in the rows with each ``PROBE_EVERY``-th: to go through so much history
    again costs as much as to act some hundred times.
    """
    before, now = (-(-count // PROBE_EVERY) for count in (updates - new_updates, updates))
    return q_discrepancy(network, replay) if before < now else None
