"""Optimisers: PyTorch's Adam, RAdam in few operations, and the centred RMSProp of Mnih et al. 2015."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.storage.validation import fitting, part


class CentredRMSProp(torch.optim.Optimizer):
    """RMSProp divided by the running standard deviation, with ε under the root, as in Mnih et al. 2015.

    m ← ρm + (1−ρ)g, v ← ρv + (1−ρ)g², w ← w − α g / √(v − m² + ε). PyTorch's centred RMSProp adds ε outside
    the root instead, which lets the step grow a hundredfold where the gradients are small.

    Args:
        params: Parameters to change.
        lr: Step size α, a tensor [] or a number.
        decay: Decay ρ of both moments.
        eps: ε.
    """

    grad_scale: Tensor | None = None
    """Number [] by which the gradients are divided first, as PyTorch's fused optimisers have it."""

    def __init__(self, params: Iterable[nn.Parameter], lr: Tensor | float, decay: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients in `.grad`."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            grads = [p.grad for p in params if p.grad is not None]
            if self.grad_scale is not None:
                grads = list(torch._foreach_div(grads, self.grad_scale))
            means = [self.state[p]["mean"] for p in params]
            squares = [self.state[p]["square"] for p in params]
            torch._foreach_lerp_(means, grads, 1 - group["decay"])
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            deviations = torch._foreach_addcmul(squares, means, means, -1)
            torch._foreach_clamp_min_(deviations, 0.0)  # a variance, but rounding can make it negative
            torch._foreach_add_(deviations, group["eps"])
            torch._foreach_sqrt_(deviations)
            steps = torch._foreach_div(grads, deviations)
            torch._foreach_mul_(steps, group["lr"])
            torch._foreach_sub_(params, steps)


class CapturableRAdam(torch.optim.Optimizer):
    """RAdam (Liu et al. 2020, algorithm 2) in few kernels, for a GPU: none for each parameter.

    PyTorch's own computes the rectification anew for each parameter, with seven operations. Here it is computed once
    for all that have taken as many steps, on the device, so that an update can be captured. The state is that of
    PyTorch's.

    Args:
        params: Parameters to change. An update that is captured must have gradients for those of the update before it.
        lr: Step size α, a tensor [] on their device.
        eps: ε.
        weight_decay: Decoupled weight decay.
    """

    BETAS = 0.9, 0.999
    """Decays β₁ and β₂ of the moments."""
    grad_scale: Tensor | None = None
    """Number [] by which the gradients are divided in place; None for no division."""

    def __init__(self, params: Iterable[nn.Parameter], lr: Tensor, eps: float, weight_decay: float) -> None:
        values = {"lr": lr, "betas": self.BETAS, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, values | {"capturable": True})  # by which PyTorch loads steps onto the device
        self._alike: list[tuple[dict[str, Any], list[Tensor]]] = []  # those of the last step; see `_by_step`

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # of a copy, or what `load_state_dict` was given
        self._alike = []

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients in `.grad`."""
        learning = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        # The host waits for the device when it reads the numbers of steps, so they are read only if other parameters
        # have gradients than last time. Otherwise all have taken one step more, also when a captured step was replayed.
        if {id(p) for p in learning} != {id(p) for _, params in self._alike for p in params}:
            self._alike = [(group, params) for group in self.param_groups for params in self._by_step(group)]
        for group, params in self._alike:
            self._step(group, params)

    def _by_step(self, group: dict[str, Any]) -> list[list[Tensor]]:
        """Return the parameters of a group that have a gradient, in lists of those that have taken as many steps."""
        found: dict[int, list[Tensor]] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            if not self.state[p]:
                moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.state[p] = {"step": torch.zeros((), device=p.device)} | moments
            found.setdefault(int(self.state[p]["step"]), []).append(p)
        return list(found.values())

    def _step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        rate, (beta1, beta2) = group["lr"], group["betas"]
        grads = [p.grad for p in params if p.grad is not None]
        steps, means, squares = ([self.state[p][name] for p in params] for name in ("step", "exp_avg", "exp_avg_sq"))
        if self.grad_scale is not None:
            torch._foreach_div_(grads, self.grad_scale)
        torch._foreach_add_(steps, 1)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        # A step of α m̂ r √(1 − β₂ᵗ) / (√v + ε), or of α m̂ until the variance of v can be rectified: so the divisor is
        # `slope` (√v + ε) + `offset`, where one of the two is zero.
        # In float64, because `length` is a small difference of two numbers near 2000.
        step = steps[0].double()
        power, longest = beta2**step, 2 / (1 - beta2) - 1
        length = longest - 2 * step * power / (1 - power)
        is_divided = length > FusedRAdam.SHORTEST
        variance = (length - 4) * (length - 2) * (1 - power) / length * (longest / ((longest - 4) * (longest - 2)))
        slope = torch.where(is_divided, variance.rsqrt(), 0.0).float()  # 1 / (r √(1 − β₂ᵗ))
        offset = torch.logical_not(is_divided).float()
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_add_(divisors, group["eps"])
        torch._foreach_mul_(divisors, slope)
        torch._foreach_add_(divisors, offset, alpha=1)  # without α, PyTorch would ask for the number
        changes = torch._foreach_div(means, divisors)
        torch._foreach_mul_(changes, (rate / (beta1**step - 1)).float())
        torch._foreach_add_(params, changes)


class FusedRAdam(torch.optim.AdamW):
    """RAdam (Liu et al. 2020, algorithm 2) on PyTorch's fused Adam, for a CPU: one pass over the weights.

    PyTorch's own RAdam takes some sixty operations for each parameter, which is a third of the update of a small
    network. But RAdam's step is Adam's: r α √(1 − β₂ᵗ) m̂ / (√v + ε) with another rate, r α, and another ε,
    ε / √(1 − β₂ᵗ). Before the variance of the second moment can be rectified, which is so in the first five steps, it
    is α m̂: Adam's step with an ε beside which √v̂ vanishes, and a rate that is larger by the same power of two.

    Args:
        params: Parameters to change.
        lr: Step size α, a tensor [] on the CPU.
        eps: ε.
        weight_decay: Decoupled weight decay.
    """

    SHORTEST = 5.0
    """Length of the approximated moving average, ρ in the paper, up to which nothing is divided by √v."""
    UNDIVIDED = 2.0**64
    """ε beside which no √v̂ below 10¹¹ changes a bit."""

    def __init__(self, params: Iterable[nn.Parameter], lr: Tensor, eps: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients in `.grad`."""
        kept = self.param_groups
        self.param_groups = [
            self._adams_group(group, taken, params) for group in kept for taken, params in self._by_step(group).items()
        ]
        try:
            super().step(closure)
        finally:
            self.param_groups = kept

    def _by_step(self, group: dict[str, Any]) -> dict[int, list[nn.Parameter]]:
        """Return the parameters that have a gradient, by the number of steps that each has taken."""
        found: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                state = self.state.get(parameter)
                found.setdefault(int(state["step"]) if state else 0, []).append(parameter)
        return found

    def _adams_group(self, group: dict[str, Any], taken: int, params: list[nn.Parameter]) -> dict[str, Any]:
        """Return a group of parameters whose step of Adam is the step of RAdam after `taken` ones."""
        factor, eps = self._as_adam(taken + 1, group["betas"][1], group["eps"])
        # Adam's decay is the product of its rate and `weight_decay`, so the factor is taken out again.
        decay = group["weight_decay"] / factor
        return group | {"params": params, "lr": group["lr"] * factor, "eps": eps, "weight_decay": decay}

    @classmethod
    def _as_adam(cls, step: int, beta: float, eps: float) -> tuple[float, float]:
        """Return the factor of the rate and the ε with which Adam's step is RAdam's; `step` counts from 1."""
        correction = 1 - beta**step
        longest = 2 / (1 - beta) - 1
        length = longest - 2 * step * beta**step / correction
        if length <= cls.SHORTEST:
            return cls.UNDIVIDED, cls.UNDIVIDED
        upper = (length - 4) * (length - 2) * longest
        rectified = math.sqrt(upper / ((longest - 4) * (longest - 2) * length))
        return rectified, eps / math.sqrt(correction)


def make_optimizer(config: AgentConfig, params: Sequence[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return the configuration's optimiser over parameters; its step size is a tensor on their device, first `rate`."""
    device = params[0].device
    learning_rate = torch.tensor(rate, device=device, dtype=torch.float32)
    if config.optimizer == "rmsprop":
        return CentredRMSProp(params, learning_rate, config.rmsprop_decay, config.rmsprop_epsilon)
    if config.optimizer == "radam" and device.type == "cpu":
        return FusedRAdam(params, learning_rate, config.adam_epsilon, config.weight_decay)
    if config.optimizer == "radam":
        return CapturableRAdam(params, learning_rate, config.adam_epsilon, config.weight_decay)
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(
        params,
        lr=learning_rate,
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=device.type == "cuda",
    )


def make_fraction_optimizer(config: AgentConfig, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of FQF's fractions: centred RMSProp with decay 0.95, as Yang et al. 2019 have it."""
    return CentredRMSProp(params, config.fraction_learning_rate, decay=0.95, eps=config.fraction_epsilon)


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the gradients of the parameters that have one."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def limit_norm(optimizer: torch.optim.Optimizer, gradients: list[Tensor], max_norm: float) -> Tensor:
    """Let the optimiser's next step divide its gradients by max(1, ‖g‖ / max_norm); return their Euclidean norm ‖g‖ [].

    The optimiser divides while it reads them, where PyTorch's clipping is one more pass over all gradients.
    """
    norm = nn.utils.get_total_norm(gradients)
    optimizer.grad_scale = (norm / max_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    return norm


@torch.no_grad()
def drop_subnormals(optimizer: torch.optim.Optimizer) -> None:
    """Set moments to zero that are smaller than float32's least normal number, 1.2e-38.

    The moments of a weight without a gradient, such as that of a silent unit, decay until they are subnormal, and
    rounding keeps them from zero. They move no weight, but a processor takes ten times as long over each of them.
    """
    for moments in optimizer.state.values():
        for moment in moments.values():
            moment.masked_fill_(moment.abs() < torch.finfo(moment.dtype).tiny, 0.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as tensors named `PARAMETER.MOMENT`."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, moments in state.items() for name, tensor in moments.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Restore what `optimizer_tensors` returned; the hyperparameters stay those of the optimiser.

    Raises:
        ValueError: If the tensors belong to other parameters.
    """
    params = {str(i): p for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    moments = {"mean", "square"} if isinstance(optimizer, CentredRMSProp) else {"step", "exp_avg", "exp_avg_sq"}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index in {key.partition(".")[0] for key in tensors}:
        if index not in params or part(tensors, index).keys() != moments:
            raise ValueError(f"the moments of parameter {index:.80} belong to another optimiser")
        param, found = params[index], state.setdefault(int(index), {})
        for name in moments:
            if name == "step":
                found[name] = fitting(tensors, f"{index}.{name}", torch.zeros(())).clone()
            else:
                # In the parameter's memory layout, since fused kernels read all of them as flat arrays.
                found[name] = torch.empty_like(param).copy_(fitting(tensors, f"{index}.{name}", param))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
