"""Rollouts: what is written, which rows are learned from, and what an LSTM reads."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.agents import PQN
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.schedules import Linear, Piecewise
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Segment
from pixelq.agents.experience.returns import lambda_returns
from pixelq.agents.experience.rollout import Minibatch, Rollout, make_rollout
from pixelq.agents.learning.gradient import Update
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.agents.training.interval import Interval
from pixelq.agents.training.rollout_updater import RolloutUpdater
from tests.support.cases import examples

ACTIONS = 3


class Game:
    """Environments whose frames count up, with next-step autoreset; what they did is kept time step by time step."""

    def __init__(self, num_envs: int, stack: int, seed: int, end: float = 0.2) -> None:
        self.rng, self.num_envs, self.stack, self.end = np.random.default_rng(seed), num_envs, stack, end
        self.ended = np.zeros(num_envs, bool)  # the next step only resets
        self.frames = np.zeros((num_envs, stack, 2), np.float32)
        self.count = 0
        self.show(self.ended)
        self.rows: list[dict[str, Any]] = []

    def show(self, reset: Any) -> None:
        self.frames[reset] = 0  # a new episode starts with black frames
        self.frames = np.roll(self.frames, -1, axis=1)
        self.count += 1
        self.frames[:, -1] = self.count + np.arange(self.num_envs)[:, None] / 8 + np.array([0, 0.5])

    @property
    def obs(self) -> Any:
        return self.frames if self.stack > 1 else self.frames[:, 0]

    def play(self, rollout: Rollout, q: Any = None) -> None:
        """One time step."""
        obs, n = self.obs.copy(), self.num_envs
        rollout.observe(obs)
        shown = rollout.latest()
        assert np.array_equal(shown.numpy(), obs)
        q = torch.from_numpy(self.rng.normal(size=(n, ACTIONS)).astype(np.float32)) if q is None else q
        rollout.keep_values(shown, q)
        self.rows.append({"obs": obs, "value": q.amax(1).numpy(), "is_step": ~self.ended})

    def outcome(self, rollout: Rollout) -> None:
        n, was = self.num_envs, self.ended
        kind, action = self.rng.random(n), self.rng.integers(ACTIONS, size=n)
        terminated, truncated = ~was & (kind < self.end), ~was & (kind > 1 - self.end / 2)
        lost = ~was & ~terminated & ~truncated & (kind < 2 * self.end)
        reward = np.where(was, 0.0, 3 * self.rng.normal(size=n)).astype(np.float32)
        rollout.complete(action, reward, terminated, truncated, lost)
        self.rows[-1] |= {
            "action": action,
            "reward": reward,
            "terminated": terminated | lost,
            "truncated": truncated,
        }
        self.show(was)
        self.ended = terminated | truncated


def column(rows: list[dict[str, Any]], name: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([row[name] for row in rows]))


def steps_of(rows: list[dict[str, Any]], target: torch.Tensor) -> dict[tuple[float, ...], tuple[int, float]]:
    """What `learned` finds in minibatches of all steps of some rows."""
    return {
        tuple(row["obs"][env].flatten().tolist()): (row["action"][env], target[t, env].item())
        for t, row in enumerate(rows)
        for env in range(len(row["is_step"]))
        if row["is_step"][env]
    }


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32))
def test_each_step_is_learned_from_once_an_epoch(steps: int, envs: int, stack: int, count: int, seed: int) -> None:
    rollout = Rollout((stack, 2) if stack > 1 else (2,), np.dtype(np.float32), steps=steps, num_envs=envs,
                      frame_stack=stack, seed=seed)  # fmt: skip
    game, count = Game(envs, stack, seed), min(count, steps * envs)
    for number in range(3):
        while not rollout.is_complete:
            game.play(rollout)
            if not rollout.is_complete:
                game.outcome(rollout)
        rows = game.rows[number * steps : (number + 1) * steps + 1]
        assert len(rows) == steps + 1
        target = rollout.targets(0.9, 0.7, 2.0)
        values = column(rows[1:], "value")
        parts = [column(rows[:-1], name) for name in ("terminated", "truncated")]
        reward = column(rows[:-1], "reward").clamp(-2, 2)
        torch.testing.assert_close(target, lambda_returns(reward, *parts, values, 0.9, 0.7))
        expected = steps_of(rows[:-1], target)
        batches = list(map(rollout.gather, rollout.draw(target, count, 2)))
        assert len(batches) == 2 * count
        sizes = [len(batch.action) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        for epoch in (batches[:count], batches[count:]):
            found = [learned(batch) for batch in epoch]
            assert sum(map(len, found)) == len(expected)
            assert {key: value for part in found for key, value in part.items()} == expected
        rollout.begin()
        game.outcome(rollout)


class Recording(RolloutLearner):
    """A learner that only keeps what it is given."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.given: list[dict[tuple[float, ...], tuple[int, float]]] = []

    def update(self, batch: Minibatch) -> Update:
        self.given.append(learned(batch))
        return Update(torch.zeros(()), torch.zeros(()), torch.zeros(()))

    def set_learning_rate(self, rate: float) -> None:
        pass

    def drop_subnormals(self, updates: int) -> None:
        pass


@settings(max_examples=examples(40), deadline=None)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 3)),
    st.tuples(st.integers(1, 5), st.integers(1, 3)),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_updates_are_spread_evenly_over_the_next_rollout_or_come_at_once(
    size: tuple[int, int], drawn: tuple[int, int], stack: int, overlap: bool, seed: int
) -> None:
    (steps, envs), (count, epochs) = size, drawn
    count = min(count, steps * envs)
    rollout = Rollout((stack, 2) if stack > 1 else (2,), np.dtype(np.float32), steps=steps, num_envs=envs,
                      frame_stack=stack, seed=seed, is_kept=overlap)  # fmt: skip
    config = AgentConfig(algorithm="pqn", overlap=overlap, minibatches=count, epochs=epochs, learning_starts=1)
    learner, game = Recording(), Game(envs, stack, seed)
    agent: Any = SimpleNamespace(config=config, step=1, updates=0, learner=learner)
    updater = RolloutUpdater(agent, rollout, Interval(0))
    expected: list[dict[tuple[float, ...], tuple[int, float]]] = []
    for step in range(4 * steps + 1):  # at the step 4T, the fourth rollout is complete
        game.play(rollout)
        if rollout.is_complete:
            target, rows = rollout.targets(config.gamma, config.td_lambda, 1.0), game.rows[step - steps : step]
            expected.append(steps_of(rows, target))
        updater.learn(step)
        whole, part = divmod(step, steps)
        done = -(-count * epochs * (part + 1) // steps) if overlap else count * epochs
        assert agent.updates == len(learner.given) == (0 if whole == 0 else (whole - 1) * count * epochs + done)
        game.outcome(rollout)
    for number, rows in enumerate(expected[:3]):
        for epoch in range(epochs):
            first = (number * epochs + epoch) * count
            found = learner.given[first : first + count]
            assert {key: value for each in found for key, value in each.items()} == rows


def value_of(obs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """What the network of `Recording` makes of observations."""
    assert mask is None
    return torch.sin(obs.flatten(1).sum(1))


@settings(max_examples=examples(60), deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_each_epoch_has_the_newest_rollout_and_others_of_the_last_ones(
    size: tuple[int, int, int], drawn: tuple[int, int, int, int], overlap: bool, seed: int
) -> None:
    (steps, envs, stack), (count, epochs, kept, wanted) = size, drawn
    count, wanted = min(count, steps * envs), min(wanted, kept)
    rollout = Rollout((stack, 2) if stack > 1 else (2,), np.dtype(np.float32), steps=steps, num_envs=envs,
                      frame_stack=stack, seed=seed, is_kept=overlap, past=kept)  # fmt: skip
    config = AgentConfig(algorithm="pqn", overlap=overlap, minibatches=count, epochs=epochs, learning_starts=1,
                         kept_rollouts=kept, past_rollouts=wanted)  # fmt: skip
    learner, game = Recording(), Game(envs, stack, seed)
    learner.values = value_of  # type: ignore[method-assign]
    updater = RolloutUpdater(SimpleNamespace(config=config, step=1, updates=0, learner=learner), rollout, Interval(0))  # type: ignore[arg-type]
    newest = []
    for step in range(7 * steps + 1):
        game.play(rollout)
        if rollout.is_complete:
            newest.append(steps_of(game.rows[step - steps : step], rollout.targets(config.gamma, 0.65, 1.0)))
        updater.learn(step)
        game.outcome(rollout)
    # What is learned of each rollout later, by its number
    past = []
    for number in range(6):
        rows = game.rows[number * steps : (number + 1) * steps + 1]
        values = value_of(column(rows[1:], "obs").flatten(0, 1)).view(steps, envs)
        ends = [column(rows[:-1], name) for name in ("terminated", "truncated")]
        reward = column(rows[:-1], "reward").clamp(-1, 1)
        past.append(steps_of(rows[:-1], lambda_returns(reward, *ends, values, config.gamma, 0.65)))
    # What is learned after each
    given = iter(learner.given)
    for number in range(6):
        others = min(wanted, number)
        for _ in range(epochs):
            parts = [next(given) for _ in range(count * (1 + others))]
            found = {key: value for part in parts for key, value in part.items()}
            assert sum(map(len, parts)) == len(found)
            assert newest[number].items() <= found.items()
            later = {key: value for key, value in found.items() if key not in newest[number]}
            there = [other for other in range(max(0, number - kept), number) if past[other].items() & later.items()]
            assert later == {key: value for other in there for key, value in past[other].items()}
            empty = sum(not past[other] for other in range(max(0, number - kept), number))
            assert others - empty <= len(there) <= others


@settings(max_examples=examples(60), deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 4),
    st.booleans(),
    st.lists(st.integers(0, 9), min_size=40, max_size=40),
)
def test_earlier_rollouts_stay_whole_whenever_environments_are_reset(
    size: tuple[int, int, int], kept: int, overlap: bool, cuts: list[int]
) -> None:
    """They are there as they were played until the next rollout is complete, or are not drawn."""
    steps, envs, stack = size
    rollout = Rollout((stack, 2) if stack > 1 else (2,), np.dtype(np.float32), steps=steps, num_envs=envs,
                      frame_stack=stack, is_kept=overlap, past=kept)  # fmt: skip
    game, complete, drawn = Game(envs, stack, 0), [], []

    def check() -> None:
        shown: list[torch.Tensor] = []
        for first in drawn:
            rollout.past_targets(first, lambda obs, mask: (shown.append(obs), value_of(obs))[1], 1, 0.9, 0.5, None)
        expected = [column(game.rows[first + 1 : first + steps + 1], "obs").flatten(0, 1) for first in drawn]
        assert torch.equal(torch.cat([*shown, torch.empty(0)]), torch.cat([*expected, torch.empty(0)]))
        for first in drawn:
            rows = rollout.ring.observations(rollout._rows(first).flatten())
            assert torch.equal(rows, column(game.rows[first : first + steps], "obs").flatten(0, 1))

    for cut in cuts:
        game.play(rollout)
        if overlap:
            check()
        if rollout.is_complete:
            (drawn,) = rollout.draw_past(100, 1)
            assert sorted(set(drawn)) == sorted(drawn)
            assert set(drawn) <= set(complete[-kept:])
            if not any(cuts):
                assert len(drawn) == min(len(complete), kept)
            check()
            complete.append(rollout.start)
            rollout.begin()
        if cut == 9:  # before the outcome
            rollout.cut(game.obs)
            game.rows.pop()
            complete = [first for first in complete if first + steps != rollout.time]
            drawn = []
            game.show(np.ones(envs, bool))
            game.frames[:, :-1], game.ended = 0, np.zeros(envs, bool)
        else:
            game.outcome(rollout)


def test_epochs_and_past_rollouts_may_be_schedules() -> None:
    rollout = Rollout((2,), np.dtype(np.float32), steps=3, num_envs=2, past=5)
    config = AgentConfig(algorithm="pqn", minibatches=2, learning_starts=1, kept_rollouts=5,
                         epochs=Piecewise((0, 3), (90, 1)), past_rollouts=Linear(0, 2, 96))  # fmt: skip
    learner, game, updates = Recording(), Game(2, 1, 0), []
    learner.values = value_of  # type: ignore[method-assign]
    agent: Any = SimpleNamespace(config=config, step=1, updates=0, learner=learner)
    updater = RolloutUpdater(agent, rollout, Interval(0))
    for time in range(7 * 3):
        game.play(rollout)
        agent.step, before = 1 + 8 * time, agent.updates
        is_complete = rollout.is_complete
        updater.learn(agent.step)
        if is_complete:
            updates.append((agent.updates - before) // 2)
        game.outcome(rollout)
    # After 24, 48, …, 144 steps: 3, 3, 3, 1, 1, 1 epochs with 0.5, 1, 1.5, 2, 2, 2 others, of which there are as many
    assert updates == [3 * 1, 3 * 2, 3 * 3, 1 * 3, 1 * 3, 1 * 3]


def test_masks_are_kept_with_earlier_rollouts() -> None:
    rollout = Rollout((2,), np.dtype(np.float32), steps=2, num_envs=2, past=1)
    rollout.keep_masks(ACTIONS)
    game, masks = Game(2, 1, 0), np.random.default_rng(0).random((5, 2, ACTIONS)) < 0.5
    for time, mask in enumerate(masks):
        rollout.observe(game.obs.copy(), mask=mask)
        rollout.keep_values(rollout.latest(), torch.zeros(2, ACTIONS))
        game.rows.append({})
        if rollout.is_complete:
            assert rollout.draw_past(1, 2) == ([[0], [0]] if time == 4 else [[], []])
            if time == 2:
                rollout.begin()
        if time < 4:
            game.outcome(rollout)
    shown = []
    rollout.past_targets(0, lambda obs, mask: (shown.append(mask), obs[:, 0])[1], 2, 0.9, 0.5, None)
    assert len(shown) == 2
    assert torch.equal(torch.cat(shown), torch.from_numpy(masks[1:3]).flatten(0, 1))  # type: ignore[arg-type]


def learned(batch: Minibatch) -> dict[tuple[float, ...], tuple[int, float]]:
    """Action and target of each step of a minibatch, by its observation."""
    assert isinstance(batch.obs, torch.Tensor)
    kept = batch.is_step.nonzero().flatten().tolist()
    return {tuple(batch.obs[i].flatten().tolist()): (int(batch.action[i]), batch.target[i].item()) for i in kept}


def test_the_order_is_that_of_the_seed_and_goes_on_from_a_state() -> None:
    def actions(rollout: Rollout) -> list[list[int]]:
        return [batch.action.tolist() for batch in map(rollout.gather, rollout.draw(torch.zeros(8, 4), 3, 1))]

    def filled(seed: int) -> Rollout:
        rollout, game = Rollout((2,), np.dtype(np.float32), steps=8, num_envs=4, seed=seed), Game(4, 1, 0)
        for _ in range(8):
            game.play(rollout)
            game.outcome(rollout)
        return rollout

    one, two, other = filled(0), filled(0), filled(1)
    first = actions(one)
    assert first == actions(two)
    assert first != actions(other)
    other.load_state(one.state())
    assert actions(one) == actions(other) != first


def test_a_cut_forgets_the_steps_so_far() -> None:
    rollout, game = Rollout((2,), np.dtype(np.float32), steps=3, num_envs=2), Game(2, 1, 0, end=0.0)
    game.play(rollout)
    game.outcome(rollout)
    game.play(rollout)
    rollout.cut(game.obs)  # before the outcome
    for step in range(3):
        game.play(rollout)
        assert rollout.ring.is_first(torch.arange(*rollout.ring.newest().indices(10**6))).all() == (step == 0)
        assert not rollout.is_complete
        game.outcome(rollout)
    game.play(rollout)
    assert rollout.is_complete
    (batch,) = map(rollout.gather, rollout.draw(rollout.targets(0.9, 0.5, None), 1, 1))
    assert isinstance(batch.obs, torch.Tensor)
    assert sorted(batch.obs[:, 0].tolist()) == sorted(
        float(row["obs"][env, 0]) for row in game.rows[2:5] for env in range(2)
    )


def test_values_of_other_observations_are_not_kept() -> None:
    rollout, game = Rollout((2,), np.dtype(np.float32), steps=1, num_envs=2), Game(2, 1, 0)
    game.play(rollout, torch.tensor([[1.0, 5.0, 2.0], [0.0, -1.0, -2.0]]))
    rollout.keep_values(torch.from_numpy(game.obs), torch.full((2, 3), 9.0))
    assert rollout.values[0].tolist() == [5, 0]


def test_sequences_are_whole_environments_with_the_state_of_acting() -> None:
    steps, envs = 4, 5
    rollout = Rollout((2,), np.dtype(np.float32), steps=steps, num_envs=envs, state_size=3)
    game, states = Game(envs, 1, 2, end=0.3), []
    for number in range(2):
        while not rollout.is_complete:
            obs = game.obs.copy()
            states.append((torch.randn(envs, 3), torch.randn(envs, 3)))
            rollout.observe(obs, states[-1])
            rollout.keep_values(rollout.latest(), torch.zeros(envs, ACTIONS))
            game.rows.append({"obs": obs, "is_step": ~game.ended})
            if not rollout.is_complete:
                game.outcome(rollout)
        first = number * steps
        target = torch.arange(steps * envs).view(steps, envs).float()
        seen = []
        for batch in map(rollout.gather, rollout.draw(target, 2, 1)):
            assert isinstance(batch.obs, Segment)
            chosen = [int(value) for value in batch.target.view(steps, -1)[0]]
            seen += chosen
            for kept, stored in zip(batch.obs.state, states[first], strict=True):
                torch.testing.assert_close(kept, stored[chosen])
            rows = game.rows[first : first + steps]
            torch.testing.assert_close(batch.obs.obs, column(rows, "obs")[:, chosen])
            assert number > 0 or batch.obs.episode_start[0].all()
            read, before = slice(number == 0, None), game.rows[max(first - 1, 0) : first + steps - 1]
            assert torch.equal(batch.obs.episode_start[read], ~column(before, "is_step")[:, chosen])
            assert torch.equal(batch.obs.last.action[read], column(before, "action")[:, chosen])
            assert torch.equal(batch.obs.last.reward[read], column(before, "reward")[:, chosen])
        assert sorted(seen) == list(range(envs))
        rollout.begin()
        game.outcome(rollout)


def test_the_size_of_a_rollout() -> None:
    def make(num_envs: int, **fields: Any) -> Rollout:
        config = AgentConfig(algorithm="pqn", rollout_length=4, **fields)
        shape, dtype = (2,), np.dtype(np.float32)
        return make_rollout(shape, dtype, config, num_envs=num_envs, frame_stack=1, device=torch.device("cpu"), seed=0)

    assert make(2, minibatches=8).steps == 4
    kept = AgentConfig(algorithm="pqn", rollout_length=4, minibatches=8, kept_rollouts=3)
    agent = PQN(Box(-1, 1, (2,)), Discrete(2), kept, device="cpu")
    assert agent.least_rows(2, 1) == make(2, minibatches=8, kept_rollouts=3).ring.rows == 2 * (4 * 4 + 2)
    with pytest.raises(InvalidConfig, match="minibatches must be at most the 8 steps of a rollout, got 9"):
        make(2, minibatches=9)
    with pytest.raises(InvalidConfig, match="minibatches must be at most the 2 environments, whose sequences"):
        make(2, minibatches=3, lstm=4)


def test_earlier_rollouts_are_drawn_uniformly_in_each_epoch() -> None:
    rollout, no = Rollout((2,), np.dtype(np.float32), steps=1, num_envs=1, past=8), np.zeros(1, bool)
    for time in range(9):
        rollout.observe(np.zeros((1, 2), np.float32))
        rollout.keep_values(rollout.latest(), torch.zeros(1, 3))
        rollout.complete(np.zeros(1), np.zeros(1), no, no)
        if time < 8:
            rollout.begin()
    counts = np.bincount([first for (first,) in rollout.draw_past(1, 800)], minlength=9)
    assert (counts[:8] > 60).all()
    assert (counts[:8] < 140).all()
    assert counts[8] == 0
