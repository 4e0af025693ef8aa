"""λ-returns against a recursion, one return at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelq.agents.experience.returns import lambda_returns
from tests.support.cases import examples

Bools = NDArray[np.bool_]


def recursion(
    reward: NDArray[np.float64],
    terminated: Bools,
    truncated: Bools,
    is_step: Bools,
    value: NDArray[np.float64],
    gamma: float,
    td_lambda: float,
    t: int = 0,
) -> float:
    """The return at one row of one environment."""
    if terminated[t]:
        return float(reward[t])
    ends_here = truncated[t] or t + 1 == len(reward) or not is_step[t + 1]
    if ends_here:
        return float(reward[t] + gamma * value[t])
    later = recursion(reward, terminated, truncated, is_step, value, gamma, td_lambda, t + 1)
    return float(reward[t] + gamma * (td_lambda * later + (1 - td_lambda) * value[t]))


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[NDArray[np.float64], Bools, Bools, Bools, NDArray[np.float64]]:
    """A rollout as environments with next-step autoreset write it; a first row may be one that only resets."""
    steps, envs = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = draw(st.lists(st.sampled_from("....TULB"), min_size=steps * envs, max_size=steps * envs))
    terminated, truncated, is_step = np.zeros((3, steps, envs), bool)
    for env in range(envs):
        ended = draw(st.booleans())
        for t in range(steps):
            kind = kinds[t * envs + env]
            is_step[t, env] = not ended
            terminated[t, env] = not ended and kind in "TLB"  # a lost life ends the return, and no episode
            truncated[t, env] = not ended and kind in "UB"  # B: a life is lost at the time limit
            ended = not ended and kind in "TUB"
    return rng.normal(size=(steps, envs)), terminated, truncated, is_step, rng.normal(size=(steps, envs))


@settings(max_examples=examples(200), deadline=None)
@given(rollouts(), st.sampled_from([0.0, 0.5, 0.99, 1.0]), st.sampled_from([0.0, 0.3, 0.65, 1.0]))
def test_every_return_is_the_recursions(
    rollout: tuple[NDArray[np.float64], Bools, Bools, Bools, NDArray[np.float64]], gamma: float, td_lambda: float
) -> None:
    reward, terminated, truncated, is_step, value = rollout
    given = map(torch.from_numpy, (reward, terminated, truncated, value))
    found = lambda_returns(*given, gamma, td_lambda).numpy()
    steps, envs = found.shape
    for env in range(envs):
        columns = [part[:, env] for part in rollout]
        for t in range(steps):
            if is_step[t, env]:
                assert found[t, env] == pytest.approx(recursion(*columns, gamma, td_lambda, t), abs=1e-12)


def test_by_hand() -> None:
    """Five rows: a step, a truncation, the row that resets, a step, a lost life."""
    reward = torch.tensor([1.0, 2.0, 100.0, 3.0, 4.0])[:, None]
    terminated = torch.tensor([False, False, False, False, True])[:, None]
    truncated = torch.tensor([False, True, False, False, False])[:, None]
    is_step = torch.tensor([True, True, False, True, True])[:, None]
    value = torch.tensor([10.0, 20.0, 1000.0, 30.0, 500.0])[:, None]

    def returns(td_lambda: float) -> list[float]:
        found = lambda_returns(reward, terminated, truncated, value, 0.5, td_lambda)[:, 0]
        return found[is_step[:, 0]].tolist()

    assert returns(0.0) == [1 + 5, 2 + 10, 3 + 15, 4]  # one step
    assert returns(1.0) == [1 + 0.5 * 12, 2 + 10, 3 + 0.5 * 4, 4]  # whole returns; the truncation bootstraps
    assert returns(0.5) == [1 + 0.5 * (5 + 6), 12, 3 + 0.5 * (15 + 2), 4]


def test_a_row_that_is_terminated_and_truncated_has_no_bootstrap() -> None:
    both = torch.tensor([[True]])
    assert lambda_returns(torch.ones(1, 1), both, both, torch.full((1, 1), 5.0), 0.9, 0.5).item() == 1.0
