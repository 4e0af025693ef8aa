"""Encoders and heads of the user's own: made, and tried once, so that what is wrong is said before anything learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.parts import is_own, registered
from pixelq.agents.config.trials import ROWS, own_generator, sentence
from pixelq.agents.errors import InvalidConfig
from pixelq.networks import Encoder, QNetwork, Target, ValueHead
from pixelq.networks.heads import draw_noise

SAVED = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
SAVED |= {torch.float16, torch.float32, torch.float64}
"""Types of tensors that a checkpoint holds of a module."""


def make_own_encoder(
    observation_shape: tuple[int, ...], config: AgentConfig, *, is_pixels: bool, module: nn.Module | None = None
) -> Encoder:
    """Return the encoder that is registered under the configuration's name, or a copy of one that is handed over.

    Args:
        observation_shape: Shape of one observation.
        config: Configuration, for the factory.
        is_pixels: Whether observations are uint8, and not float32.
        module: The module that is handed over; None for a registered one.

    Raises:
        InvalidConfig: If it cannot be made, or does not return features [B, D].
    """
    what, factory = f"the encoder {config.encoder}", registered("encoder", config.encoder)
    if module is None and factory is None:
        raise InvalidConfig(f"{what} must be given as a module, DQN(..., encoder=module), or be a registered name")
    if module is None and factory is not None:
        with sentence(f"{what} cannot be made for observations {[*observation_shape]}"):
            module = factory(observation_shape, config)
    encoder: Any = _own_copy(what, module)
    obs = _observations(observation_shape, is_pixels)
    with sentence(f"{what} cannot read observations {_described(obs)}"), torch.no_grad():
        features = encoder(obs)  # this makes the weights of lazy layers
    _check_tensor(f"features of {what}", features, (ROWS, None), torch.float32)
    width = features.shape[1]
    with sentence(f"out_features of {what} cannot be set to {width}, as its features are"):
        given = getattr(encoder, "out_features", None)
        if given not in (None, width):
            raise InvalidConfig(f"out_features of {what} must be {width}, as its features are, got {given!r:.80}")
        if not isinstance(given, int):
            encoder.out_features = width
    return encoder  # type: ignore[no-any-return]


def make_own_head(in_features: int, num_actions: int, config: AgentConfig) -> ValueHead:
    """Return the value head that is registered under the configuration's name, for features [B, in_features].

    Raises:
        InvalidConfig: If it cannot be made, or does not return q-values [B, A].
    """
    what, factory = f"the head {config.head}", registered("head", config.head)
    assert factory is not None  # the configuration has checked the name
    with sentence(f"{what} cannot be made for {in_features} features and {num_actions} actions"):
        module = factory(in_features, num_actions, config)
    head: Any = _own_copy(what, module)
    for method in ("q", "loss"):
        if not callable(getattr(head, method, None)):
            raise InvalidConfig(f"{what} must have the method {method}, as pixelq.networks.ValueHead describes it")
    features = _ramp((ROWS, in_features), torch.float32)
    with sentence(f"{what} cannot read features {_described(features)}"), torch.no_grad():
        q = head.q(head(features, None))
    _check_tensor(f"q-values of {what}", q, (ROWS, num_actions), torch.float32)
    return head  # type: ignore[no-any-return]


def check_own_parts(
    network: QNetwork, observation_shape: tuple[int, ...], num_actions: int, config: AgentConfig, *, is_pixels: bool
) -> None:
    """Check that own parts of a new network act repeatably, and can be learned, copied and saved.

    Raises:
        InvalidConfig: If not.
    """
    if is_own("encoder", config.encoder):
        what, encoder = f"the encoder {config.encoder}", network.encoder
        obs = _observations(observation_shape, is_pixels)
        _check_repeatable(what, encoder, lambda: encoder(obs))
        _check_saved(what, encoder)
        copied = _copied(what, encoder)
        if any(weight.requires_grad for weight in encoder.parameters()):  # not of a frozen one
            _check_gradient(f"features of {what}", copied(obs))
    if is_own("head", config.head):
        head: Any = network.head
        what = f"the head {config.head}"
        features = _ramp((ROWS, config.lstm or network.encoder.out_features), torch.float32)
        _check_repeatable(what, head, lambda: head.q(head(features, None)))
        _check_saved(what, head)
        _check_loss(what, _copied(what, head), features, num_actions)


def _check_loss(what: str, head: Any, features: Tensor, num_actions: int) -> None:
    """Check that a head's loss is [B] with a gradient, and that its priorities and q-values are [B] without one."""
    generator, name = torch.Generator(), f"the loss of {what}"
    with (
        own_generator(name, "the generator that it is given", generator.device),
        sentence(f"{name} cannot be computed"),
    ):
        noise = draw_noise(head, 1, generator)
        value = head(features.requires_grad_(), noise)
        with torch.no_grad():
            next_value = head(features, noise)
        action = torch.tensor([0, num_actions - 1])
        policy = torch.full((ROWS, num_actions), 1 / num_actions)
        target = Target(action, torch.tensor([1.0, -0.5]), torch.tensor([0.9, 0.0]), next_value, policy)
        losses, priority, q = head.loss(value, target, generator)
    for name, found in (("losses", losses), ("priorities", priority), ("q-values in the loss", q)):
        _check_tensor(f"{name} of {what}", found, (ROWS,))
    for name, found in (("priorities", priority), ("q-values in the loss", q)):
        if found.requires_grad:
            raise InvalidConfig(f"{name} of {what} must have no gradient; detach them")
    _check_gradient(f"losses of {what}", losses)


def _own_copy(what: str, module: Any) -> nn.Module:
    """Return a copy of a module on the CPU, as a factory may return one module twice, or refuse anything else."""
    if not isinstance(module, nn.Module):
        raise InvalidConfig(f"{what} must be an nn.Module, got {type(module).__name__:.80}")
    with sentence(f"{what} cannot be copied"):
        return copy.deepcopy(module).cpu()


def _check_tensor(what: str, found: Any, shape: tuple[int | None, ...], dtype: torch.dtype | None = None) -> None:
    """Check that something is a tensor of numbers of a type and shape; None in a shape is any length of at least 1."""
    wanted = ", ".join("D" if size is None else str(size) for size in shape)
    kind = "floating-point numbers" if dtype is None else str(dtype).removeprefix("torch.")
    requirement = f"{what} must be {kind} [{wanted}] for a batch of {ROWS}"
    if not isinstance(found, Tensor):
        raise InvalidConfig(f"{requirement}, got {type(found).__name__:.80}")
    fits = len(found.shape) == len(shape) and all(
        size == length if length is not None else size > 0 for size, length in zip(found.shape, shape, strict=True)
    )
    if not (fits and (found.dtype == dtype if dtype is not None else found.is_floating_point())):
        raise InvalidConfig(f"{requirement}, got {_described(found)}")


def _check_repeatable(what: str, module: nn.Module, run: Callable[[], Tensor]) -> None:
    """Check that a pass without gradient draws no random numbers and changes nothing.

    Acting and evaluations would otherwise change the training, and a resumed run would differ.
    """
    with sentence(f"{what} fails where it is called again"), torch.no_grad():
        first = run()
        state, buffers = torch.get_rng_state(), [buffer.clone() for buffer in module.buffers()]
        second = run()
    same = [torch.equal(buffer, old) for buffer, old in zip(module.buffers(), buffers, strict=True)]
    if torch.equal(state, torch.get_rng_state()) and all(same) and torch.equal(first.nan_to_num(), second.nan_to_num()):
        return
    raise InvalidConfig(
        f"{what} must give the same result each time, without random numbers and changes of its buffers, which layers "
        "such as dropout and batch normalisation have in training mode; call eval() on it, or use other layers"
    )


def _check_saved(what: str, module: nn.Module) -> None:
    """Check that a checkpoint can hold the module's state."""
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in SAVED:
            found = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InvalidConfig(f"{name:.80} of {what} must be a tensor of a type that NumPy has, got {found:.80}")


def _check_gradient(what: str, found: Tensor) -> None:
    """Check that a gradient can be computed of what a module with weights to learn has returned."""
    if not found.requires_grad:
        raise InvalidConfig(
            f"{what} must have a gradient; if no weight is to learn, freeze all by requires_grad_(False)"
        )
    with sentence(f"no gradient of {what} can be computed"):
        found.sum().backward()  # type: ignore[no-untyped-call]


def _copied(what: str, module: nn.Module) -> Any:
    """Return a copy, as the target network is one."""
    with sentence(f"{what} cannot be copied for the target network"):
        return copy.deepcopy(module)


def _observations(shape: tuple[int, ...], is_pixels: bool) -> Tensor:
    return _ramp((ROWS, *shape), torch.uint8 if is_pixels else torch.float32)


def _ramp(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return different numbers, in [0, 255] or [-1, 1], as zeros would hide much."""
    numbers = torch.arange(torch.Size(shape).numel()).reshape(shape) % 251
    return numbers.to(dtype) if dtype == torch.uint8 else numbers.to(dtype) / 125 - 1


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {[*tensor.shape]}"
