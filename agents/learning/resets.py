"""Resets, which let a network that was updated very often go on learning."""

from __future__ import annotations

import torch

from pixelq.networks import QNetwork


@torch.no_grad()
def shrink_and_perturb(network: QNetwork, fresh: QNetwork, shrink: float) -> None:
    """Move encoder and LSTM towards new weights, and replace the head: θ ← λθ + (1 − λ)φ; θ_head ← φ_head.

    Ash & Adams 2020 (shrink and perturb); D'Oro et al. 2023, SR-SPR, and Schwarzer et al. 2023, BBF.

    Args:
        network: Network to change in place.
        fresh: Network of the same shape with new initial weights φ.
        shrink: λ in [0, 1], the share of the encoder that is kept.
    """
    for kept, drawn in ((network.encoder, fresh.encoder), (network.lstm, fresh.lstm)):
        if kept is not None and drawn is not None:
            for parameter, new in zip(kept.parameters(), drawn.parameters(), strict=True):
                parameter.lerp_(new, 1 - shrink)
    for buffer, other in zip(network.encoder.buffers(), fresh.encoder.buffers(), strict=True):
        buffer.copy_(other)  # spectral normalisation's vector, which starts exact and catches up in a few updates
    network.head.load_state_dict(fresh.head.state_dict())  # type: ignore[attr-defined]
