"""Ways with fewer operations give what the plain ways give, to the bit."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import Replay
from pixelq.agents.experience.returns import n_step_return
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.samplers import UniformSampler


@pytest.mark.parametrize("gamma", [0.99, 0.997, 0.0, torch.tensor(0.95)])
def test_one_step_returns_are_those_of_any_number_of_steps(gamma: float | torch.Tensor) -> None:
    reward = torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    reward[0], reward[1] = -0.0, float("inf")
    terminated, truncated = torch.arange(64)[:, None] % 3 == 0, torch.arange(64)[:, None] % 5 == 1
    plain = n_step_return(reward, terminated, truncated, gamma, torch.tensor(1))  # a number that may change
    quick = n_step_return(reward, terminated, truncated, gamma)
    for ours, theirs in zip(quick, plain, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_the_queue_holds_the_newest_rows(size: int, changes: list[tuple[int, int]]) -> None:
    sampler, kept, row = UniformSampler(size, torch.Generator()), list[int](), 0
    for added, dropped in changes:
        dropped, added = min(dropped, len(kept)), min(added, size)
        dropped = max(dropped, len(kept) + added - size)
        sampler.drop(dropped)
        sampler.extend(torch.arange(row, row + added))
        kept, row = [*kept[dropped:], *range(row, row + added)], row + added
        assert sampler.oldest(len(kept)).tolist() == sampler.newest(len(kept)).tolist() == kept
        assert int(sampler.count) == len(sampler) == len(kept)


def test_a_step_is_written_in_the_types_of_the_ring_and_shown_as_a_copy() -> None:
    replay = Replay((3,), np.dtype(np.float64), capacity=20, num_envs=2)
    obs = np.array([[0.1, 1e-9, -2.0], [np.pi, 4.0, 5.0]])
    replay.observe(obs)
    shown = replay.latest()
    assert shown.dtype == torch.float32
    assert shown.numpy().tobytes() == obs.astype(np.float32).tobytes()
    shown.zero_()
    assert torch.equal(replay.latest(), torch.from_numpy(obs).float())
    never = np.zeros(2, bool)
    replay.complete(np.array([300, 1]), np.array([0.1, 2.0]), np.array([True, False]), never)
    ring = replay.ring
    assert (ring.action[:2].dtype, ring.action[:2].tolist()) == (torch.int16, [300, 1])
    assert ring.reward[:2].tolist() == [float(np.float32(0.1)), 2.0]
    assert (ring.terminated[:2].tolist(), ring.truncated[:2].tolist()) == ([True, False], [False, False])
    replay.observe(obs)
    assert replay.ring.age[:4].tolist() == [0, 0, 1, 1]


def test_rows_that_go_through_buffers_are_those_that_do_not() -> None:
    """As on the way to a GPU."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {"length": 5, "num_envs": 3, "frame_stack": 4, "device": torch.device("cpu")}
    here, there = (Ring((4, 7, 7), np.dtype(np.uint8), **made, num_actions=2) for _ in range(2))
    for name in ("frames", "action", "reward", "terminated", "truncated", "age", "mask"):
        field = getattr(there, name)
        there._out[name] = torch.empty((3, *field.shape[1:]), dtype=field.dtype)
    for _ in range(7):
        obs, mask = rng.integers(256, size=(3, 4, 7, 7), dtype=np.uint8), rng.random((3, 2)) < 0.5
        outcome = rng.integers(300, size=3), rng.normal(size=3), *(rng.random((3, 3)) < 0.5)
        for ring in (here, there):
            ring.begin(obs, np.array([0, 1, 3], np.uint8), mask)
            ring.end(*outcome)
    ours, theirs = here.read(2, 7), there.read(2, 7)
    assert ours["frames"].float().std() > 50
    assert ours["action"].dtype == torch.int16
    for name, rows in ours.items():
        assert torch.equal(rows, theirs[name]), name
