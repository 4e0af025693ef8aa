"""Learning with memory: targets and priorities against float64 numpy code, burn-in, states, and what acting carries."""

import copy
import dataclasses
import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.agents.acting.network import make_network
from pixelq.agents.config.at_step import epsilon_ladder
from pixelq.agents.evaluation.evaluate import evaluate
from pixelq.agents.experience.batches import Batch, Sequences
from pixelq.agents.experience.windows import SequenceWindow
from pixelq.agents.learning import staleness
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.staleness import HISTORY, q_discrepancy
from pixelq.envs import make_vec
from pixelq.networks import MLP, QNetwork
from tests.support import reference as ref
from tests.support.cases import representative
from tests.support.failing_envs import fail_at

Array = NDArray[np.float64]
HEADS = ("scalar", "categorical", "quantile", "implicit", "fqf")
ALONE = {"lstm": None, "lstm_last_action": False, "lstm_last_reward": False}
CONFIG = AgentConfig(
    encoder="mlp",
    hidden=0,
    lstm=5,
    lstm_last_action=True,
    lstm_last_reward=True,
    sequence_length=8,
    sequence_period=4,
    burn_in=3,
    n_step=3,
    gamma=0.9,
    reward_clip=None,
    batch_size=6,
    replay_capacity=400,
    learning_starts=60,
    train_every=4,
    learning_rate=1e-3,
    target_update_every=40,
)


def trained(steps: int = 200, env: str = "CartPole-v1", num_envs: int = 2, **fields: Any) -> tuple[DQN, Any]:
    envs = make_vec(env, num_envs, seed=0)
    agent = DQN(
        envs.single_observation_space,
        envs.single_action_space,
        dataclasses.replace(CONFIG, **fields),
        device="cpu",
        seed=0,
    )
    return agent.learn(envs, steps), envs


# --- one update, in numpy ---------------------------------------------------------------------------------------------


class NumpyNetwork:
    """LSTM and linear head of a Q-network in float64, a step of one environment at a time."""

    def __init__(self, network: Any) -> None:
        self.w = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}

    def step(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """q [A] in the head's own units, and the new state."""
        w = self.w
        hidden, memory = state
        gates = w["lstm.cell.weight_ih_l0"] @ x + w["lstm.cell.bias_ih_l0"]
        gates = gates + w["lstm.cell.weight_hh_l0"] @ hidden + w["lstm.cell.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(memory)
        name = "head.streams.advantage.out"
        return w[f"{name}.weight"] @ hidden + w[f"{name}.bias"], (hidden, memory)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def q_of_sequence(network: NumpyNetwork, batch: Sequences, column: int, actions: int) -> Array:
    """q [W, A] at every step of a sequence."""
    segment = batch.segment
    state = tuple(part[column].numpy().astype(np.float64) for part in segment.state)
    found = []
    for t in range(len(segment.obs)):
        last = np.zeros(actions + 1)
        if segment.episode_start[t, column]:
            state = tuple(np.zeros_like(part) for part in state)
        else:
            last[int(segment.last.action[t, column])] = 1.0
            last[-1] = np.tanh(float(segment.last.reward[t, column]))
        x = np.concatenate([segment.obs[t, column].numpy().astype(np.float64), last])
        q, state = network.step(x, state)  # type: ignore[arg-type]
        found.append(q)
    return np.array(found)


@pytest.mark.parametrize(
    ("rescaling", "double", "prioritized"),
    representative(itertools.product((False, True), repeat=3), keep=[(False, False, False), (True, True, True)]),
)
def test_an_update_is_that_of_numpy(rescaling: bool, double: bool, prioritized: bool) -> None:
    """Loss, priorities and mean value of sequences that run through episodes' ends, against the definition."""
    fields = {"value_rescaling": rescaling, "double": double, "prioritized": prioritized, "priority_eta": 0.7}
    agent, _ = trained(steps=300, loss="squared", **fields)
    assert agent.replay is not None
    agent.learner.target_network = make_network((4,), 2, agent.config, seed=9).requires_grad_(False)
    batch = agent.replay.sample(20)
    assert isinstance(batch, Sequences)
    assert batch.segment.episode_start[1:].any()
    assert not batch.is_step.all()
    online, target = NumpyNetwork(agent.network), NumpyNetwork(agent.learner.target_network)
    learned, columns = batch.is_step.shape
    errors = np.zeros((learned, columns))
    taken = np.zeros((learned, columns))
    for b in range(columns):
        q, next_q = (q_of_sequence(network, batch, b, 2) for network in (online, target))
        for u in range(learned):
            place, now = u * columns + b, agent.config.burn_in + u
            after = agent.config.burn_in + int(batch.next_step[u, b])
            value = next_q[after]
            if rescaling:
                value = ref.unrescale(value)
            best = int(np.argmax(q[after] if double else next_q[after]))
            goal = float(batch.reward[place]) + float(batch.discount[place]) * value[best]
            own = q[now][int(batch.action[place])]
            errors[u, b] = (ref.rescale(goal) if rescaling else goal) - own
            taken[u, b] = ref.unrescale(own) if rescaling else own
    is_step = batch.is_step.numpy()
    weight = np.ones(columns) if batch.weight is None else batch.weight.numpy()
    update = agent.learner.update(batch)
    assert update.loss.item() == pytest.approx((errors**2 * is_step * weight).sum() / is_step.sum(), rel=1e-4)
    size = np.abs(errors) * is_step
    priority = 0.7 * size.max(0) + 0.3 * size.sum(0) / is_step.sum(0)
    np.testing.assert_allclose(update.priority.numpy(), priority, rtol=1e-4, atol=1e-6)
    assert update.q_mean.item() == pytest.approx((taken * is_step).sum() / is_step.sum(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("head", "rule", "noisy"),
    representative(
        itertools.product(HEADS, ("max", "double", "munchausen"), (False, True)),
        keep=[("categorical", "max", False), ("implicit", "munchausen", True), ("quantile", "double", False)],
    ),
)
def test_an_update_is_that_of_transitions_between_what_single_steps_remember(head: Any, rule: str, noisy: bool) -> None:
    """Of any head, by any rule: as if the LSTM's outputs, step by step, were what a head alone observes."""
    fields: Any = {
        "atoms": 11,
        "v_min": -5.0,
        "v_max": 20.0,
        "quantiles": 7,
        "cosines": 8,
        "hidden": 16,
        "dueling": True,
    }
    fields |= {"double": True} if rule == "double" else {"munchausen": True} if rule == "munchausen" else {}
    agent, _ = trained(steps=300, head=head, noisy=noisy, prioritized=True, train_every=60, **fields)
    network, target_network = agent.learner.network, agent.learner.target_network
    target_network.head = make_network((4,), 2, agent.config, seed=9).head.requires_grad_(False)
    target_network.encoder, target_network.lstm = network.encoder, network.lstm  # so that both heads observe the same
    batch = gathered(agent)
    assert not batch.is_step.all()
    assert batch.weight is not None
    segment, state, found = batch.segment, batch.segment.state, []
    with torch.no_grad():
        for t in range(len(segment.obs)):
            features, state = network.remember(*segment.steps(t, t + 1, state))
            found.append(features[0])
    seen, columns = torch.stack(found)[agent.config.burn_in :], torch.arange(batch.is_step.shape[1])
    mask = batch.is_step / batch.is_step.sum() * batch.is_step.numel()

    heads = Learner(QNetwork(MLP(5, ()), copy.deepcopy(network.head)), dataclasses.replace(agent.config, **ALONE))
    heads.target_network.head = target_network.head
    heads.generator.set_state(agent.learner.generator.get_state())
    expected = heads.update(
        Batch(
            obs=seen[: len(batch.is_step)].flatten(0, 1),
            action=batch.action,
            reward=batch.reward,
            discount=batch.discount,
            next_obs=seen[batch.next_step, columns].flatten(0, 1),
            weight=(mask * batch.weight).flatten(),
        )
    )
    update = agent.learner.update(batch)
    torch.testing.assert_close(update.loss, expected.loss, rtol=1e-4, atol=1e-6)
    size = expected.priority.view_as(batch.is_step) * batch.is_step
    priority = 0.9 * size.amax(0) + 0.1 * size.sum(0) / batch.is_step.sum(0)
    torch.testing.assert_close(update.priority, priority, rtol=1e-4, atol=1e-6)


# --- burn-in ----------------------------------------------------------------------------------------------------------


def gathered(agent: DQN) -> Sequences:
    assert agent.replay is not None
    batch = agent.replay.sample(6)
    assert isinstance(batch, Sequences)
    return batch


def test_burn_in_gives_a_state_and_no_gradient() -> None:
    agent, _ = trained()
    batch = gathered(agent)
    obs = batch.segment.obs.clone().requires_grad_()
    batch = batch._replace(segment=batch.segment._replace(obs=obs))
    features = batch.features().now(agent.network)
    features.sum().backward()
    assert obs.grad is not None
    reached = obs.grad.abs().sum((1, 2)) > 0  # [W]
    assert reached.tolist() == [False] * 3 + [True] * 5 + [False] * 3
    # The state does come from there: without an episode's start in between, other observations change the features.
    kept = ~batch.segment.episode_start[1:8].any(0)
    assert kept.any()
    changed = obs.detach().clone()
    changed[0] += 1.0
    other = batch._replace(segment=batch.segment._replace(obs=changed)).features().now(agent.network)
    moved = (other - features).abs().view(5, 6, -1).sum((0, 2)) > 1e-6
    assert moved[kept].all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_burn_in_leaves_the_encoder_its_gradient(precision: Any) -> None:
    """Weights that autocast casts where there is no gradient must not be taken where there is one."""
    agent, _ = trained(precision=precision, hidden=7, double=True)
    agent.learner.update(gathered(agent))
    gradients = [p.grad for p in agent.network.encoder.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_a_mask_keeps_what_no_step_starts_from_out() -> None:
    """An update is the same whatever action and reward stand in the row of an episode's last observation."""
    agent, _ = trained(steps=400)
    batch = gathered(agent)
    masked = ~batch.is_step.flatten()
    assert masked.any()
    spoilt = batch._replace(
        action=torch.where(masked, 1 - batch.action, batch.action),
        reward=torch.where(masked, 1e6, batch.reward),
    )
    saved = {name: tensor.clone() for name, tensor in agent.network.state_dict().items()}
    one = agent.learner.update(batch)
    agent.network.load_state_dict(saved)
    other = agent.learner.update(spoilt)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


# --- states -----------------------------------------------------------------------------------------------------------


def watched(agent: DQN, envs: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The q-values [N, A] that acting has in each step of all environments while the agent learns."""
    seen: list[torch.Tensor] = []
    original = agent._q

    def noted(*arguments: Any, **options: Any) -> torch.Tensor:
        seen.append(original(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(agent, "_q", noted)
    agent.learn(envs, steps)
    return seen


@pytest.mark.parametrize("burn_in", [0, 3])
def test_without_learning_sequences_have_the_values_of_acting(burn_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("CartPole-v1", 2, seed=0)
    config = dataclasses.replace(CONFIG, burn_in=burn_in, learning_starts=10**6)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    seen = torch.stack(watched(agent, envs, 300, monkeypatch))  # [T, N, A]
    replay = agent.replay
    assert replay is not None
    assert isinstance(replay.window, SequenceWindow)
    rows = torch.from_numpy(replay.window.starts(replay.first, replay.time - replay.window.ahead - 1))
    batch = replay.gather(rows)
    assert isinstance(batch, Sequences)
    with torch.no_grad():
        q = agent.network.head.q(agent.network.head(batch.features().now(agent.network)))
    times, env = rows // 2, rows % 2
    expected = torch.stack([seen[times + burn_in + u, env] for u in range(8 - burn_in)]).flatten(0, 1)
    assert len(expected) > 100
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-4)
    assert q_discrepancy(agent.network, replay) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [2_000, 400])  # more than was written, and less
def test_after_learning_the_discrepancy_is_that_of_going_through_the_episode_again(capacity: int) -> None:
    agent, _ = trained(steps=700, replay_capacity=capacity, burn_in=2)
    replay = agent.replay
    assert replay is not None
    window = replay.window
    assert isinstance(window, SequenceWindow)
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    rows = window.starts(replay.first, replay.time - window.ahead)
    chosen = [int(rows[int(place)]) for place in np.linspace(0, len(rows) - 1, 4)]
    network, ring, found = NumpyNetwork(agent.network), replay.ring, []
    oldest = max(0, ring.time - ring.length + 1)

    def q_values(begin: int, env: int, end: int, state: Any) -> Array:
        """Of the last of some time steps."""
        for t in range(begin, end + 1):
            at, before = (2 * (u % ring.length) + env for u in (t, t - 1))
            last = np.zeros(3)
            if ring.age[at] == 0 or state is None:  # None at the oldest row
                state = (np.zeros(5), np.zeros(5))
            else:
                last[int(ring.action[before])], last[-1] = 1.0, np.tanh(float(ring.reward[before]))
            q, state = network.step(np.concatenate([ring.frames[at].numpy().astype(np.float64), last]), state)
        return q

    for row in chosen:
        slot, env = divmod(row, 2)
        start = max(t for t in range(ring.time) if t % ring.length == slot)
        stored = tuple(part.numpy().astype(np.float64) for part in window.states[slot // 4, env])
        one = q_values(start, env, start + 2, stored)
        first = max(t for t in range(oldest, start + 3) if t == oldest or ring.age[2 * (t % ring.length) + env] == 0)
        assert start + 2 - first < HISTORY
        other = q_values(first, env, start + 2, None)
        found.append(np.linalg.norm(one - other) / np.abs(other).max())
    assert np.mean(found) > 1e-3
    assert q_discrepancy(agent.network, replay) == pytest.approx(np.mean(found), rel=1e-3)


def test_an_agent_without_memory_has_no_discrepancy() -> None:
    agent, _ = trained(lstm=None, lstm_last_action=False, lstm_last_reward=False, hidden=8)
    assert agent.replay is not None
    assert q_discrepancy(agent.network, agent.replay) is None


# --- acting -----------------------------------------------------------------------------------------------------------


def test_predict_goes_on_from_the_state_that_it_returned() -> None:
    agent, _ = trained(lstm_last_reward=False)
    with torch.no_grad():  # so that neither action is always the better one
        out = agent.network.head.streams.advantage.out
        out.bias.zero_()
        out.weight.copy_(torch.randn(out.weight.shape, generator=torch.Generator().manual_seed(1)))
    obs = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    starts = np.zeros((6, 3), dtype=bool)
    starts[0], starts[3, 1] = True, True
    actions = np.zeros((6, 3), dtype=np.int64)
    state = None
    for t in range(6):
        actions[t], state = agent.predict(obs[t], state, starts[t])
    assert state is not None
    assert [part.shape for part in state] == [(3, 5), (3, 5), (3,)]
    assert (state[2] == actions[-1]).all()
    assert 3 <= actions.sum() <= 15  # of 18
    network = NumpyNetwork(agent.network)
    for b in range(3):
        memory = (np.zeros(5), np.zeros(5))
        for t in range(6):
            last = np.zeros(2)
            if starts[t, b]:
                memory = (np.zeros(5), np.zeros(5))
            else:
                last[actions[t - 1, b]] = 1.0
            q, memory = network.step(np.concatenate([obs[t, b], last]), memory)
            assert actions[t, b] == q.argmax()
        np.testing.assert_allclose(state[0][b], memory[0], atol=1e-5)
        np.testing.assert_allclose(state[1][b], memory[1], atol=1e-5)


def test_environments_that_are_made_anew_begin_with_a_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("CartPole-v1", 2, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, CONFIG, device="cpu", seed=0)
    starts, explore = [], agent.explore

    def noted(obs: Any, memory: Any) -> Any:
        starts.append((memory.episode_start.tolist(), bool(memory.state[0].any())))
        return explore(obs, memory)

    monkeypatch.setattr(agent, "explore", noted)
    fail_at(envs, 5, monkeypatch)
    agent.learn(envs, 14)
    assert starts == [([True, True], False)] + [([False, False], True)] * 4 + [([True, True], False)] + starts[6:]
    assert [start for start, _ in starts[6:]] == [[False, False]] * len(starts[6:])


def test_predict_is_told_rewards_or_warns() -> None:
    agent, _ = trained()
    obs, reward = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), np.array([1.0, -2.0, 0.5])
    memory = agent.make_memory(3)
    assert memory is not None
    first = agent.act(obs, 0.0, memory)
    memory.step(first, reward, np.zeros(3, dtype=bool))
    agent.act(obs, 0.0, memory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is to be told before the first step
        actions, state = agent.predict(obs)
        _, after = agent.predict(obs, state, np.zeros(3, dtype=bool), reward=reward)
    assert actions.tolist() == first.tolist()
    assert after is not None
    np.testing.assert_array_equal(after[0], memory.state[0].numpy())
    with pytest.warns(UserWarning, match="reads the last reward, but predict was called without it and uses 0") as told:
        _, without = agent.predict(obs, state)
    assert told[0].filename == __file__
    assert without is not None
    assert (without[0] != after[0]).any()


def test_wrong_states_are_refused_in_a_sentence() -> None:
    agent, _ = trained()
    obs = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="state must be what predict returned, got 3"):
        agent.predict(obs, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"episode_start must have shape \(2,\), got \(3,\)"):
        agent.predict(obs, None, np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="obs must have 3 rows, one per environment of the memory, got 2"):
        agent.q_values(obs, agent.make_memory(3))


def test_rewards_of_another_number_of_environments_are_refused() -> None:
    agent, _ = trained()
    _, state = agent.predict(np.zeros(4, np.float32))
    agent.predict(np.zeros(4, np.float32), state, reward=1.0)  # type: ignore[arg-type]  # one, as Gymnasium gives it
    with pytest.raises(ValueError, match=r"reward must have shape \(2,\), got \(3,\)"):
        agent.predict(np.zeros((2, 4), np.float32), reward=np.zeros(3))


def test_a_memory_keeps_what_it_was_told_whatever_becomes_of_the_arrays() -> None:
    agent, _ = trained()
    memory = agent.make_memory(2)
    assert memory is not None
    action, reward, done = np.array([1, 0]), np.ones(2, np.float32), np.array([True, False])
    memory.step(action, reward, done)
    action[:], reward[:], done[:] = 7, 9.0, True
    assert (memory.last.action.tolist(), memory.last.reward.tolist()) == ([1, 0], [1.0, 1.0])
    memory.step(action, reward, done)
    assert memory.episode_start.tolist() == [True, False]


def test_actions_may_be_changed_without_changing_the_state() -> None:
    agent, _ = trained()
    actions, state = agent.predict(np.zeros((2, 4), np.float32))
    before = actions.copy()
    actions[:] = 7
    assert state is not None
    assert state[2].tolist() == before.tolist()


def test_the_discrepancy_is_told_after_the_first_and_each_hundredth_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staleness, "q_discrepancy", lambda *_: 0.5)
    agent, _ = trained()
    told = []
    for updates, new in ((0, 0), (1, 1), (99, 98), (100, 1), (101, 1), (350, 249), (400, 50), (401, 1)):
        told.append(staleness.q_discrepancy_of_row(agent.network, agent.replay, updates, new))  # type: ignore[arg-type]
    assert told == [None, 0.5, None, None, 0.5, 0.5, None, 0.5]


def test_one_observation_has_a_state_of_one_row() -> None:
    agent, _ = trained()
    action, state = agent.predict(np.zeros(4, np.float32))
    assert action.shape == ()
    again, _ = agent.predict(np.zeros(4, np.float32), state, np.array([True]), reward=np.zeros(1))
    assert again == action
    assert state is not None
    with pytest.raises(ValueError, match="must be what predict returned for 2 observations"):
        agent.predict(np.zeros((2, 4), np.float32), state)
    with pytest.raises(ValueError, match=r"episode_start must have shape \(1,\), got \(3,\)"):
        agent.predict(np.zeros(4, np.float32), state, np.zeros(3, dtype=bool))


def test_evaluate_policy_of_stable_baselines3_plays_what_we_play() -> None:
    """Its environments reset at once and ours a step late; the episodes are the same, by whoever they are played."""
    agent, _ = trained(steps=400, lstm_last_reward=False)
    seeded = SeededCartPole()
    theirs, _ = evaluate_policy(
        agent, DummyVecEnv([lambda: seeded]), n_eval_episodes=5, return_episode_rewards=True, warn=False
    )
    played = []
    for episode in range(5):
        env, memory = SeededCartPole(episode), agent.make_memory(1)
        assert memory is not None
        obs, total, done = env.reset()[0], 0.0, False
        while not done:
            action = agent.act(obs[None], 0.0, memory)
            obs, reward, terminated, truncated, _ = env.step(action[0])
            memory.step(action, np.array([reward]), np.array([False]))
            total, done = total + reward, terminated or truncated
        played.append(total)
    assert theirs == played
    assert len(set(played)) > 1


class SeededCartPole:
    """CartPole whose k-th episode starts from the seed k."""

    def __new__(cls, episode: int = 0) -> Any:
        import gymnasium

        class Seeded(gymnasium.Wrapper):  # type: ignore[type-arg]
            following = episode

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                self.following += 1
                return self.env.reset(seed=self.following - 1)

        return Seeded(gymnasium.make("CartPole-v1"))


def test_evaluation_carries_the_memory_through_episodes_and_resets() -> None:
    """Against a player that keeps the state of each environment by itself, by the rules of next-step autoreset."""
    agent, envs = trained(steps=400)
    result = evaluate(agent, envs, 6, games_seed=3)
    obs, _ = envs.reset(seed=3)
    network = NumpyNetwork(agent.network)
    states = [(np.zeros(5), np.zeros(5)) for _ in range(2)]
    last, total, returns = np.zeros((2, 3)), np.zeros(2), [[], []]  # type: ignore[var-annotated]
    was_final = np.zeros(2, dtype=bool)
    while min(map(len, returns)) < 3:
        actions = np.zeros(2, dtype=np.int64)
        for env in range(2):
            q, states[env] = network.step(np.concatenate([obs[env], last[env]]), states[env])
            actions[env] = q.argmax()
        obs, reward, terminated, truncated, _ = envs.step(actions)
        for env in range(2):
            total[env] += reward[env]
            last[env] = 0.0
            if was_final[env]:
                states[env] = (np.zeros(5), np.zeros(5))
            else:
                last[env, actions[env]], last[env, -1] = 1.0, np.tanh(reward[env])
            if terminated[env] or truncated[env]:
                returns[env].append(total[env])
                total[env] = 0.0
        was_final = terminated | truncated
    assert list(result.returns) == returns[0][:3] + returns[1][:3]


def test_q_values_without_a_memory_are_those_of_an_episodes_first_step() -> None:
    agent, _ = trained()
    obs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    q, memory = agent.q_values(obs), agent.make_memory(3)
    assert torch.equal(agent.q_values(obs, memory), q)
    assert memory is not None
    memory.step(np.zeros(3), np.zeros(3), np.zeros(3, dtype=bool))
    assert not torch.allclose(agent.q_values(obs, memory), q, atol=1e-4)  # the second time it remembers the first


def test_the_ladder_of_exploration() -> None:
    assert epsilon_ladder(256)[[0, 255]] == pytest.approx([0.4, 0.4**8])
    assert epsilon_ladder(3) == pytest.approx([0.4, 0.4**4.5, 0.4**8])
    assert epsilon_ladder(1) == pytest.approx([0.4**4.5])
    agent, _ = trained(epsilon_ladder=True)
    assert agent.epsilons(3) == pytest.approx([0.4, 0.4**4.5, 0.4**8])
    agent.config = dataclasses.replace(agent.config, epsilon_off=agent.step)
    assert agent.epsilons(3).tolist() == [0, 0, 0]
    agent.config = dataclasses.replace(agent.config, epsilon_off=agent.step + 1)
    obs = np.tile(np.zeros(4, np.float32), (4000, 1))
    explored = agent.explore(obs) != agent.act(obs, 0.0)  # half of the random actions are the greedy one
    quarters = explored.reshape(4, 1000).mean(1)
    ladder = epsilon_ladder(4000).reshape(4, 1000).mean(1) / 2
    assert quarters == pytest.approx(ladder, abs=0.02)


# --- combinations and refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("head", representative(HEADS, keep=["scalar"]))
def test_every_head_learns_with_memory(head: Any, noisy: bool) -> None:
    """Several updates on the same sequences bring the loss down."""
    sizes: Any = {"atoms": 11, "quantiles": 7, "cosines": 8, "dueling": True, "prioritized": True, "hidden": 16}
    agent, _ = trained(steps=100, head=head, noisy=noisy, learning_rate=5e-3, **sizes)
    batch = gathered(agent)
    losses = [agent.learner.update(batch).loss.item() for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"burn_in": 8}, "burn_in must be less than sequence_length, got 8"),
        ({"sequence_period": 9}, "sequence_period must be at most sequence_length, got 9"),
        ({"lstm": None}, "lstm_last_action must be False without an lstm, got True"),
        ({"lstm": 0}, "lstm must be at least 1 or None, got 0"),
        ({"burn_in": -1}, "burn_in must be at least 0, got -1"),
        ({"frame_stack": 17}, r"frame_stack must be in \[1, 16\], got 17"),
        ({"priority_eta": 1.5}, r"priority_eta must be in \[0, 1\], got 1\.5"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        dataclasses.replace(CONFIG, **fields)


def test_a_learner_shrinks_its_memory_too() -> None:
    """With what is kept of the encoder when a network is reset."""
    one, fresh = (make_network((4,), 2, CONFIG, seed=seed) for seed in (0, 1))
    assert one.lstm is not None
    assert fresh.lstm is not None
    expected = [0.8 * a + 0.2 * b for a, b in zip(one.lstm.parameters(), fresh.lstm.parameters(), strict=True)]
    Learner(one, dataclasses.replace(CONFIG, reset_shrink=0.8)).reset(fresh)
    for parameter, value in zip(one.lstm.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, value)
