"""Trials of parts of the user's own: what goes wrong in them becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pixelq.agents.errors import InvalidConfig, printable

ROWS = 2
"""Observations, features or transitions in a trial."""


@contextmanager
def sentence(problem: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one sentence while the context lasts.

    Raises:
        InvalidConfig: If it raises anything.
    """
    try:
        yield
    except InvalidConfig:
        raise
    except Exception as error:
        raise InvalidConfig(f"{problem}: {type(error).__name__}: {printable(str(error), 200)}") from error


@contextmanager
def own_generator(what: str, given: str, device: torch.device) -> Iterator[None]:
    """Check that nothing draws from PyTorch's global generators while the context lasts.

    Args:
        what: The user's code that is tried.
        given: The generator that it must draw from.
        device: Device of its tensors; besides the CPU's, the global generator of this GPU is watched.

    Raises:
        InvalidConfig: If it does; a resumed run would draw other numbers.
    """

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]

    before = states()
    yield
    if not all(map(torch.equal, before, states())):
        raise InvalidConfig(f"{what} must draw from {given}, got PyTorch's global generator")
