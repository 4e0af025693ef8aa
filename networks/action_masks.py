"""Action masks: values among which a forbidden action is never the best."""

import torch
from torch import Tensor


def among_allowed(q: Tensor, mask: Tensor | None) -> Tensor:
    """Return q-values [B, A] with −∞ at forbidden actions, so that neither a maximum nor a softmax chooses one.

    Args:
        q: The values [B, A].
        mask: Whether each action is allowed, bool [B, A]; None returns q as it is.
    """
    if mask is None:
        return q
    least = torch.finfo(q.dtype).min  # of values that overflow, an allowed one is still the greatest
    return q.clamp(min=least).masked_fill(~mask, -torch.inf)
