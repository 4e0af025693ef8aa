"""Batches: transitions and sequences that an update learns from, and what the heads receive from them.

Burn-in, stored states and the priorities of sequences are those of Kapturowski et al. 2019, "Recurrent Experience
Replay in Distributed Reinforcement Learning" (R2D2), sections 2.3 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pixelq.networks import LastStep, LSTMState, QNetwork


class Batch(NamedTuple):
    """Transitions over m ≤ n steps; S is the number of stacked frames and A that of actions.

    Attributes:
        obs: [B, S, *frame] or, without a stack, [B, *observation].
        action: [B] int64.
        reward: [B] float32, clipped and summed over the steps.
        discount: [B] float32, γᵐ·(1 − terminated).
        next_obs: Like `obs`, after the steps.
        weight: [B] float32, importance weights; None if all are 1.
        row: [B] int64, rows of the ring where the transitions start; None for transitions of no ring.
        mask: [B, A] bool, the actions that are allowed; None if all are.
        next_mask: [B, A] bool, the actions that are allowed at `next_obs`; None if all are.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    weight: Tensor | None = None
    row: Tensor | None = None
    mask: Tensor | None = None
    next_mask: Tensor | None = None

    @property
    def steps(self) -> int:
        """Number of steps that `mean` is over."""
        return len(self.action)

    def features(self) -> Batch:
        """Return what has `now` and `after`: of transitions the batch itself."""
        return self

    def now(self, network: QNetwork) -> Tensor:
        """Return the encoder's features [B, D] at the states where the actions were taken."""
        return network.encoder(self.obs)  # type: ignore[no-any-return]

    def after(self, network: QNetwork) -> Tensor:
        """Return the encoder's features [B, D] at the states n steps later."""
        return network.encoder(self.next_obs)  # type: ignore[no-any-return]

    def weights(self) -> Tensor | None:
        """Return the importance weights of the transitions, [B]; None if all are 1."""
        return self.weight

    def mean(self, values: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean [] of values [B], each times its weight [B]; without weights all are 1."""
        return (values if weight is None else values * weight).mean()


class Segment(NamedTuple):
    """Consecutive steps that a network with an LSTM reads: W steps of B environments, time first."""

    obs: Tensor  # [W, B, S, *frame] or [W, B, *observation]
    state: LSTMState  # [B, H] each, before the first step
    episode_start: Tensor  # [W, B] bool
    last: LastStep  # [W, B]

    def steps(self, begin: int, end: int, state: LSTMState) -> Segment:
        """Return the steps [begin, end), with another state before the first of them."""
        last = LastStep(self.last.action[begin:end], self.last.reward[begin:end])
        return Segment(self.obs[begin:end], state, self.episode_start[begin:end], last)

    def features(self, network: QNetwork, burn_in: int) -> Tensor:
        """Return the LSTM's features [W − burn_in, B, H] at the steps after the burn-in.

        No gradient flows through the burn-in, which only gives the state at its end.
        """
        segment = self
        if burn_in > 0:
            with torch.no_grad():
                _, state = network.remember(*self.steps(0, burn_in, self.state))
            torch.clear_autocast_cache()  # some versions of PyTorch reuse the weights cast here, which have no gradient
            segment = self.steps(burn_in, len(self.obs), state)
        return network.remember(*segment)[0]


class Sequences(NamedTuple):
    """Segments of W = L + n steps, of which U = L − burn-in are learned from. M = U · B, time first.

    They may run through an episode's end into the next episode.
    """

    segment: Segment
    burn_in: int
    action: Tensor  # [M] int64, of the steps that are learned from, like all fields below
    reward: Tensor  # [M] float32, clipped and summed over the steps
    discount: Tensor  # [M] float32, γᵐ·(1 − terminated)
    next_step: Tensor  # [U, B] int64, the step after the burn-in at which the return bootstraps
    is_step: Tensor  # [U, B] bool, False at an episode's last observation, from which no step is taken
    weight: Tensor | None = None  # [B] float32, importance weights; None: all are 1
    row: Tensor | None = None  # [B] int64, rows of the ring where the sequences start
    mask: Tensor | None = None  # [M, A] bool, the actions that are allowed; None: all are
    next_mask: Tensor | None = None  # [M, A] bool, the actions that are allowed where the return bootstraps

    @property
    def steps(self) -> Tensor:
        """Number of steps that `mean` is over, []."""
        return self.is_step.sum()

    def features(self) -> SequenceFeatures:
        """Return what has `now` and `after`, as `Batch` has them."""
        return SequenceFeatures(self)

    def weights(self) -> Tensor | None:
        """Return the importance weights of the steps, which are those of their sequences, [M]; None if all are 1."""
        return None if self.weight is None else self.weight.expand_as(self.is_step).flatten()

    def mean(self, values: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean [] of values [M] over all steps, each times the weight [B] of its sequence."""
        of_steps = self._of_steps(values)
        return (of_steps if weight is None else of_steps * weight).sum() / self.is_step.sum().clamp(min=1)

    def row_priorities(self, priority: Tensor, eta: float) -> Tensor:
        """Return the priorities [B] of the sequences, η max + (1 − η) mean over their steps (R2D2, section 2.3).

        Args:
            priority: Priority of each step as the head gives it, [M]; |δ| for a scalar head.
            eta: η.
        """
        of_steps = self._of_steps(priority)
        return eta * of_steps.amax(0) + (1 - eta) * of_steps.sum(0) / self.is_step.sum(0).clamp(min=1)

    def _of_steps(self, values: Tensor) -> Tensor:
        """Return values [M] as [U, B], with 0 where there is no step."""
        return torch.where(self.is_step, values.view_as(self.is_step), 0.0)


class SequenceFeatures:
    """LSTM's features [M, H] at both ends of the transitions in sequences.

    Each network reads a sequence once: first the burn-in, which gives a state and no gradient, then all the other
    steps, from which both ends of every transition are taken.

    Args:
        batch: The sequences.
    """

    def __init__(self, batch: Sequences) -> None:
        self.batch = batch
        self._features: dict[QNetwork, Tensor] = {}  # [n + U, B, H] of each network

    def now(self, network: QNetwork) -> Tensor:
        """Return the features at the states where the actions were taken."""
        return self._after_burn_in(network)[: len(self.batch.is_step)].flatten(0, 1)

    def after(self, network: QNetwork) -> Tensor:
        """Return the features at the states n steps later, or where the episode ended before."""
        features = self._after_burn_in(network)
        step = self.batch.next_step.unsqueeze(-1).expand(-1, -1, features.shape[-1])  # [U, B, H]
        return features.gather(0, step).flatten(0, 1)

    def _after_burn_in(self, network: QNetwork) -> Tensor:
        if network not in self._features:
            learns = any(weight.requires_grad for weight in network.parameters())  # the target network does not
            with torch.set_grad_enabled(learns):
                self._features[network] = self.batch.segment.features(network, self.batch.burn_in)
        return self._features[network]
