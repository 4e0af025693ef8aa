"""Ways with fewer operations give what the plain ways give, to the bit."""

import copy
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import Replay
from pixelq.agents.experience.returns import n_step_return
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.samplers import UniformSampler
from pixelq.agents.experience.transfer import StepTransfer


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


class Late:
    """A GPU that copies only when the host waits for it: its queue, and an event in it."""

    queue: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []
    copy = torch.Tensor.copy_

    def __init__(self) -> None:
        self.copies = 0

    def record(self, stream: Any) -> None:
        self.copies = len(self.queue)

    def synchronize(self) -> None:
        """Do what was in the queue when the event was recorded; what is done stays there as None."""
        for to, values in self.queue[: self.copies]:
            Late.copy(to, values)
        self.queue[: self.copies] = [(torch.empty(0), torch.empty(0))] * self.copies


def test_rows_that_go_through_buffers_are_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the way to a GPU that reads them as late as it may."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(Late, "queue", [])
    monkeypatch.setattr(StepTransfer, "_event", lambda self: Late())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    made: dict[str, Any] = {"length": 9, "num_envs": 3, "frame_stack": 4, "device": torch.device("cpu")}
    here, there = (Ring((4, 7, 7), np.dtype(np.uint8), **made, num_actions=2) for _ in range(2))
    there.transfer = StepTransfer(torch.device("cpu"))
    for name in ("frames", "action", "reward", "terminated", "truncated", "age", "mask"):
        there._make_buffer(name)
    for step in range(7):
        obs, mask = rng.integers(256, size=(3, 4, 7, 7), dtype=np.uint8), rng.random((3, 2)) < 0.5
        outcome = rng.integers(300, size=3), rng.normal(size=3), *(rng.random((3, 3)) < 0.5)
        age = np.array([0, 1, 3], np.uint8)
        here.begin(obs, age, mask)
        here.end(*outcome)
        monkeypatch.setattr(torch.Tensor, "copy_", lambda to, values, **_: Late.queue.append((to, values)))
        there.begin(obs, age, mask)
        there.end(*outcome)
        monkeypatch.setattr(torch.Tensor, "copy_", Late.copy)
        waiting = sum(len(to) > 0 for to, _ in Late.queue)
        assert waiting == 7 * min(step + 1, 2)  # those of the last step were not waited for
        assert torch.equal(here.read(0, max(0, step - 1))["frames"], there.read(0, max(0, step - 1))["frames"])
    for to, values in Late.queue:
        to.copy_(values)
    ours, theirs = here.read(0, 7), there.read(0, 7)
    assert ours["frames"].float().std() > 50
    assert ours["action"].dtype == torch.int16
    for name, rows in ours.items():
        assert torch.equal(rows, theirs[name]), name
    other = copy.deepcopy(there.transfer)
    assert other.nbytes == there.transfer.nbytes == 2 * 3 * (7 * 7 + 2 + 4 + 1 + 1 + 1 + 2)
    assert not {id(each.is_read) for each in other._turns} & {id(each.is_read) for each in there.transfer._turns}
    assert pickle.loads(pickle.dumps(there.transfer)).nbytes == other.nbytes
