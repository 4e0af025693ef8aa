"""Activations between layers: ReLU and GELU."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "gelu"]


def activation_of(name: Activation) -> nn.Module:
    """Return the layer with a name: ReLU, or GELU in the form with tanh, which is JAX's default (Hendrycks 2016).

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in ("relu", "gelu"):
        raise ValueError(f"activation must be 'relu' or 'gelu', got {name!r}")
    return nn.ReLU() if name == "relu" else nn.GELU(approximate="tanh")


def activation_function(name: Activation) -> Callable[[Tensor], Tensor]:
    """Return what the layer of `activation_of` computes, as a function, whose call costs less.

    Raises:
        ValueError: If the name is unknown.
    """
    return torch.relu if isinstance(activation_of(name), nn.ReLU) else partial(F.gelu, approximate="tanh")


def replace_relu(module: nn.Module, name: Activation) -> None:
    """Put the activation with a name in the place of every ReLU layer of a module."""
    for parent in module.modules():
        for key, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, key, activation_of(name))
