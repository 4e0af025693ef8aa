"""n-step returns against hand computation and the definition in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents.experience.returns import n_step_return
from tests.support import reference as ref
from tests.support.cases import examples

NO = [False, False, False]


def flags_at(step: int | None) -> list[bool]:
    return [step == k for k in range(3)]


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (None, None, (1 + 10 / 2 + 100 / 4, 1 / 8, 3)),
        (0, None, (1, 0, 1)),
        (1, None, (6, 0, 2)),
        (2, None, (31, 0, 3)),
        (None, 0, (1, 1 / 2, 1)),
        (None, 1, (6, 1 / 4, 2)),
        (None, 2, (31, 1 / 8, 3)),
        (1, 1, (6, 0, 2)),
        (2, 0, (1, 1 / 2, 1)),  # the next episode's termination is not this one's
        (1, 2, (6, 0, 2)),
    ],
)
def test_three_steps_by_hand(terminated: int | None, truncated: int | None, expected: tuple[float, float, int]) -> None:
    reward = torch.tensor([[1.0, 10.0, 100.0]])
    result = n_step_return(reward, torch.tensor([flags_at(terminated)]), torch.tensor([flags_at(truncated)]), 0.5)
    assert tuple(tensor.item() for tensor in result) == expected
    assert [tensor.dtype for tensor in result] == [torch.float32, torch.float32, torch.int64]


def test_one_step_is_the_reward_and_gamma() -> None:
    reward, ends = torch.tensor([[2.0], [3.0], [4.0]]), torch.tensor([[False], [True], [False]])
    returns, discount, steps = n_step_return(reward, ends, ends.roll(1, 0), 0.25)
    assert returns.tolist() == [2, 3, 4]
    assert discount.tolist() == [0.25, 0, 0.25]
    assert steps.tolist() == [1, 1, 1]


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(1, 10), st.integers(1, 20), st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 2**31))
def test_equals_the_definition(n: int, batch: int, gamma: float, p_end: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward = rng.normal(0, 3, (batch, n)).astype(np.float32)
    ends, cuts = rng.random((2, batch, n)) < p_end
    result = n_step_return(*(torch.from_numpy(x) for x in (reward, ends, cuts)), gamma)
    expected = [
        ref.n_step_return(r.astype(np.float64), e, c, gamma) for r, e, c in zip(reward, ends, cuts, strict=True)
    ]
    for name, ours, theirs in zip(("return", "discount", "steps"), result, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-6, atol=5e-6, err_msg=name)
