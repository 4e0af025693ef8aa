"""Target rules: which policy is followed after the next observation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def greedy_policy(q: Tensor) -> Tensor:
    """One-hot [B, A] of the best action of q [B, A].

    Of the target network's q this is DQN's max (Mnih et al. 2015); of the online network's, Double DQN's selection
    (van Hasselt et al. 2016, eq. 4).
    """
    return F.one_hot(q.argmax(1), q.shape[1]).to(q.dtype)
