"""Noise of evaluations: some rows of what a head has drawn for all."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from pixelq.agents import AgentConfig, Policy
from pixelq.agents.acting.noise import EvaluationNoise


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


ROWS = torch.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, None),
        lambda x: [x],
        lambda x: {"a": x, "b": (None, {"c": x})},
        lambda x: Pair(x, None),
        lambda x: (0.5, "all rows", Pair(x, x)),
    ],
)
def test_noise_of_any_shape_is_that_of_the_environments_that_play(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head's own `draw_noise` may return tensors in tuples, lists and mappings."""
    config = AgentConfig(encoder="mlp", hidden=4, noisy=True, evaluation_noise=True)
    policy = Policy(gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2), config, device="cpu")
    monkeypatch.setattr(policy.network, "draw_noise", lambda rows, generator: wrap(ROWS[:rows]))
    noise = EvaluationNoise(policy, 0)
    for playing, expected in ((None, ROWS), (np.array([1, 3]), torch.tensor([[2.0, 3.0], [6.0, 7.0]]))):
        drawn, like = noise.draw(4, playing), wrap(expected)
        assert type(drawn) is type(like)
        assert repr(drawn) == repr(like)
