"""Learning with memory: what heads are given at the steps of a sequence, and what comes of a sequence's steps.

Burn-in, stored states and priorities are those of Kapturowski et al. 2019, "Recurrent Experience Replay in
Distributed Reinforcement Learning" (R2D2), sections 2.3 and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixelq.agents.replay import Replay
from pixelq.agents.windows import Batch, Sequences, SequenceWindow, Stretch
from pixelq.networks import QNetwork

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN

HISTORY = 200
"""Most steps before a sequence that are gone through again to know the state that the network would have now."""
PROBES = 4
"""Sequences whose q-values are compared for a row of metrics."""
PROBE_EVERY = 100
"""Updates between two such comparisons; fewer change little."""


class TransitionFeatures:
    """What heads are given at both ends of transitions: the encoder's features [B, D].

    Args:
        batch: the transitions.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def now(self, network: QNetwork) -> Tensor:
        """At the states where the actions were taken."""
        return network.encoder(self.batch.obs)  # type: ignore[no-any-return]

    def after(self, network: QNetwork) -> Tensor:
        """At the states n steps on."""
        return network.encoder(self.batch.next_obs)  # type: ignore[no-any-return]


class SequenceFeatures:
    """The same at the steps of sequences that are learned from: the memory's features [M, H].

    Each network goes through a sequence once: first through the burn-in, which gives a state and no gradient, then
    through all the rest, from which both ends of every transition are taken.

    Args:
        batch: the sequences.
    """

    def __init__(self, batch: Sequences) -> None:
        self.batch = batch
        self._features: dict[QNetwork, Tensor] = {}  # [n + U, B, H], of a network

    def now(self, network: QNetwork) -> Tensor:
        """At the states where the actions were taken."""
        return self._after_burn_in(network)[: len(self.batch.is_step)].flatten(0, 1)

    def after(self, network: QNetwork) -> Tensor:
        """At the states n steps on, or where the episode ended before."""
        features = self._after_burn_in(network)
        step = self.batch.next_step.unsqueeze(-1).expand(-1, -1, features.shape[-1])  # [U, B, H]
        return features.gather(0, step).flatten(0, 1)

    def _after_burn_in(self, network: QNetwork) -> Tensor:
        if network not in self._features:
            learns = next(network.parameters()).requires_grad  # the target network does not
            with torch.set_grad_enabled(learns):
                self._features[network] = remembered(network, self.batch.stretch, self.batch.burn_in)
        return self._features[network]


def features_of(batch: Batch | Sequences) -> TransitionFeatures | SequenceFeatures:
    """What heads are given of a batch, by network."""
    return SequenceFeatures(batch) if isinstance(batch, Sequences) else TransitionFeatures(batch)


def remembered(network: QNetwork, stretch: Stretch, burn_in: int) -> Tensor:
    """Features [W − burn_in, B, H] at the steps of a stretch after the burn-in, through which no gradient goes."""
    if burn_in > 0:
        with torch.no_grad():
            _, state = network.remember(*stretch.steps(0, burn_in, stretch.state))
        torch.clear_autocast_cache()  # some versions of PyTorch reuse the weights cast here, which have no gradient
        stretch = stretch.steps(burn_in, len(stretch.obs), state)
    return network.remember(*stretch)[0]


def mean_of(values: Tensor, batch: Batch | Sequences, weight: Tensor | None = None) -> Tensor:
    """The mean [] over transitions, or over the steps of all sequences, each times the weight of what was drawn.

    Args:
        values: [B], or [M] for sequences.
        batch: what they belong to.
        weight: [B]; None: all are 1.
    """
    if isinstance(batch, Batch):
        return (values if weight is None else values * weight).mean()
    of_steps = torch.where(batch.is_step, values.view_as(batch.is_step), 0.0)  # [U, B]
    return (of_steps if weight is None else of_steps * weight).sum() / batch.is_step.sum().clamp(min=1)


def priorities(priority: Tensor, batch: Batch | Sequences, eta: float) -> Tensor:
    """The priorities [B] of what was drawn; a sequence's is η max + (1 − η) mean over its steps (R2D2, section 2.3).

    Args:
        priority: [B], or [M] for sequences: as the head has it, |δ| for a scalar one.
        batch: what was drawn.
        eta: η.
    """
    if isinstance(batch, Batch):
        return priority
    of_steps = torch.where(batch.is_step, priority.view_as(batch.is_step), 0.0)  # [U, B]
    return eta * of_steps.amax(0) + (1 - eta) * of_steps.sum(0) / batch.is_step.sum(0).clamp(min=1)


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


def q_discrepancy_of_row(agent: DQN, replay: Replay, updates: int) -> float | None:
    """``q_discrepancy`` for a row of metrics with the last so many updates; None if no comparison falls into it.

    It is made after the first update, and then in the rows with each ``PROBE_EVERY``-th: to go through so much history
    again costs as much as to act some hundred times.
    """
    before, now = (-(-count // PROBE_EVERY) for count in (agent.updates - updates, agent.updates))
    return q_discrepancy(agent.network, replay) if before < now else None
