"""What every learner has: a network, its optimisers, and a gradient step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelq.agents.config.agent_config import READ_AT_EACH_STEP, AgentConfig
from pixelq.agents.config.at_step import learning_rate_at
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.learning.optimizers import (
    drop_subnormals,
    gradients_of,
    limit_norm,
    load_optimizer_tensors,
    make_fraction_optimizer,
    make_optimizer,
    optimizer_tensors,
)
from pixelq.agents.storage.validation import restore_generator
from pixelq.networks import FractionHead, QNetwork

SUBNORMALS_EVERY = 200
"""Updates between two searches for subnormal moments; one search takes as long as two optimiser steps."""
OF_OPTIMISERS = frozenset(
    "adam_epsilon rmsprop_decay rmsprop_epsilon weight_decay max_grad_norm fraction_learning_rate "
    "fraction_epsilon".split()
)
"""Changeable settings that the optimisers hold."""


class Update(NamedTuple):
    """Result of an update, left on the device so that nothing waits for it."""

    loss: Tensor  # [], mean loss of the batch, with importance weights
    q_mean: Tensor  # [], mean q-value of the actions taken
    priority: Tensor  # [B], new priorities of the batch's rows


class Gradients(NamedTuple):
    """Gradients of an update, of all parameters but those of FQF's fractions."""

    parts: list[Tensor]
    norm: Tensor | None  # [], their Euclidean norm before any limit; None where nothing has asked for it


class GradientLearner:
    """A network that is changed along gradients.

    Args:
        network: The online network.
        config: Hyperparameters.
        seed: Seed of the noise, and of the fractions that a loss draws.
    """

    def __init__(self, network: QNetwork, config: AgentConfig, seed: int = 0) -> None:
        self.config = config
        self.network = network
        self.device = next(network.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.autocast = self._make_autocast()
        self.reduce: Callable[[Tensor], None] | None = None  # sums over several learners, in place; None for one
        self.gradients: Gradients | None = None  # of the last update; None before the first
        self._compiled: Callable[..., Update] | None = None  # `_losses`; None until it is needed
        self.captured: Any = None  # what was captured, and the replay or rollout that it reads; see `make_updates`
        self._make_optimizers(learning_rate_at(config, 0))

    def _make_autocast(self) -> torch.autocast:
        precision = self.config.precision
        wants_bfloat16 = precision == "bfloat16" or (precision == "auto" and has_bfloat16(self.device))
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wants_bfloat16)

    def _losses(self, batch: Any) -> Update:
        """Return the loss with its gradient's graph, the mean q-value, and the new priorities of a batch."""
        raise NotImplementedError

    def _compiled_losses(self, batch: Any) -> Update:
        """Return what `_losses` does, compiled.

        Raises:
            InvalidConfig: If PyTorch cannot compile it.
        """
        try:
            if self._compiled is None:
                self._compiled = compiled(type(self)._losses)
            update: Update = self._compiled(self, batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            why = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
            raise InvalidConfig(f"compile_update is True, but the update could not be compiled: {why}") from error
        return update

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickled learner has: a graph reads this learner's tensors, and no file holds it."""
        return {**vars(self), "captured": None, "gradients": None, "_compiled": None}

    def _make_optimizers(self, learning_rate: float) -> None:
        head = self.network.head
        fractions = list(head.proposal.parameters()) if isinstance(head, FractionHead) else []
        learning = [p for p in self.network.parameters() if p.requires_grad]  # of an own encoder, part may be frozen
        others = [p for p in learning if all(p is not fraction for fraction in fractions)]
        if not others:
            raise InvalidConfig("the network must have weights to learn, got none that requires a gradient")
        self.optimizers = {"optimizer": make_optimizer(self.config, others, learning_rate)}
        if fractions:
            self.optimizers["fraction_optimizer"] = make_fraction_optimizer(self.config, fractions)

    def configure(self, config: AgentConfig) -> None:
        """Learn by a configuration that differs in changeable fields from the next update on; all state is kept."""
        old, self.config = self.config, config
        changed = {field.name for field in fields(config) if getattr(config, field.name) != getattr(old, field.name)}
        if changed & OF_OPTIMISERS:
            state = {part: optimizer_tensors(optimizer) for part, optimizer in self.optimizers.items()}
            self._make_optimizers(self.learning_rate)
            for part, optimizer in self.optimizers.items():
                load_optimizer_tensors(optimizer, state[part])
        if "precision" in changed:
            self.autocast = self._make_autocast()
        if changed - READ_AT_EACH_STEP:
            self.captured = None

    def _value(self, network: QNetwork, features: Tensor) -> Any:
        """Return the head's representation of the values, with noise that the batch shares."""
        return network.head(features, network.draw_noise(1, self.generator))

    def _descend(self, loss: Tensor, q_mean: Tensor, steps: Tensor | int) -> tuple[Tensor, Tensor]:
        """Take one step along the gradient of a loss []; return the loss and the mean q-value, of all learners.

        Args:
            loss: The loss, a mean over steps.
            q_mean: The mean q-value over the same steps, [].
            steps: Their number, by which each of several learners counts; not read by a single one.
        """
        self.gradients = None  # so that the new ones can take their place in memory
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # as `zero_grad` sets it, in a tenth of the time
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        if self.reduce is not None:
            loss, q_mean = self._average(loss, q_mean, steps, self.reduce)
        parts = gradients_of(self.optimizers["optimizer"])
        norm = None
        if self.config.max_grad_norm is not None:
            norm = limit_norm(self.optimizers["optimizer"], parts, self.config.max_grad_norm)
        self.gradients = Gradients(parts, norm)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss, q_mean

    @torch.no_grad()
    def _average(
        self, loss: Tensor, q_mean: Tensor, steps: Tensor | int, reduce: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """Average the gradients over several learners, and return the averages of loss and mean q-value.

        All are means over steps, so that each learner counts by the number of its steps.
        """
        groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        means = torch.cat([*(grad.reshape(-1) for grad in grads), torch.stack([loss, q_mean]).float()])
        count = torch.full((1,), 1.0, device=self.device) * steps
        sums = torch.cat([means * count, count])
        reduce(sums)
        means = sums[:-1] / sums[-1].clamp(min=1.0)
        *parts, others = torch.split(means, [*(grad.numel() for grad in grads), 2])
        torch._foreach_copy_(grads, [part.view_as(grad) for part, grad in zip(parts, grads, strict=True)])
        return others[0], others[1]

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of all parameters but those of FQF's fractions."""
        for group in self.optimizers["optimizer"].param_groups:
            if not isinstance(group["lr"], Tensor):  # somebody has put a number there
                group["lr"], self.captured = torch.zeros((), device=self.device), None
            group["lr"].fill_(learning_rate)  # in place: a captured update reads it there

    @property
    def learning_rate(self) -> float:
        """Step size of all parameters but those of FQF's fractions."""
        return float(self.optimizers["optimizer"].param_groups[0]["lr"])

    def grad_norm(self) -> float | None:
        """Return the Euclidean norm of the last update's gradients, before any limit; None before the first update.

        It is computed here, from the gradients that the update left behind, unless a limit has already asked for it.
        """
        if self.gradients is None:
            return None
        parts, norm = self.gradients
        return float(nn.utils.get_total_norm(parts) if norm is None else norm)

    def drop_subnormals(self, updates: int) -> None:
        """Drop subnormal moments, which slow a CPU down, after every 200th update."""
        if self.device.type == "cpu" and updates % SUBNORMALS_EVERY == 0:
            for optimizer in self.optimizers.values():
                drop_subnormals(optimizer)

    def start_anew(self) -> None:
        """Go on from weights that were loaded without the learner that belongs to them."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of the optimisers and the generator."""
        tensors: dict[str, Tensor] = {}
        for part, optimizer in self.optimizers.items():
            tensors |= {f"{part}.{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        return tensors | {"generator.state": self.generator.get_state()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned.

        Raises:
            LookupError, ValueError, RuntimeError: If they belong to another learner.
        """
        parts: dict[str, dict[str, Tensor]] = {"generator": {}, **{part: {} for part in self.optimizers}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        for part, optimizer in self.optimizers.items():
            load_optimizer_tensors(optimizer, parts[part])
        restore_generator(self.generator, parts["generator"], "state")
        self.captured = None


def compiled(function: Callable[..., Update]) -> Callable[..., Update]:
    """Return what PyTorch compiles of a function of a learner and a batch, for batches of each size anew."""
    # PyTorch counts for a function how often it was compiled, for all agents of a process, and gives up after 8 times.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(function, dynamic=False)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices in bfloat16 without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
