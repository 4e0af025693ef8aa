"""Value heads: each owns its representation of the values, its q-values and its loss together. Here: the mean."""

from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelq.networks.streams import ActionStreams, Noise

Loss = Literal["huber", "squared"]


class HeadLoss(NamedTuple):
    """What a head makes of a batch."""

    loss: Tensor  # [B], with its gradient
    priority: Tensor  # [B], for prioritised replay; without gradient
    q: Tensor  # [B] q-values of the actions taken, as far as the loss had to know them; without gradient


class ValueHead(Protocol):
    """What a Q-network asks of its head, which is also an `nn.Module`.

    B may stand for several leading dimensions, such as [T, B]; A is the number of actions.
    """

    streams: ActionStreams

    def __call__(self, features: Tensor, noise: Noise | None = None) -> Any:
        """Run `forward`, as every `nn.Module` does."""

    def forward(self, features: Tensor, noise: Noise | None = None) -> Any:
        """Map features [B, D] to the head's own representation, such as q-values [B, A] or logits [B, A, K]."""

    def q(self, value: Any) -> Tensor:
        """Return the q-values [B, A] of a representation, in units of the return."""

    def loss(
        self,
        value: Any,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: Any,
        next_policy: Tensor,
        generator: torch.Generator | None = None,
    ) -> HeadLoss:
        """Return the loss, the priorities and the q-values of the actions, each [B].

        Args:
            value: the online network's representation at the state.
            action: [B] int64, the action taken there.
            reward: [B], summed over n steps where n > 1.
            discount: [B], γⁿ, and 0 where the episode terminated.
            next_value: the target network's representation at the next state.
            next_policy: [B, A] probabilities of the next action: one-hot for DQN, softmax for Munchausen DQN.
            generator: of what the loss draws, such as the fractions of IQN; None for PyTorch's own.
        """


def check_shapes(num_actions: int, action: Tensor, reward: Tensor, discount: Tensor, next_policy: Tensor) -> None:
    """Check that action, reward, discount are [B] and next_policy is [B, A].

    Raises:
        ValueError: the shapes disagree; broadcasting would give a number, and a wrong one.
    """
    if not (action.shape == reward.shape == discount.shape and next_policy.shape == (*action.shape, num_actions)):
        raise ValueError(
            f"A loss needs action, reward, discount [B] and next_policy [B, {num_actions}], but the shapes are "
            f"{[tuple(x.shape) for x in (action, reward, discount, next_policy)]}."
        )


def check_outputs(streams: ActionStreams, outputs: int) -> None:
    """Check that the streams give so many numbers for each action.

    Raises:
        ValueError: they give another number.
    """
    if streams.outputs != outputs:
        raise ValueError(f"This head needs streams with outputs={outputs}, but they have {streams.outputs}.")


def td_error(
    q: Tensor,
    action: Tensor,
    reward: Tensor,
    discount: Tensor,
    next_q: Tensor,
    next_policy: Tensor,
    rescaling: bool = False,
) -> Tensor:
    """Return r + γ Σ_a π(a|s') q'(s', a) − q(s, action), [B]; the target carries no gradient.

    Mnih et al. (2015), equation 2, where `next_policy` is one-hot at the maximum; Sutton & Barto (2018), equation 6.9
    (Expected Sarsa), in general.

    Args:
        q, next_q, next_policy: [B, A].
        action, reward, discount: [B]; the action is int64.
        rescaling: q and next_q are h(q); the error is h(r + γ Σ π h⁻¹(next_q)) − q (Pohlen et al. 2018, equation 1).

    Raises:
        ValueError: the shapes disagree; broadcasting would give a number, and a wrong one.
    """
    check_shapes(q.shape[-1], action, reward, discount, next_policy)
    if not q.shape == next_q.shape == next_policy.shape:
        raise ValueError(f"td_error needs q and next_q [B, A], but the shapes are {[*q.shape]} and {[*next_q.shape]}.")
    next_q = rescale_inverse(next_q) if rescaling else next_q
    target = (reward + discount * (next_policy * next_q).sum(-1)).detach()  # [B]
    return (rescale(target) if rescaling else target) - q.gather(-1, action.unsqueeze(-1)).squeeze(-1)  # [B]


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Return ½x² where |x| ≤ δ and δ(|x| − ½δ) outside, elementwise; its gradient is x clipped to ±δ.

    Huber (1964), equation 1.2; with δ = 1 this is the clipped error of Mnih et al. (2015), Methods.
    """
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return h(x) = sign(x)(√(|x| + 1) − 1) + εx, which narrows large returns (Pohlen et al. 2018, section 3.2).

    Their ε is 0.01, that of R2D2 0.001 (Kapturowski et al. 2019, section 2.3).
    """
    # √(y + 1) − 1 = y / (√(y + 1) + 1), which keeps its digits near zero.
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def rescale_inverse(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return h⁻¹(x), the inverse of `rescale` (Pohlen et al. 2018, proposition A.2).

    With s = √(|y| + 1) the equation |x| = s − 1 + ε(s² − 1) is quadratic, and |y| = (s − 1)(s + 1). The root is
    written as s − 1 = 2|x| / (1 + 2ε + √(1 + 4ε(1 + ε + |x|))), in which nothing cancels.
    """
    root = (1 + 4 * epsilon * (1 + epsilon + x.abs())).sqrt()
    s_minus_1 = 2 * x.abs() / (1 + 2 * epsilon + root)
    return x.sign() * s_minus_1 * (s_minus_1 + 2)


class ScalarHead(nn.Module):
    """One number for each action: features [B, D] to q-values [B, A].

    Args:
        streams: the dense layers, with one output for each action.
        loss: "huber" (δ = 1, Mnih et al. 2015) or "squared", δ² without the ½ (Dopamine's).
        rescaling: the network's numbers are h(q) and the loss is taken between them (Pohlen et al. 2018, equation 1).

    Raises:
        ValueError: the streams have another number of outputs, or `loss` is unknown.
    """

    def __init__(self, streams: ActionStreams, *, loss: Loss = "huber", rescaling: bool = False) -> None:
        super().__init__()
        check_outputs(streams, 1)
        if loss not in ("huber", "squared"):
            raise ValueError(f"Unknown loss {loss!r}: it is 'huber' or 'squared'.")
        self.streams = streams
        self.loss_kind, self.rescaling = loss, rescaling

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, D] to q-values [B, A], or to h(q) with rescaling."""
        value: Tensor = self.streams(features, noise).squeeze(-1)
        return value

    def q(self, value: Tensor) -> Tensor:
        """Return the q-values [B, A], which a scalar head's representation already is but for h."""
        return rescale_inverse(value) if self.rescaling else value

    def loss(
        self,
        value: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_value: Tensor,
        next_policy: Tensor,
        generator: torch.Generator | None = None,
    ) -> HeadLoss:
        """Return the loss [B] of the TD error, with its absolute value as priority; see `ValueHead.loss`."""
        error = td_error(value, action, reward, discount, next_value, next_policy, self.rescaling)  # [B]
        loss = huber(error) if self.loss_kind == "huber" else error.square()
        chosen = value.detach().gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return HeadLoss(loss, error.detach().abs(), self.q(chosen))
