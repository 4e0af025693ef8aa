"""Action masks in the replay against plain lists, and the memory that they take."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import InvalidConfig, Replay
from pixelq.agents.config import machine_limits
from tests.support.cases import examples

A = 5


@settings(max_examples=examples(150), deadline=None)
@given(
    num_envs=st.integers(1, 3),
    n_step=st.integers(1, 4),
    frame_stack=st.integers(1, 3),
    period=st.one_of(st.none(), st.integers(1, 4)),
    burn_in=st.integers(0, 3),
    spare=st.integers(0, 8),
    steps=st.integers(1, 60),
    late=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_are_those_of_the_state_and_of_the_state_that_is_bootstrapped_from(
    num_envs: int,
    n_step: int,
    frame_stack: int,
    period: int | None,
    burn_in: int,
    spare: int,
    steps: int,
    late: bool,
    seed: int,
) -> None:
    length = burn_in + 3
    least = max(frame_stack, 2) + n_step + (0 if period is None else length + period)
    sequences = None
    if period is not None:
        sequences = {"length": length, "period": period, "burn_in": burn_in, "state_size": 2, "stores": True}
    replay = Replay(
        (frame_stack, 1) if frame_stack > 1 else (1,),
        np.dtype(np.uint8),
        capacity=(least + spare) * num_envs,
        num_envs=num_envs,
        frame_stack=frame_stack,
        n_step=n_step,
        sequences=sequences,
        num_actions=None if late else A,
    )
    if late:
        replay.keep_masks(A)
    rng = np.random.default_rng(seed)
    masks: list[Any] = []  # [time, env, A]
    ends: list[Any] = []  # [time, env], whether the step at that time ended an episode
    for time in range(steps):
        masks.append(rng.random((num_envs, A)) < 0.5)
        ended = rng.random((2, num_envs)) < 0.15
        was_final = ends[-1] if ends else np.zeros(num_envs, bool)
        ended &= ~was_final  # the step after an end only resets
        obs = np.full((num_envs, *((frame_stack, 1) if frame_stack > 1 else (1,))), time % 256, np.uint8)
        nothing = np.zeros(num_envs)
        if rng.random() < 0.05:
            replay.cut(obs, masks[-1])  # which writes the row and ends all episodes
            if ends:
                ends[-1] = np.ones(num_envs, bool)
                ends.append(np.zeros(num_envs, bool))
            else:
                masks.pop()
        else:
            replay.add(obs, nothing, nothing, ended[0], ended[1] & ~ended[0], mask=masks[-1])
            ends.append(ended.any(0))
    times = len(ends)
    assert replay.time == times

    def bootstrap(time: int, env: int) -> int:
        for k in range(n_step):
            if ends[time + k][env]:
                return time + k + 1
        return time + n_step

    starts = replay.window.starts(replay.first, max(replay.first, times - replay.window.ahead))
    for row in starts.tolist():
        slot, env = divmod(row, num_envs)
        time = slot + (times - 1 - slot) // replay.length * replay.length  # the newest in that place of the ring
        batch = replay.gather(torch.tensor([row]))
        assert batch.mask is not None
        assert batch.next_mask is not None
        of_batch = [time] if period is None else range(time + burn_in, time + length)
        np.testing.assert_array_equal(batch.mask.numpy(), [masks[t][env] for t in of_batch])
        np.testing.assert_array_equal(batch.next_mask.numpy(), [masks[bootstrap(t, env)][env] for t in of_batch])


def make(**keywords: Any) -> Replay:
    return Replay((9, 9), np.dtype(np.uint8), capacity=400, num_envs=2, **keywords)


def test_without_masks_nothing_is_stored() -> None:
    replay = make()
    replay.add(np.zeros((2, 9, 9), np.uint8), *np.zeros((4, 2)).astype(bool))
    assert replay.ring.mask is None
    assert replay.gather(torch.tensor([0])).mask is None
    assert "mask" not in replay.ring.read(0, 1)


def test_all_rows_have_a_mask_or_none_has() -> None:
    step = (np.zeros((2, 9, 9), np.uint8), *np.zeros((4, 2)).astype(bool))
    with pytest.raises(ValueError, match="of all its rows, or of none"):
        make(num_actions=A).add(*step)
    replay = make()
    with pytest.raises(ValueError, match="of all its rows, or of none"):
        replay.add(*step, mask=np.ones((2, A), bool))
    replay.add(*step)
    with pytest.raises(InvalidConfig, match="the replay holds steps without them; train a new agent"):
        replay.keep_masks(A)


def test_the_memory_of_masks_is_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(num_actions=1000).nbytes - make().nbytes == 1000 * 400  # a byte an action
    for keeps_later in (False, True):
        monkeypatch.setattr(machine_limits, "free_memory", lambda _: 10**6)
        replay = make()
        monkeypatch.setattr(machine_limits, "free_memory", lambda _: 400 * 1000)
        with pytest.raises(InvalidConfig, match=r"^no memory for a replay of 0\.0 GB.*lower replay_capacity; 292 rows"):
            replay.keep_masks(1000) if keeps_later else make(num_actions=1000)
