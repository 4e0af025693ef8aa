"""Value heads: each owns its representation of the values, its q-values and its loss together."""

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelq.networks.base import Init, initialize

Loss = Literal["huber", "squared"]


class ValueHead(Protocol):
    """What a Q-network asks of its head, which is also an `nn.Module`.

    B may stand for several leading dimensions, such as [T, B]; A is the number of actions.
    """

    def __call__(self, features: Tensor) -> Any:
        """Run `forward`, as every `nn.Module` does."""

    def forward(self, features: Tensor) -> Any:
        """Map features [B, D] to the head's own representation, such as q-values [B, A] or logits [B, A, K]."""

    def q(self, value: Any) -> Tensor:
        """Return the q-values [B, A] of a representation."""

    def loss(
        self, value: Any, action: Tensor, reward: Tensor, discount: Tensor, next_value: Any, next_policy: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss [B], with its gradient, and the replay priority [B], without.

        Args:
            value: the online network's representation at the state.
            action: [B] int64, the action taken there.
            reward: [B], summed over n steps where n > 1.
            discount: [B], γⁿ, and 0 where the episode terminated.
            next_value: the target network's representation at the next state.
            next_policy: [B, A] probabilities of the next action: one-hot for DQN, softmax for Munchausen DQN.
        """


def td_error(
    q: Tensor, action: Tensor, reward: Tensor, discount: Tensor, next_q: Tensor, next_policy: Tensor
) -> Tensor:
    """Return r + γ Σ_a π(a|s') q'(s', a) − q(s, action), [B]; the target carries no gradient.

    Mnih et al. (2015), equation 2, where `next_policy` is one-hot at the maximum; Sutton & Barto (2018), equation 6.9
    (Expected Sarsa), in general.

    Args:
        q, next_q, next_policy: [B, A].
        action, reward, discount: [B]; the action is int64.

    Raises:
        ValueError: the shapes disagree; broadcasting would give a number, and a wrong one.
    """
    if not (
        q.shape == next_q.shape == next_policy.shape and q.shape[:-1] == action.shape == reward.shape == discount.shape
    ):
        raise ValueError(
            "td_error needs q, next_q, next_policy [B, A] and action, reward, discount [B], but the shapes are "
            f"{[tuple(x.shape) for x in (q, next_q, next_policy, action, reward, discount)]}."
        )
    target = (reward + discount * (next_policy * next_q).sum(-1)).detach()  # [B]
    return target - q.gather(-1, action.unsqueeze(-1)).squeeze(-1)  # [B]


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Return ½x² where |x| ≤ δ and δ(|x| − ½δ) outside, elementwise; its gradient is x clipped to ±δ.

    Huber (1964), equation 1.2; with δ = 1 this is the clipped error of Mnih et al. (2015), Methods.
    """
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


class ScalarHead(nn.Module):
    """One number for each action: features [B, D] to q-values [B, A].

    Args:
        in_features: D.
        num_actions: A.
        hidden: width of the hidden ReLU layer; 0 or None makes the head linear.
        dueling: split into two streams, each with its own hidden layer, q = V + A − mean A
            (Wang et al. 2016, equation 9; without their scaling of the gradient into the encoder).
        loss: "huber" (δ = 1, Mnih et al. 2015) or "squared", δ² without the ½ (Dopamine's).
        init: see `pixelq.networks.base.initialize`.

    Raises:
        ValueError: a width is not positive, or `loss` or `init` is unknown.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        *,
        hidden: int | None = 512,
        dueling: bool = False,
        loss: Loss = "huber",
        init: Init = "torch",
    ) -> None:
        super().__init__()
        if in_features < 1 or num_actions < 1 or (hidden or 0) < 0:
            raise ValueError(
                "ScalarHead needs in_features and num_actions of at least 1 and hidden of at least 0, but they are "
                f"{in_features}, {num_actions} and {hidden}."
            )
        if loss not in ("huber", "squared"):
            raise ValueError(f"Unknown loss {loss!r}: it is 'huber' or 'squared'.")
        self.loss_kind = loss
        self.advantage = _stream(in_features, hidden, num_actions)  # without dueling, the q-values themselves
        self.state_value = _stream(in_features, hidden, 1) if dueling else None
        initialize(self, init)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to q-values [B, A]."""
        advantage: Tensor = self.advantage(features)  # [B, A]
        if self.state_value is None:
            return advantage
        state_value: Tensor = self.state_value(features)  # [B, 1]
        return state_value + advantage - advantage.mean(-1, keepdim=True)

    def q(self, value: Tensor) -> Tensor:
        """Return the q-values [B, A], which a scalar head's representation already is."""
        return value

    def loss(
        self,
        value: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: Tensor,
        next_policy: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss [B] of the TD error and its absolute value as priority [B]; see `ValueHead.loss`."""
        error = td_error(value, action, reward, discount, next_value, next_policy)  # [B]
        loss = huber(error) if self.loss_kind == "huber" else error.square()
        return loss, error.detach().abs()


def _stream(in_features: int, hidden: int | None, out_features: int) -> nn.Sequential:
    if not hidden:
        return nn.Sequential(nn.Linear(in_features, out_features))
    return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))
