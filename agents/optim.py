"""Optimisers: Adam from PyTorch, and the centred RMSProp that PyTorch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from pixelq.agents.config import AgentConfig


class CentredRMSProp(torch.optim.Optimizer):
    """RMSProp divided by the running standard deviation, ε under the root, as in Mnih et al. 2015.

    ``m ← ρm + (1−ρ)g;  v ← ρv + (1−ρ)g²;  w ← w − α g / √(v − m² + ε)``. PyTorch's centred RMSProp adds ε outside
    the root instead, which lets the step grow a hundredfold where the gradients are small.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, decay: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients in ``.grad``."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            grads = [p.grad for p in params]
            means = [self.state[p]["mean"] for p in params]
            squares = [self.state[p]["square"] for p in params]
            torch._foreach_lerp_(means, grads, 1 - group["decay"])
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            deviations = torch._foreach_addcmul(squares, means, means, -1)
            torch._foreach_clamp_min_(deviations, 0.0)  # a variance, but rounding can make it negative
            torch._foreach_add_(deviations, group["eps"])
            torch._foreach_sqrt_(deviations)
            torch._foreach_addcdiv_(params, grads, deviations, -group["lr"])


def make_optimizer(config: AgentConfig, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The configuration's optimiser over the parameters."""
    if config.optimizer == "rmsprop":
        return CentredRMSProp(params, config.learning_rate, config.rmsprop_decay, config.rmsprop_epsilon)
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(params, lr=config.learning_rate, eps=config.adam_epsilon, weight_decay=config.weight_decay, fused=True)


def make_fraction_optimizer(config: AgentConfig, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of FQF's fractions: centred RMSProp with decay 0.95 and ε 1e-5, as Yang et al. 2019 program it."""
    return CentredRMSProp(params, config.fraction_learning_rate, decay=0.95, eps=1e-5)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors: ``"<parameter>.<moment>"``."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, moments in state.items() for name, tensor in moments.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Puts back what ``optimizer_tensors`` gave; hyperparameters stay those of the optimiser."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
