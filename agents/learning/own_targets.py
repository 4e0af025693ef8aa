"""Target rules of the user's own: what they can look at, and a trial before anything learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.parts import registered
from pixelq.agents.config.trials import ROWS, own_generator, sentence
from pixelq.agents.errors import InvalidConfig
from pixelq.networks import QNetwork

TOLERANCE = 1e-3
"""Greatest distance from 1 of the sum of a policy's probabilities."""


@dataclass(frozen=True)
class TargetInputs:
    """What a target rule can look at: B transitions, A actions, and no gradients.

    With action masks, the values of forbidden actions are −∞, so that neither a maximum nor a softmax chooses them.
    Values that not every rule needs are computed when they are first asked for. With an LSTM, B counts the steps of all
    sequences.
    """

    action: Tensor
    """int64 [B], the actions taken."""
    reward: Tensor
    """[B], summed over n steps."""
    discount: Tensor
    """[B], γⁿ·(1 − terminated)."""
    next_q: Tensor
    """[B, A], the target network's values n steps later."""
    mask: Tensor | None
    """bool [B, A], the actions that were allowed; None if all were."""
    next_mask: Tensor | None
    """bool [B, A], the actions that are allowed n steps later; None if all are."""
    config: AgentConfig
    """The agent's configuration."""
    generator: torch.Generator
    """Source of all random numbers of a rule that draws any, so that a resumed run draws the same."""
    _next_q_online: Callable[[], Tensor]
    _q: Callable[[], Tensor]
    _q_online: Callable[[], Tensor]

    @cached_property
    def next_q_online(self) -> Tensor:
        """[B, A], the online network's values n steps later."""
        return self._next_q_online()

    @cached_property
    def q(self) -> Tensor:
        """[B, A], the target network's values where the actions were taken."""
        return self._q()

    @cached_property
    def q_online(self) -> Tensor:
        """[B, A], the online network's values where the actions were taken."""
        return self._q_online()


TargetRule = Callable[[TargetInputs], tuple[Tensor, Tensor]]
"""A function that returns the reward [B] and the policy [B, A] of the next state; see `register_target`."""


def own_rule(config: AgentConfig, network: QNetwork) -> TargetRule | None:
    """Return the target rule that the configuration names, after a trial; None if it names none.

    Args:
        config: The configuration.
        network: Network of whose values the rule will be asked.

    Raises:
        InvalidConfig: If the rule fails, or returns something else than a reward [B] and a policy [B, A] whose rows are
            probabilities.
    """
    rule: TargetRule | None = registered("target", config.target)
    if rule is None:
        return None
    what = f"the target rule {config.target}"
    width = network.encoder.out_features if network.lstm is None else network.lstm.out_features
    device = next(network.parameters()).device
    with torch.no_grad():
        q = network.head.q(network.head(torch.zeros(ROWS, width, device=device)))  # [B, A]
    q = torch.linspace(-1, 1, q.numel(), device=device).view_as(q)
    reward, discount = (torch.tensor(values, device=device) for values in ((1.0, -0.5), (0.9, 0.0)))
    action = torch.zeros(ROWS, dtype=torch.int64, device=device)
    generator = torch.Generator(device)
    inputs = TargetInputs(
        action=action,
        reward=reward,
        discount=discount,
        next_q=q,
        mask=None,
        next_mask=None,
        config=config,
        generator=generator,
        _next_q_online=lambda: q.flip(1),
        _q=lambda: q,
        _q_online=lambda: q.flip(1),
    )
    with own_generator(what, "inputs.generator", device), sentence(f"{what} cannot be computed"), torch.no_grad():
        given = rule(inputs)
    wanted = [(reward.shape, device), (q.shape, device)]
    parts = given if isinstance(given, tuple) else ()
    tensors = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
    if len(tensors) != len(parts) or [(part.shape, part.device) for part in tensors] != wanted:
        raise InvalidConfig(
            f"{what} must return a reward [{ROWS}] and a policy {[*q.shape]} for {ROWS} transitions and {q.shape[1]} "
            f"actions, as tensors of floating-point numbers on {device}, got {_described(given)}"
        )
    policy = given[1].float()
    if not ((policy >= 0).all() and (policy.sum(1) - 1).abs().max() <= TOLERANCE):
        raise InvalidConfig(
            f"{what} must return a policy of probabilities, at least 0 and with the sum 1 in each row, got "
            f"{[round(value, 3) for value in policy[0].tolist()]!s:.80} in the first of {ROWS} rows"
        )
    return rule


def _described(given: object) -> str:
    """Return what a rule has returned, in short."""
    if isinstance(given, Tensor):
        return f"{str(given.dtype).removeprefix('torch.')} {[*given.shape]} on {given.device}"
    if isinstance(given, tuple):
        return f"({', '.join(map(_described, given[:3]))})"
    return f"{type(given).__name__:.80}"
