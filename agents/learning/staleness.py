"""How stale the LSTM states are from which learning starts."""

from __future__ import annotations

import torch

from pixelq.agents.experience.replay import Replay
from pixelq.agents.experience.store import Store
from pixelq.agents.experience.windows import SequenceWindow
from pixelq.networks import QNetwork

HISTORY = 200
"""Greatest number of steps before a sequence that are read again to compute the state of the current network."""
PROBES = 4
"""Number of sequences that are compared for a row of metrics."""
PROBE_EVERY = 100
"""Number of updates between two comparisons; fewer change little."""


@torch.no_grad()
def q_discrepancy(network: QNetwork, replay: Replay) -> float | None:
    """Return ‖q(h) − q(h*)‖₂ / max |q(h*)| after the burn-in, the mean over some sequences of the replay.

    h is the state from which learning starts: the stored one (or zeros) after the burn-in. h* is the state that the
    network would have if it had read the episode with its current weights, at most `HISTORY` steps of it, or as many as
    the replay has. The discrepancy is large where the stored states are stale.

    R2D2's ΔQ (section 3, figure 1) compares with the state that acting stored, computed with the weights of that time,
    at the first and the last step of a sequence, and divides by max |q(h)|.

    Args:
        network: The online network; noisy layers are without noise.
        replay: Replay whose sequences are compared, spread evenly over their age.

    Returns:
        The discrepancy, or None for a replay of transitions or without a complete sequence.
    """
    window = replay.window
    if not isinstance(window, SequenceWindow) or not len(replay):
        return None
    # Sequences
    rows = torch.from_numpy(window.starts(replay.first, replay.time - window.ahead))
    row = rows[torch.linspace(0, len(rows) - 1, min(PROBES, len(rows))).long()].to(replay.device)  # [P]
    batch = window.gather(row)
    # Values from both states
    segment = batch.segment.steps(0, batch.burn_in + 1, batch.segment.state)
    burned_in = segment.features(network, batch.burn_in)[0]  # [P, H]
    truth = window.history(row, HISTORY).features(network, HISTORY - 1)[0]
    q, true_q = (network.head.q(network.head(features)).float() for features in (burned_in, truth))  # [P, A]
    return float(((q - true_q).norm(dim=1) / true_q.abs().amax(1).clamp(min=1e-6)).mean())


def q_discrepancy_of_row(network: QNetwork, replay: Store, updates: int, new_updates: int) -> float | None:
    """Return `q_discrepancy` for a row of metrics, or None where no comparison is due, or there is no replay.

    A comparison is due after the first update and after each `PROBE_EVERY`-th: reading that much history costs as much
    as acting some hundred times.

    Args:
        network, replay: See `q_discrepancy`.
        updates: Number of updates so far.
        new_updates: Number of those since the last row.
    """
    if not isinstance(replay, Replay):
        return None
    before, now = (-(-count // PROBE_EVERY) for count in (updates - new_updates, updates))
    return q_discrepancy(network, replay) if before < now else None
