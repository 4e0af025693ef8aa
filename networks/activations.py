"""Activations between layers: ReLU and GELU."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "gelu"]


def activation_of(name: Activation) -> nn.Module:
    """Return the layer with a name: ReLU, or GELU in the form with tanh, which is JAX's default (Hendrycks 2016).

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in ("relu", "gelu"):
        raise ValueError(f"activation must be 'relu' or 'gelu', got {name!r}")
    return nn.ReLU() if name == "relu" else nn.GELU(approximate="tanh")


def replace_relu(module: nn.Module, name: Activation) -> None:
    """Put the activation with a name in the place of every ReLU layer of a module."""
    for parent in module.modules():
        for key, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, key, activation_of(name))
