"""One whole update of PQN against separate float64 NumPy code, and the combinations of its parts."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from pixelq.agents import DQN, PQN, AgentConfig, InvalidConfig, Linear
from pixelq.agents.config.at_step import gamma_at, learning_rate_at
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.training.interval import Interval
from pixelq.agents.training.rollout_updater import RolloutUpdater
from pixelq.envs import make_vec
from tests.support.cases import covering_pairs

Array = NDArray[np.float64]
NAMES = [
    *(f"encoder.layers.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")),
    *(f"head.streams.advantage.{layer}.{kind}" for layer in ("hidden", "norm", "out") for kind in ("weight", "bias")),
]
SMALL: dict[str, Any] = {
    "algorithm": "pqn",
    "encoder": "mlp",
    "hidden": 9,
    "learning_starts": 1,
    "rollout_length": 6,
    "minibatches": 4,
    "loss": "squared",
    "optimizer": "radam",
}


class NumPyPQN:
    """The update in float64: two layers with layer norm and ReLU, a linear output; the mean of (q − G)²."""

    def __init__(self, weights: list[Array], config: AgentConfig) -> None:
        self.weights, self.config, self.updates = weights, config, 0
        self.m, self.v = ([np.zeros_like(w) for w in weights] for _ in range(2))

    def gradient(self, obs: Array, action: NDArray[np.int64], target: Array) -> list[Array]:
        w1, b1, g1, s1, w2, b2, g2, s2, w3, b3 = self.weights
        epsilon = 1e-6 if self.config.channel_norm else 1e-5

        def norm(x: Array) -> tuple[Array, Array]:
            deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
            return (x - x.mean(-1, keepdims=True)) / deviation, deviation

        def back(gradient: Array, normed: Array, deviation: Array) -> Array:
            centred = gradient - gradient.mean(-1, keepdims=True)
            return (centred - normed * (gradient * normed).mean(-1, keepdims=True)) / deviation

        n1, d1 = norm(obs @ w1.T + b1)
        h1 = np.maximum(n1 * g1 + s1, 0)
        n2, d2 = norm(h1 @ w2.T + b2)
        h2 = np.maximum(n2 * g2 + s2, 0)
        q = h2 @ w3.T + b3
        rows = np.arange(len(obs))
        out = np.zeros_like(q)
        out[rows, action] = 2 * (q[rows, action] - target) / len(obs)
        a2 = (out @ w3) * (h2 > 0)
        z2 = back(a2 * g2, n2, d2)
        a1 = (z2 @ w2) * (h1 > 0)
        z1 = back(a1 * g1, n1, d1)
        of_first = [z1.T @ obs, z1.sum(0), (a1 * n1).sum(0), a1.sum(0)]
        return [*of_first, z2.T @ h1, z2.sum(0), (a2 * n2).sum(0), a2.sum(0), out.T @ h2, out.sum(0)]

    def update(self, obs: Array, action: NDArray[np.int64], target: Array) -> float:
        """Clip to the norm and take a step of RAdam (Liu et al. 2020); return the norm."""
        gradient, config = self.gradient(obs, action, target), self.config
        norm = float(np.sqrt(sum((g**2).sum() for g in gradient)))
        assert config.max_grad_norm is not None
        self.updates += 1
        t, longest = self.updates, 1999.0
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        for i, g in enumerate(gradient):
            g = g * min(1.0, config.max_grad_norm / norm)
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            step = self.m[i] / (1 - 0.9**t)
            if length > 5:
                upper, lower = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
                deviation = np.sqrt(self.v[i] / (1 - 0.999**t)) + config.adam_epsilon
                step = step * np.sqrt(upper / lower) / deviation
            self.weights[i] = self.weights[i] - config.learning_rate * step
        return norm


def returns(rows: list[dict[str, Array]], values: Array, gamma: float, td_lambda: float) -> Array:
    """λ-returns [T, N] by going backwards, environment by environment."""
    out = np.zeros((len(rows), len(values[0])))
    for env in range(out.shape[1]):
        for t in reversed(range(len(rows))):
            row = rows[t]
            future = values[t + 1][env]
            if t + 1 < len(rows) and rows[t + 1]["is_step"][env] and not row["truncated"][env]:
                future = td_lambda * out[t + 1, env] + (1 - td_lambda) * future
            out[t, env] = row["reward"][env] + gamma * (0 if row["terminated"][env] else future)
    return out


def play(agent: PQN, rollout: Rollout, seed: int) -> list[dict[str, Any]]:
    """Rows of a rollout with all kinds of ends, and the one after it, with the agent's own values."""
    rng, rows, n = np.random.default_rng(seed), [], rollout.num_envs
    ended = np.zeros(n, bool)
    while not rollout.is_complete:
        obs = rng.normal(size=(n, 4)).astype(np.float32)
        rollout.observe(obs)
        action = agent.explore(rollout.latest())
        rows.append({"obs": obs.astype(float), "is_step": ~ended, "action": action})
        if not rollout.is_complete:
            kind, reward = rng.random(n), np.where(ended, 0, 2 * rng.normal(size=n)).astype(np.float32)
            terminated, truncated = ~ended & (kind < 0.2), ~ended & (kind > 0.8)
            lost = ~ended & (kind > 0.2) & (kind < 0.3)
            rollout.complete(action, reward, terminated, truncated, lost)
            rows[-1] |= {"reward": reward.clip(-1, 1), "terminated": terminated | lost, "truncated": truncated}
            ended = terminated | truncated
    return rows


@pytest.mark.parametrize("norm", ["layer_norm", "channel_norm"])
def test_a_whole_update_is_that_of_separate_code(norm: str) -> None:
    fields = {**SMALL, norm: True, "max_grad_norm": 2.5, "learning_rate": 0.05, "td_lambda": 0.65, "gamma": 0.9}
    agent = PQN(Box(-9, 9, (4,)), Discrete(3), AgentConfig(**fields), device="cpu", seed=0)
    agent.step = 10
    weights = agent.network.state_dict()
    assert list(weights) == NAMES
    separate = NumPyPQN([tensor.double().numpy().copy() for tensor in weights.values()], agent.config)
    rollout = agent.make_replay(5, 1)
    assert isinstance(rollout, Rollout)
    interval = Interval(0)
    updater = RolloutUpdater(agent, rollout, interval)
    # The same in NumPy: targets from the values that acting had, then minibatches in the order of the seed
    rows = play(agent, rollout, 0)
    order = torch.Generator().manual_seed(agent.seeds.replay)
    values = np.stack([agent.network.q(torch.from_numpy(row["obs"]).float()).amax(1).tolist() for row in rows])
    target = returns(rows[:-1], values, 0.9, 0.65).reshape(-1)
    obs, action, is_step = (np.concatenate([row[name] for row in rows[:-1]]) for name in ("obs", "action", "is_step"))
    assert 0 < (~is_step).sum() < 20
    norms = []
    for _ in range(2):
        for chosen in np.array_split(torch.randperm(30, generator=order).numpy(), 4):
            kept = chosen[is_step[chosen]]
            norms.append(separate.update(obs[kept], action[kept], target[kept]))
    updater.learn(0)
    assert agent.updates == len(interval.losses) == 8 == separate.updates
    assert min(norms) < 2.5 < max(norms)  # clipped, and not
    for name, expected in zip(NAMES, separate.weights, strict=True):
        found = agent.network.state_dict()[name].numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=name)
    assert rollout.start == 6


def agent_in_catch(**fields: Any) -> tuple[PQN, Any]:
    envs = make_vec("pixelq/Catch-v0", 4, seed=0)
    config = AgentConfig(**{**SMALL, "atoms": 11, **fields})
    return PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu"), envs


COMBINATIONS = covering_pairs(
    ("squared", "huber", "rescaled", "projection", "hl_gauss"),
    (False, True),  # dueling
    (False, True),  # noisy
    (None, 5),  # LSTM
    ("layer_norm", "channel_norm", "plain"),
    ("adam", "radam", "rmsprop"),
    (0, 2),  # past rollouts
)


@pytest.mark.parametrize(("loss", "dueling", "noisy", "lstm", "norm", "optimizer", "past"), COMBINATIONS)
def test_every_part_with_every_other(
    loss: str, dueling: bool, noisy: bool, lstm: int | None, norm: str, optimizer: str, past: int
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "rescaled": {"value_rescaling": True},
        **{
            kind: {"head": "categorical", "categorical_loss": kind, "loss": "huber"}
            for kind in ("projection", "hl_gauss")
        },
    }
    fields = kinds.get(loss, {"loss": loss}) | {
        "lstm_last_action": lstm is not None,
        "lstm_last_reward": lstm is not None,
    }
    fields |= {} if norm == "plain" else {norm: True}
    fields |= {"past_rollouts": past, "kept_rollouts": past + 1} if past and lstm is None else {}
    agent, envs = agent_in_catch(dueling=dueling, noisy=noisy, lstm=lstm, optimizer=optimizer, **fields)
    before = {name: parameter.clone() for name, parameter in agent.network.named_parameters()}
    agent.learn(envs, 60)
    earlier = 1 if past and lstm is None else 0  # the second of two rollouts has the first beside it
    assert agent.updates == 2 * 4 * (2 + earlier)
    for name, parameter in agent.network.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.filterwarnings("ignore:nothing is learned")
def test_unrolling_a_rollout_is_acting_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values that the LSTM gives for a rollout, read from its start, are those that acting kept."""
    agent, envs = agent_in_catch(lstm=7, lstm_last_action=True, lstm_last_reward=True, learning_starts=10**6)
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.mul_(3.0)  # values that differ
    kept, original = [], RolloutUpdater.learn

    def learn(self: RolloutUpdater, before: int) -> None:
        if self.rollout.is_complete:
            numbers = torch.arange(24).view(6, 4)
            for batch in map(self.rollout.gather, self.rollout.draw(numbers.float(), 2, 1)):
                q = agent.network.head.q(agent.network.head(batch.features(agent.network))).amax(1)
                slots = (self.rollout.start + batch.target.long() // 4) % self.rollout.ring.length
                kept.append((q, self.rollout.values[slots, batch.target.long() % 4], batch.is_step))
        original(self, before)

    monkeypatch.setattr(RolloutUpdater, "learn", learn)
    agent.learn(envs, 160)  # without an update
    found, expected, is_step = (torch.cat(part) for part in zip(*kept, strict=True))
    assert len(found) > 100
    assert not is_step.all()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.std() > 0.1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"double": True},
            "double must be False with the algorithm pqn, which has neither a replay nor a target network",
        ),
        ({"prioritized": True}, "prioritized must be False with the algorithm pqn"),
        ({"n_step": 3}, "n_step must be 1 with the algorithm pqn"),
        ({"munchausen": True}, "munchausen must be False with the algorithm pqn"),
        ({"target_update_every": 7}, "target_update_every must be 10000 with the algorithm pqn"),
        ({"target_tau": 0.1}, "target_tau must be None with the algorithm pqn"),
        ({"head": "quantile", "loss": "huber"}, "head must be scalar or categorical with the algorithm pqn"),
        ({"algorithm": "dqn"}, "rollout_length must be 32 unless the algorithm is pqn, got 6"),
        ({"channel_norm": True, "layer_norm": True}, "channel_norm must be False with layer_norm"),
        ({"categorical_loss": "hl_gauss"}, "categorical_loss must be projection unless the head is categorical"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        AgentConfig(**{**SMALL, **fields})
    assert str(error.value).startswith(sentence)


def test_each_class_has_its_algorithm() -> None:
    spaces = Box(-1, 1, (3,)), Discrete(2)
    assert PQN(*spaces, device="cpu").config.algorithm == "pqn"
    with pytest.raises(InvalidConfig, match="algorithm must be dqn for a DQN, got pqn; make a PQN of this"):
        DQN(*spaces, AgentConfig(**SMALL), device="cpu")
    with pytest.raises(InvalidConfig, match="algorithm must be pqn for a PQN, got dqn; make a DQN of this"):
        PQN(*spaces, "classic", device="cpu")


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_a_moving_target_network_is_a_mean_of_the_online_ones(tau: float) -> None:
    envs = make_vec("pixelq/Catch-v0", 4, seed=0)
    fields = {"encoder": "mlp", "hidden": 8, "learning_starts": 40, "batch_size": 4, "replay_capacity": 400}
    config = AgentConfig(target_tau=tau, target_update_every=1, learning_rate=0.01, **fields)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    expected = [parameter.detach().double().clone() for parameter in agent.network.parameters()]
    moved, original = 0, agent.learner.soft_update_target

    def move(share: float) -> None:
        nonlocal moved
        original(share)
        moved += 1
        for mean, parameter in zip(expected, agent.network.parameters(), strict=True):
            mean.mul_(1 - tau).add_(parameter.detach().double(), alpha=tau)

    agent.learner.soft_update_target = move  # type: ignore[method-assign]
    agent.learn(envs, 80)
    assert moved == agent.updates == 10
    for mean, target in zip(expected, agent.learner.target_network.parameters(), strict=True):
        torch.testing.assert_close(target.double(), mean, atol=1e-6, rtol=0)


def test_settings_of_rollouts_can_be_changed() -> None:
    envs = make_vec("CartPole-v1", 4, 0)
    config = AgentConfig(**SMALL, kept_rollouts=2)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 4 * 6 * 3)
    before = agent.updates
    agent.replace(epochs=3, minibatches=2, td_lambda=0.0).learn(envs, 4 * 6 * 2)
    assert (before, agent.updates - before) == (3 * 2 * 4, 2 * 3 * 2)
    before = agent.updates
    agent.replace(past_rollouts=2).learn(envs, 4 * 6 * 2)
    assert agent.updates - before == 2 * 3 * 2 * (1 + 2)
    with pytest.raises(InvalidConfig, match=r"^past_rollouts must be at most kept_rollouts, 2, got 3"):
        agent.replace(past_rollouts=3)
    with pytest.raises(InvalidConfig, match=r"^kept_rollouts must stay 2, from which this PQN was built, got 3"):
        agent.replace(kept_rollouts=3)


@pytest.mark.parametrize(
    "fields",
    [
        {"dueling": True},
        {"value_rescaling": True},
        {"head": "categorical", "categorical_loss": "hl_gauss", "loss": "huber"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_the_values_of_earlier_rollouts_are_the_greatest_of_allowed_actions(fields: dict[str, Any]) -> None:
    agent = PQN(Box(-1, 1, (5,)), Discrete(4), AgentConfig(**SMALL | fields), device="cpu", seed=3)
    obs = torch.randn(7, 5)
    q = agent.q_values(obs)
    assert torch.allclose(agent.learner.values(obs), q.max(1).values, atol=1e-6)
    mask = torch.rand(7, 4) < 0.6
    mask[:, 2] = True
    expected = [max(q[row, action].item() for action in range(4) if mask[row, action]) for row in range(7)]
    assert agent.learner.values(obs, mask).tolist() == pytest.approx(expected, abs=1e-6)
    assert not agent.learner.values(obs).requires_grad


def test_rate_and_discount_follow_their_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentConfig(
        algorithm="pqn", hidden=8, encoder="mlp", learning_starts=1, rollout_length=5, minibatches=2, epochs=1,
        learning_rate=1e-2, learning_rate_end=1e-4, learning_rate_steps=100, gamma=Linear(0.5, 0.9, 100),
    )  # fmt: skip
    envs = make_vec("pixelq/Catch-v0", 4, 0)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    rates, gammas, update, targets = [], [], agent.learner.update, Rollout.targets

    def updated(batch: Any) -> Any:
        rates.append((agent.learner.learning_rate, learning_rate_at(config, agent.step)))
        return update(batch)

    def summed(self: Rollout, gamma: Any, *rest: Any) -> Any:
        gammas.append((gamma, gamma_at(config, agent.step)))
        return targets(self, gamma, *rest)

    monkeypatch.setattr(agent.learner, "update", updated)
    monkeypatch.setattr(Rollout, "targets", summed)
    agent.learn(envs, 160)
    for seen in (rates, gammas):
        assert [used for used, _ in seen] == pytest.approx([due for _, due in seen], rel=1e-6)
        assert len(set(seen)) > 3
