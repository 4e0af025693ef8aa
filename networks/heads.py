"""Value heads: each owns its representation of the values, its q-values and its loss. This file has the scalar one."""

from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelq.networks.streams import ActionStreams, Noise

Loss = Literal["huber", "squared"]


class Target(NamedTuple):
    """Everything that a head's loss needs besides its own values, to build the target r + γⁿ Σ_a π(a|s') Z'(s', a).

    B may stand for several leading dimensions, such as [T, B]; A is the number of actions.

    Attributes:
        action: [B] int64, the actions taken.
        reward: [B], summed over n steps where n > 1.
        discount: [B], γⁿ, and 0 where the episode terminated.
        next_value: The target network's representation of the values at the next states, as `ValueHead.forward`
            returns it: q-values [B, A], logits [B, A, K], quantiles [B, A, N] or quantile functions.
        next_policy: [B, A] probabilities of the next action: one-hot for DQN, softmax for Munchausen DQN.
        weight: [B] weights w by which the losses are multiplied afterwards, for a scalar Huber loss that limits w·δ
            and not δ; None otherwise.
    """

    action: Tensor
    reward: Tensor
    discount: Tensor
    next_value: Any
    next_policy: Tensor
    weight: Tensor | None = None

    def check_shapes(self, num_actions: int) -> None:
        """Check that action, reward, discount and weight are [B] and next_policy is [B, num_actions].

        Raises:
            ValueError: If the shapes disagree. Broadcasting would silently give a wrong number.
        """
        action, reward, discount, _, next_policy, weight = self
        if not (action.shape == reward.shape == discount.shape and next_policy.shape == (*action.shape, num_actions)):
            shapes = ", ".join(str(list(part.shape)) for part in (action, reward, discount, next_policy))
            raise ValueError(
                f"action, reward and discount must be [B] and next_policy [B, {num_actions}], got shapes {shapes}"
            )
        if weight is not None and weight.shape != action.shape:
            raise ValueError(f"weight must be [B] as the actions, got shapes {[*weight.shape]} and {[*action.shape]}")


class HeadLoss(NamedTuple):
    """Result of a head's loss on a batch.

    Attributes:
        loss: [B], with its gradient.
        priority: [B], for prioritised replay; without gradient.
        q: [B] q-values of the actions taken, from what the loss computes anyway; without gradient.
    """

    loss: Tensor
    priority: Tensor
    q: Tensor


class ValueHead(Protocol):
    """Interface of the heads of a Q-network, each of which is also an `nn.Module`.

    B may stand for several leading dimensions, such as [T, B]; A is the number of actions.

    A head whose layers are noisy has its `ActionStreams` as `streams`, as all heads of this package have, or a method
    `draw_noise(rows, generator)` of its own; one without either has no noise. `forward` is given what it returns: a
    tensor [rows, ...], or tuples, lists and mappings of such tensors. What else is in them counts for all rows.
    """

    def __call__(self, features: Tensor, noise: Noise | None = None) -> Any:
        """Run `forward`, as every `nn.Module` does."""

    def forward(self, features: Tensor, noise: Noise | None = None) -> Any:
        """Map features [B, D] to the head's own representation, such as q-values [B, A] or logits [B, A, K]."""

    def q(self, value: Any) -> Tensor:
        """Return the q-values [B, A] of a representation, in units of the return."""

    def loss(self, value: Any, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        """Return the loss, the priorities and the q-values of the actions, each [B].

        Args:
            value: The online network's representation at the state.
            target: The actions taken and what the target values are made of.
            generator: Source of random numbers for losses that draw any, such as the fractions of IQN; None for
                PyTorch's global generator.
        """


class ScalarTargetHead(ValueHead, Protocol):
    """Interface of the heads that also learn from a target that is a number, such as a λ-return."""

    def loss_to(self, value: Any, action: Tensor, target: Tensor) -> HeadLoss:
        """Return the loss, the priorities and the q-values of actions [B] to target returns [B], each [B].

        Args:
            value: The network's representation at the state.
            action: [B] int64, the actions taken.
            target: [B] returns, without gradient.
        """


def draw_noise(head: ValueHead, rows: int, generator: torch.Generator | None = None) -> Noise | None:
    """Draw noise for one forward pass of a head, or return None if no layer is noisy; see `QNetwork.draw_noise`."""
    layers: Any = streams_of(head) or head
    noise: Noise | None = layers.draw_noise(rows, generator) if hasattr(layers, "draw_noise") else None
    return noise


def streams_of(head: ValueHead) -> ActionStreams | None:
    """Return the dense layers of a head; None for a head from elsewhere that has others."""
    streams = getattr(head, "streams", None)
    return streams if isinstance(streams, ActionStreams) else None


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """Return the values [B] or [B, K] of the actions [B] among [B, A] or [B, A, K]."""
    dim = action.dim()  # the actions' dimension of the values
    index = action.reshape(*action.shape, *[1] * (values.dim() - dim))
    return torch.take_along_dim(values, index, dim).squeeze(dim)


def check_outputs(streams: ActionStreams, outputs: int) -> None:
    """Check that the streams have the given number of outputs for each action.

    Raises:
        ValueError: If they have another number.
    """
    if streams.outputs != outputs:
        raise ValueError(f"streams must have outputs={outputs} for this head, got {streams.outputs}")


def td_error(q: Tensor, target: Target, rescaling: bool = False) -> Tensor:
    """Return r + γ Σ_a π(a|s') q'(s', a) − q(s, action), [B]; the target carries no gradient.

    Mnih et al. (2015), equation 2, where `next_policy` is one-hot at the maximum; Sutton & Barto (2018), equation 6.9
    (Expected Sarsa), in general.

    Args:
        q: [B, A].
        target: Its `next_value` is the next state's q-values q' [B, A].
        rescaling: Whether q and q' are h(q); the error is then h(r + γ Σ π h⁻¹(q')) − q (Pohlen et al. 2018,
            equation 1).

    Raises:
        ValueError: If the shapes disagree. Broadcasting would silently give a wrong number.
    """
    target.check_shapes(q.shape[-1])
    action, reward, discount, next_q, next_policy, _ = target
    if not q.shape == next_q.shape == next_policy.shape:
        raise ValueError(f"q and next_value must be [B, A], got shapes {[*q.shape]} and {[*next_q.shape]}")
    next_q = rescale_inverse(next_q) if rescaling else next_q
    target_q = (reward + discount * (next_policy * next_q).sum(-1)).detach()  # [B]
    return (rescale(target_q) if rescaling else target_q) - of_action(q, action)  # [B]


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Return ½x² where |x| ≤ δ and δ(|x| − ½δ) outside, elementwise; its gradient is x clipped to ±δ.

    Huber (1964), equation 1.2; with δ = 1 this is the clipped error of Mnih et al. (2015), Methods.
    """
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def huber_of_weighted(error: Tensor, weight: Tensor) -> Tensor:
    """Return `huber` with δ = 1/w, elementwise: the gradient of w times it is w·x clipped to ±1.

    DQN Zoo's prioritised agent clips the weighted error in this way (Quan & Ostrovski 2020).

    Args:
        error: Errors x.
        weight: Weights w, in the shape of the errors.
    """
    size = error.abs()
    inner = size.minimum(1 / weight)
    return inner * (size - inner / 2)


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return h(x) = sign(x)(√(|x| + 1) − 1) + εx, which narrows large returns (Pohlen et al. 2018, section 3.2).

    Their ε is 0.01, and R2D2's is 0.001 (Kapturowski et al. 2019, section 2.3).
    """
    # √(y + 1) − 1 = y / (√(y + 1) + 1), which keeps its digits near zero.
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def rescale_inverse(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return h⁻¹(x), the inverse of `rescale` (Pohlen et al. 2018, proposition A.2).

    With |x| = |h(y)| and s = √(|y| + 1), the equation |x| = s − 1 + ε(s² − 1) is quadratic in s, and
    |y| = (s − 1)(s + 1). The root is written as s − 1 = 2|x| / (1 + 2ε + √(1 + 4ε(1 + ε + |x|))), which avoids
    subtracting numbers that are nearly equal.
    """
    root = (1 + 4 * epsilon * (1 + epsilon + x.abs())).sqrt()
    s_minus_1 = 2 * x.abs() / (1 + 2 * epsilon + root)
    return x.sign() * s_minus_1 * (s_minus_1 + 2)


class ScalarHead(nn.Module):
    """One number for each action: features [B, D] to q-values [B, A].

    Args:
        streams: The dense layers, with one output for each action.
        loss: "huber" (δ = 1, Mnih et al. 2015) or "squared", the squared error without the factor ½ (Dopamine's).
        rescaling: Whether the network predicts h(q), in which the loss is taken too (Pohlen et al. 2018, equation 1).

    Raises:
        ValueError: If the streams do not have one output, or `loss` is unknown.
    """

    def __init__(self, streams: ActionStreams, *, loss: Loss = "huber", rescaling: bool = False) -> None:
        super().__init__()
        check_outputs(streams, 1)
        if loss not in ("huber", "squared"):
            raise ValueError(f"loss must be 'huber' or 'squared', got {loss!r}")
        self.streams = streams
        self.loss_kind, self.rescaling = loss, rescaling

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        """Map features [B, D] to q-values [B, A], or to h(q) with rescaling."""
        value: Tensor = self.streams(features, noise).squeeze(-1)
        return value

    def q(self, value: Tensor) -> Tensor:
        """Return the q-values [B, A]: the representation itself, or h⁻¹ of it with rescaling."""
        return rescale_inverse(value) if self.rescaling else value

    def loss(self, value: Tensor, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        """Return the loss [B] of the TD error, with its absolute value as priority; see `ValueHead.loss`."""
        error = td_error(value, target, self.rescaling)  # [B]
        return self._loss(value, target.action, error, target.weight)

    def loss_to(self, value: Tensor, action: Tensor, target: Tensor) -> HeadLoss:
        """Return the loss [B] of the distance to a return [B], likewise; see `ScalarTargetHead.loss_to`."""
        error = (rescale(target) if self.rescaling else target) - of_action(value, action)
        return self._loss(value, action, error, None)

    def _loss(self, value: Tensor, action: Tensor, error: Tensor, weight: Tensor | None) -> HeadLoss:
        if self.loss_kind == "squared":
            loss = error.square()
        else:
            loss = huber(error) if weight is None else huber_of_weighted(error, weight)
        return HeadLoss(loss, error.detach().abs(), self.q(of_action(value.detach(), action)))
