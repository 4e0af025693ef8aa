"""Returns whose length and discount change while a replay is in use."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from pixelq.agents import AgentConfig, Constant, Exponential, InvalidConfig, Linear, Replay
from pixelq.agents.experience.replay import make_replay
from pixelq.agents.experience.returns import Returns, n_step_return
from tests.support.cases import examples

SEQUENCES = {"length": 4, "period": 2, "burn_in": 1, "state_size": 3, "stores": True}


@settings(deadline=None)
@given(st.data())
def test_fewer_steps_are_the_first_columns(data: st.DataObject) -> None:
    batch, most = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    n, gamma = data.draw(st.integers(1, most)), data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    reward = torch.from_numpy(rng.normal(size=(batch, most)).astype(np.float32))
    terminated, truncated = (torch.from_numpy(rng.random((batch, most)) < 0.2) for _ in range(2))
    expected = n_step_return(reward[:, :n], terminated[:, :n], truncated[:, :n], gamma)
    found = n_step_return(reward, terminated, truncated, torch.tensor(gamma), torch.tensor(n))
    torch.testing.assert_close(found[0], expected[0])
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[1], expected[1])


def new_replay(n_step: int, prioritized: bool, sequences: dict[str, Any] | None) -> Replay:
    return Replay(
        (2,),
        np.dtype(np.float32),
        capacity=48,
        num_envs=2,
        n_step=n_step,
        gamma=0.5,
        prioritized=prioritized,
        sequences=sequences,
    )


def drawable(replay: Replay) -> list[int]:
    """The rows that may be drawn, in the order of the queue."""
    sampler: Any = getattr(replay.sampler, "uniform_sampler", replay.sampler)
    rows: list[int] = sampler.oldest(len(sampler)).tolist()
    if sampler is not replay.sampler:
        assert sorted(rows) == (replay.sampler.tree.leaves > 0).nonzero().flatten().tolist()  # type: ignore[attr-defined]
    return rows


@settings(deadline=None, max_examples=examples(100))
@given(
    st.lists(st.one_of(st.just("observe"), st.just("complete"), st.integers(1, 6)), max_size=90),
    st.booleans(),
    st.sampled_from([None, SEQUENCES]),
    st.integers(0, 2**32),
)
def test_a_replay_with_other_returns_is_one_that_always_had_them(
    events: list[Any], prioritized: bool, sequences: dict[str, Any] | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    changed = new_replay(1, prioritized, sequences)
    fixed = {n: new_replay(n, prioritized, sequences) for n in range(1, 7)}
    n, observed = 1, False
    for event in events:
        if isinstance(event, int):
            n = event
            changed.use_returns(Returns(n, 0.5, None))
        elif not observed:
            obs = rng.normal(size=(2, 2)).astype(np.float32)
            for replay in (changed, *fixed.values()):
                replay.observe(obs)
            observed = True
        else:
            ended = rng.random((2, 2)) < 0.2
            row = rng.integers(2, size=2), rng.normal(size=2), ended[0], ended[1] & ~ended[0]
            for replay in (changed, *fixed.values()):
                replay.complete(*row)
            observed = False
    assert drawable(changed) == drawable(fixed[n])
    rows = torch.tensor(drawable(changed))
    if len(rows):
        torch.testing.assert_close(changed.gather(rows), fixed[n].gather(rows), rtol=0, atol=0)
        changed.sample(4)
    if not observed and not prioritized:  # the state of one is that of the other
        again = new_replay(n, prioritized, sequences)
        again.ring.write(max(0, changed.time - 24), changed.ring.read(max(0, changed.time - 24), changed.time))
        again.load_state({name: tensor.clone() for name, tensor in changed.state().items()})
        assert drawable(again) == drawable(changed)


def test_returns_that_do_not_fit_change_nothing() -> None:
    replay = new_replay(2, False, None)
    for _ in range(30):
        replay.add(np.zeros((2, 2)), np.zeros(2), np.ones(2), np.zeros(2, bool), np.zeros(2, bool))
    before = drawable(replay)
    with pytest.raises(InvalidConfig, match="replay_capacity must be at least 50 with 2 environments, got 48 rows"):
        replay.use_returns(Returns(24, 0.5, None))
    assert (drawable(replay), replay.window.ahead) == (before, 2)
    with pytest.raises(ValueError, match="returns of 2 steps cannot be changed to 1 steps"):
        replay.set_returns(1, 0.5)


@pytest.mark.parametrize("lstm", [None, 3])
def test_a_schedule_s_window_is_as_long_as_its_longest_return(lstm: int | None) -> None:
    config = AgentConfig(
        replay_capacity=200,
        batch_size=4,
        reward_clip=None,
        n_step=Exponential(4, 1, 100),
        gamma=Linear(0.5, 1.0, 100),
        lstm=lstm,
        sequence_length=4,
        sequence_period=2,
        burn_in=1,
    )
    make = {"num_envs": 1, "frame_stack": 1, "device": torch.device("cpu"), "seed": 0}
    replay = make_replay((2,), np.dtype(np.float32), config, **make)  # type: ignore[arg-type]
    assert replay.window.ahead == (4 if lstm is None else 4 + 4 - 1)
    for step in range(20):
        replay.add(np.zeros((1, 2)), np.zeros(1), np.array([2.0**step]), np.zeros(1, bool), np.zeros(1, bool))
    row = torch.tensor([6])
    first = 6 if lstm is None else 7  # after the burn-in
    for n, gamma in ((4, 0.5), (2, 1.0), (1, 0.25), (3, 0.5)):
        replay.set_returns(n, gamma)
        batch = replay.gather(row)
        assert float(batch.reward[0]) == sum(gamma**k * 2.0 ** (first + k) for k in range(n))
        assert float(batch.discount[0]) == gamma**n
    with pytest.raises(ValueError, match="returns of 4 steps cannot be changed to 5 steps"):
        replay.set_returns(5, 0.5)


def test_a_constant_schedule_is_the_number_to_the_bit() -> None:
    make = {"num_envs": 2, "frame_stack": 1, "device": torch.device("cpu"), "seed": 0}
    replays = [
        make_replay((2,), np.dtype(np.float32), AgentConfig(replay_capacity=200, **fields), **make)  # type: ignore[arg-type]
        for fields in ({"gamma": 0.997, "n_step": 5}, {"gamma": Constant(0.997), "n_step": Constant(5)})
    ]
    rng = np.random.default_rng(0)
    for _ in range(60):
        ended = rng.random((2, 2)) < 0.1
        row = rng.normal(size=(2, 2)), np.zeros(2), rng.normal(size=2), ended[0], ended[1] & ~ended[0]
        for replay in replays:
            replay.add(*row)
    one, other = (replay.sample(64) for replay in replays)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
