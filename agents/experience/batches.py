"""Learning with memory: what heads are given at the steps of a sequence, and what comes of a sequence's steps.

Burn-in, stored states and priorities are those of Kapturowski et al. 2019, "Recurrent Experience Replay in
Distributed Reinforcement Learning" (R2D2), sections 2.3 and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pixelq.networks import LastStep, LSTMState, QNetwork

if TYPE_CHECKING:
    pass


class Batch(NamedTuple):
    """Transitions over up to n steps; S is the frame stack."""

    obs: Tensor  # [B, S, *frame] or, without a stack, [B, *observation]
    action: Tensor  # [B] int64
    reward: Tensor  # [B] float32, clipped and summed over the steps
    discount: Tensor  # [B] float32, γᵐ·(1 − terminated)
    next_obs: Tensor  # like obs
    weight: Tensor | None = None  # [B] float32, importance weights; None: all are 1
    row: Tensor | None = None  # [B] int64, rows of the ring where the transitions start


class Stretch(NamedTuple):
    """What a network with memory goes through: W steps of B environments, time first."""

    obs: Tensor  # [W, B, S, *frame] or [W, B, *observation]
    state: LSTMState  # [B, H] each, before the first step
    episode_start: Tensor  # [W, B] bool
    last: LastStep  # [W, B]

    def steps(self, begin: int, end: int, state: LSTMState) -> Stretch:
        """The steps [begin, end), which are entered with another state."""
        last = LastStep(self.last.action[begin:end], self.last.reward[begin:end])
        return Stretch(self.obs[begin:end], state, self.episode_start[begin:end], last)


class Sequences(NamedTuple):
    """Stretches of W = L + n steps, of which U = L − burn-in are learned from. M = U · B, time first.

    They may run through an episode's end into the next episode.
    """

    stretch: Stretch
    burn_in: int
    action: Tensor  # [M] int64, of the steps that are learned from, like all that follows
    reward: Tensor  # [M] float32, clipped and summed over the steps
    discount: Tensor  # [M] float32, γᵐ·(1 − terminated)
    next_step: Tensor  # [U, B] int64, the step after the burn-in at which the return bootstraps
    is_step: Tensor  # [U, B] bool, False where an episode's last observation stands, from which there is no step
    weight: Tensor | None = None  # [B] float32, importance weights; None: all are 1
    row: Tensor | None = None  # [B] int64, rows of the ring where the sequences start


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
