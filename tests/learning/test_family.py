"""Every part with every other: one update each, by way of acting and the replay; and refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pixelq.agents import DQN, AgentConfig, InvalidConfig, preset
from pixelq.agents.acting.network import make_network
from pixelq.envs import make_vec
from pixelq.networks import FractionHead
from tests.support.cases import covering_pairs

SMALL = {
    "encoder": "mlp",
    "hidden": 12,
    "batch_size": 16,
    "replay_capacity": 400,
    "learning_starts": 1,
    "atoms": 11,
    "quantiles": 7,
    "tau_samples": 6,
    "tau_samples_target": 5,
    "tau_samples_policy": 4,
    "cosines": 8,
    "learning_rate": 1e-3,
}
RULES: dict[str, dict[str, bool]] = {"max": {}, "double": {"double": True}, "munchausen": {"munchausen": True}}
COMBINATIONS = covering_pairs(
    ("scalar", "categorical", "quantile", "implicit", "fqf"),
    (False, True),  # dueling
    RULES,
    (1, 3),  # n
    (False, True),  # prioritised
    (False, True),  # noisy
)


def agent_of(seed: int = 0, **fields: Any) -> tuple[DQN, Any]:
    envs = make_vec("pixelq/Catch-v0", 4, seed=0)
    config = AgentConfig(**{**SMALL, **fields})
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=seed)
    return agent, envs


def filled(agent: DQN, envs: Any, steps: int = 40) -> Any:
    """The agent's replay with what it saw when exploring."""
    replay = agent.make_replay(envs.num_envs, 1)
    obs, _ = envs.reset()
    for _ in range(steps):
        agent.step += envs.num_envs
        actions = agent.explore(obs)
        next_obs, reward, terminated, truncated, _ = envs.step(actions)
        replay.add(obs, actions, reward, terminated, truncated)
        obs = next_obs
    return replay


@pytest.mark.parametrize(("head", "dueling", "rule", "n_step", "prioritized", "noisy"), COMBINATIONS)
def test_one_update(head: str, dueling: bool, rule: str, n_step: int, prioritized: bool, noisy: bool) -> None:
    agent, envs = agent_of(
        head=head, dueling=dueling, n_step=n_step, prioritized=prioritized, noisy=noisy, **RULES[rule]
    )
    replay = filled(agent, envs)
    for parameter in agent.learner.target_network.parameters():
        parameter.add_(0.01)  # the two networks differ
    before = {name: parameter.clone() for name, parameter in agent.network.named_parameters()}
    batch = replay.sample(16)
    assert (batch.weight is not None) == prioritized
    update = agent.learner.update(batch)
    replay.update_priorities(batch.row, update.priority)
    assert update.loss.isfinite()
    assert update.q_mean.isfinite()
    assert update.priority.shape == (16,)
    assert (update.priority >= 0).all()
    for name, parameter in agent.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
        assert not torch.equal(parameter, before[name]), name
    assert replay.sample(16).obs.shape == (16, *envs.single_observation_space.shape)


@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile", "implicit", "fqf"])
def test_importance_weights_reach_the_loss(head: str) -> None:
    def gradients(weight: torch.Tensor) -> list[torch.Tensor]:
        agent, envs = agent_of(head=head, prioritized=True)
        batch = filled(agent, envs).sample(16)
        update = agent.learner.update(batch._replace(weight=weight))
        losses.append(update.loss.item())
        return [p.grad.clone() for p in agent.network.parameters() if p.grad is not None]

    losses: list[float] = []
    ones, halves = gradients(torch.ones(16)), gradients(torch.full((16,), 0.5))
    for one, half in zip(ones, halves, strict=True):
        torch.testing.assert_close(half, one / 2)
    assert losses[1] == pytest.approx(losses[0] / 2)
    first = torch.zeros(16)
    first[0] = 1.0
    others = gradients(first), gradients(1 - first)
    for one, other, both in zip(*others, ones, strict=True):
        torch.testing.assert_close(one + other, both, rtol=1e-3, atol=1e-6)
        assert not torch.allclose(one, other)


def test_noise_of_an_update_is_shared_by_its_batch_and_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, envs = agent_of(noisy=True, double=True)
    batch = filled(agent, envs).sample(16)
    drawn: list[Any] = []
    for network in (agent.network, agent.learner.target_network):
        original = network.draw_noise
        monkeypatch.setattr(network, "draw_noise", lambda *args, f=original: (drawn.append(f(*args)), drawn[-1])[1])
    agent.learner.update(batch)
    agent.learner.update(batch)
    inputs = [noise.advantage.hidden.input for noise in drawn]
    assert len(inputs) == 6  # target, selection and online network, twice
    assert all(len(noise) == 1 for noise in inputs)
    assert len({tuple(noise[0].tolist()) for noise in inputs}) == 6


def test_environments_never_share_noise_when_acting(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, envs = agent_of(noisy=True, epsilon_start=0.0, epsilon_end=0.0)
    obs = np.repeat(envs.reset()[0][:1], 64, axis=0)  # all see the same
    noise = agent.network.draw_noise(64, agent.noise)
    q = agent.network.q(torch.from_numpy(obs), noise)
    assert len({tuple(row) for row in q.tolist()}) == 64
    with torch.no_grad():
        for name, parameter in agent.network.named_parameters():
            if "sigma" in name:
                parameter.fill_(2.0)
    assert len(set(agent.explore(obs).tolist())) > 1
    assert len(set(agent.predict(obs)[0].tolist())) == 1  # greedy: without noise
    assert len(set(agent.predict(obs, deterministic=False)[0].tolist())) > 1
    before = agent.noise.get_state()
    agent.predict(obs)
    agent.q_values(obs)
    assert torch.equal(before, agent.noise.get_state())


def test_fractions_have_an_optimiser_of_their_own() -> None:
    agent, envs = agent_of(head="fqf", max_grad_norm=1e-9, fraction_learning_rate=1e-3, learning_rate=1e-3)
    head = agent.network.head
    assert isinstance(head, FractionHead)
    main, fraction = (agent.learner.optimizers[name] for name in ("optimizer", "fraction_optimizer"))
    assert {id(p) for p in fraction.param_groups[0]["params"]} == {id(p) for p in head.proposal.parameters()}
    together = [*main.param_groups[0]["params"], *fraction.param_groups[0]["params"]]
    assert {id(p) for p in together} == {id(p) for p in agent.network.parameters()}
    assert len(together) == len({id(p) for p in together})
    batch = filled(agent, envs).sample(16)
    agent.learner.update(batch)
    norms = [sum(p.grad.square().sum().item() for p in part.param_groups[0]["params"]) for part in (main, fraction)]
    assert norms[0] < 1e-17  # clipped
    assert norms[1] > 1e-12  # not


@pytest.mark.parametrize("fields", [{}, {"noisy": True}, {"head": "implicit"}, {"head": "fqf", "noisy": True}])
def test_a_loaded_agent_goes_on_bit_for_bit(fields: dict[str, Any], tmp_path: Any) -> None:
    agent, envs = agent_of(**fields)
    batch = filled(agent, envs).sample(16)
    agent.learner.update(batch)
    agent.save(tmp_path / "agent")
    again = DQN.load(tmp_path / "agent", device="cpu")
    obs = envs.reset()[0]
    for _ in range(2):
        assert torch.equal(agent.learner.update(batch).loss, again.learner.update(batch).loss)
        np.testing.assert_array_equal(agent.explore(obs), again.explore(obs))
    for one, two in zip(agent.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"double": True, "munchausen": True}, "double must be False with munchausen"),
        ({"head": "quantile", "loss": "squared"}, "loss must be huber"),
        ({"head": "implicit", "value_rescaling": True}, "value_rescaling must be False"),
        ({"optimizer": "rmsprop", "weight_decay": 0.1}, "weight_decay must be 0 with the optimizer rmsprop"),
        ({"v_min": 1.0, "v_max": 1.0}, "v_min must be less than v_max"),
        (
            {"encoder": "nature", "spectral_norm": True},
            "spectral_norm must be False unless the encoder is impala",
        ),
        ({"encoder_width": 2}, "encoder_width must be 1 unless the encoder is impala"),
        ({"adaptive_pool": 6}, "adaptive_pool must be None unless the encoder is impala"),
    ],
)
def test_combinations_without_sense_are_refused_with_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        AgentConfig(**fields)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "bound_of"),
    [
        ("dqn", lambda fan_in, fan_out: (6 / (fan_in + fan_out)) ** 0.5),
        ("munchausen", lambda fan_in, fan_out: (6 / (fan_in + fan_out)) ** 0.5),
        *((name, lambda fan_in, _: (3**0.5 / fan_in) ** 0.5) for name in ("c51", "qrdqn", "iqn", "rainbow_dopamine")),
        ("nature", lambda fan_in, _: fan_in**-0.5),
    ],
)
def test_presets_start_from_the_weights_of_their_sources(name: str, bound_of: Callable[[int, int], float]) -> None:
    network = make_network((4, 84, 84), 6, preset(name), seed=0)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == (6 if name == "iqn" else 5)  # three convolutions, hidden, out, and the cosines' layer
    for layer in layers:
        kernel = layer.weight[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        bound = bound_of(layer.weight.shape[1] * kernel, layer.weight.shape[0] * kernel)
        assert 0.99 * bound < layer.weight.abs().max().item() <= bound * (1 + 1e-6)
