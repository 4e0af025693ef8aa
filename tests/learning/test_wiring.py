"""What the parts are given: from the configuration to the network, from the learner to the heads, from the loop on."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from pixelq.agents import DQN, AgentConfig, Batch, Replay
from pixelq.agents.acting.network import make_network
from pixelq.agents.config.at_step import learning_rate_at, priority_beta_at
from pixelq.agents.experience.batches import Sequences
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.learning.learner import Learner
from pixelq.envs import make_vec
from pixelq.networks import CategoricalHead, FractionHead, ImplicitHead, NoisyLinear, QuantileHead, ScalarHead
from tests.support import reference as ref

HEADS = ("scalar", "categorical", "quantile", "implicit", "fqf")


def catch_agent(config: AgentConfig, num_envs: int = 4) -> tuple[DQN, Any]:
    envs = make_vec("pixelq/Catch-v0", num_envs, seed=0)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0), envs


# From the configuration to the network


def head_of(**fields: Any) -> Any:
    return make_network((6,), 3, AgentConfig(encoder="mlp", hidden=8, **fields), 0).head


def test_heads_have_the_settings_of_the_configuration() -> None:
    scalar = head_of(loss="squared", value_rescaling=True)
    assert isinstance(scalar, ScalarHead)
    assert (scalar.loss_kind, scalar.rescaling) == ("squared", True)
    categorical = head_of(head="categorical", atoms=9, v_min=-3.0, v_max=4.0)
    assert isinstance(categorical, CategoricalHead)
    assert categorical.support[[0, -1]].tolist() == [-3, 4]
    assert len(categorical.support) == 9
    quantile = head_of(head="quantile", quantiles=7, kappa=0.5)
    assert isinstance(quantile, QuantileHead)
    assert (len(quantile.tau), quantile.kappa) == (7, 0.5)
    implicit = head_of(
        head="implicit", tau_samples=3, tau_samples_target=4, tau_samples_policy=5, cosines=6, kappa=0.25
    )
    assert isinstance(implicit, ImplicitHead)
    assert (implicit.samples, implicit.target_samples, implicit.policy_samples) == (3, 4, 5)
    assert (len(implicit.embedding.order), implicit.kappa) == (6, 0.25)
    fqf = head_of(head="fqf", quantiles=11, cosines=6, kappa=0.25, fraction_entropy=0.02)
    assert isinstance(fqf, FractionHead)
    assert (fqf.proposal.out_features, len(fqf.embedding.order), fqf.kappa, fqf.entropy) == (11, 6, 0.25, 0.02)


def test_streams_have_the_settings_of_the_configuration() -> None:
    head = head_of(dueling=True, noisy=True, noisy_sigma=0.1, layer_norm=True)
    for stream in (head.streams.advantage, head.streams.state_value):
        assert isinstance(stream.norm, nn.LayerNorm)
        for layer in (stream.hidden, stream.out):
            assert isinstance(layer, NoisyLinear)
            torch.testing.assert_close(
                layer.weight_sigma.detach(), torch.full_like(layer.weight, 0.1 / layer.in_features**0.5)
            )
    plain = head_of()
    assert plain.streams.state_value is None
    assert plain.streams.advantage.norm is None
    assert type(plain.streams.advantage.hidden) is nn.Linear


def test_encoders_have_the_settings_of_the_configuration() -> None:
    config = AgentConfig(encoder="impala", encoder_width=2, spectral_norm=True, adaptive_pool=3, layer_norm=True)
    encoder = make_network((4, 84, 84), 3, config, 0).encoder
    assert encoder.out_features == 32 * 2 * 3 * 3
    assert sum(isinstance(m, nn.GroupNorm) for m in encoder.modules()) == 3 * 2 * 2 + 1
    assert sum(nn.utils.parametrize.is_parametrized(m) for m in encoder.modules()) == 3 * 2 * 2
    assert make_network((6,), 3, AgentConfig(encoder="mlp", hidden=24), 0).encoder.out_features == 24


# From the learner to the heads

TAU, ALPHA, CLIP = 0.3, 0.7, -0.48


@pytest.mark.parametrize("rule", ["max", "double", "munchausen"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_given_the_target_of_the_rule(head: Any, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = AgentConfig(
        encoder="mlp",
        hidden=16,
        head=head,
        atoms=11,
        quantiles=7,
        v_min=-1.0,
        v_max=1.0,
        double=rule == "double",
        munchausen=rule == "munchausen",
        munchausen_temperature=TAU,
        munchausen_alpha=ALPHA,
        munchausen_clip=CLIP,
    )
    learner = Learner(make_network((6,), 5, config, 1), config)
    learner.target_network.load_state_dict(make_network((6,), 5, config, 2).state_dict())
    obs, next_obs = 3 * torch.randn(2, 32, 6)
    discount = 0.9 * (torch.arange(32) % 4 > 0)
    batch = Batch(obs, torch.randint(5, (32,)), torch.randn(32), discount, next_obs)
    seen: list[Any] = []
    loss = learner.network.head.loss

    def record(*given: Any) -> Any:
        seen.append((given, loss(*given)))
        return seen[-1][1]

    monkeypatch.setattr(learner.network.head, "loss", record)
    with torch.no_grad():
        q, next_q = (learner.target_network.q(x).double().numpy() for x in (obs, next_obs))
        online_q, online_next_q = (learner.network.q(x).double().numpy() for x in (obs, next_obs))
    update = learner.update(batch)
    (((_, (action, reward, given_discount, next_value, policy, weight), _), result),) = seen
    assert weight is None
    np.testing.assert_allclose(learner.target_network.head.q(next_value).detach().numpy(), next_q, atol=1e-6)
    torch.testing.assert_close(given_discount, discount)
    assert torch.equal(update.priority, result.priority)
    assert (next_q.argmax(1) != online_next_q.argmax(1)).sum() >= 5  # the other network would show
    for b in range(32):
        if rule == "munchausen":
            expected_policy = ref.softmax(next_q[b] / TAU)
            whole = ref.munchausen_target(
                batch.reward[b].item(), discount[b].item(), int(action[b]), q[b], next_q[b], TAU, ALPHA, CLIP
            )
            target = reward[b].item() + discount[b].item() * (expected_policy @ next_q[b])
            assert target == pytest.approx(whole, abs=1e-5)
            if head == "quantile":
                quantiles = next_value[b].double().numpy()  # [A, N]
                each = ref.munchausen_quantile_target(
                    batch.reward[b].item(),
                    discount[b].item(),
                    int(action[b]),
                    q[b],
                    next_q[b],
                    quantiles,
                    TAU,
                    ALPHA,
                    CLIP,
                )
                ours = reward[b].item() + discount[b].item() * policy[b].double().numpy() @ quantiles
                np.testing.assert_allclose(ours, each, atol=1e-5)
        else:
            expected_policy = ref.greedy_policy((online_next_q if rule == "double" else next_q)[b])
            assert reward[b].item() == batch.reward[b].item()
        np.testing.assert_allclose(policy[b].numpy(), expected_policy, atol=1e-5)
    if rule == "munchausen":
        bonus, online_bonus = (
            np.array([ref.munchausen_bonus(x[b], int(action[b]), TAU, ALPHA, CLIP) for b in range(32)])
            for x in (q, online_q)
        )
        assert np.abs(bonus - online_bonus).max() > 0.01  # the other network would show
        assert 2 < np.isclose(bonus, ALPHA * CLIP).sum() < 30  # both sides of the clip


def test_weighted_errors_are_clipped_where_the_configuration_says_so() -> None:
    """The gradient of a q-value is −clip(w·δ)/B with `clip_weighted`, and −w·clip(δ)/B without."""
    error, weight = torch.tensor([0.5, 3.0, -3.0, 8.0]), torch.tensor([1.0, 0.25, 0.5, 0.2])
    gradients = {}
    for clips in (True, False):
        config = AgentConfig(encoder="mlp", hidden=8, prioritized=True, clip_weighted=clips)
        learner = Learner(make_network((2,), 1, config, 0), config)
        obs = torch.eye(2)[torch.tensor([0, 1, 0, 1])]
        reward = learner.network.q(obs)[:, 0].detach() + error
        batch = Batch(obs, torch.zeros(4).long(), reward, torch.zeros(4), obs, weight)
        update = learner.update(batch)
        bias = list(learner.network.head.parameters())[-1]  # of the only action: the sum over the batch
        assert bias.shape == (1,)
        assert bias.grad is not None
        gradients[clips] = bias.grad.item()
        torch.testing.assert_close(update.priority, error.abs())
    assert gradients[True] == pytest.approx(-(0.5 + 0.75 - 1.0 + 1.0) / 4, abs=1e-5)
    assert gradients[False] == pytest.approx(-(0.5 + 0.25 - 0.5 + 0.2) / 4, abs=1e-5)


def test_the_steps_of_a_sequence_have_its_weight() -> None:
    nothing = torch.zeros(6)
    is_step = torch.ones(3, 2, dtype=torch.bool)
    weight = torch.tensor([0.25, 1.0])
    batch = Sequences(cast(Any, None), 0, nothing, nothing, nothing, cast(Any, None), is_step, weight)
    losses = torch.arange(6.0)
    of_steps = batch.weights()
    assert of_steps is not None
    assert of_steps.tolist() == [0.25, 1.0, 0.25, 1.0, 0.25, 1.0]
    assert batch.mean(losses * of_steps).item() == pytest.approx(batch.mean(losses, weight).item())
    assert batch._replace(weight=None).weights() is None


# From the loop on


def test_the_loop_hands_on_priorities_beta_and_step_size(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentConfig(
        encoder="mlp",
        hidden=8,
        batch_size=16,
        replay_capacity=400,
        learning_starts=40,
        train_every=4,
        prioritized=True,
        priority_alpha=0.7,
        priority_beta=0.3,
        priority_beta_end=0.9,
        priority_beta_steps=100,
        priority_epsilon=0.01,
        priority_uniform=0.25,
        learning_rate=1e-3,
        learning_rate_end=1e-4,
        learning_rate_steps=100,
        head="fqf",
        quantiles=5,
        fraction_learning_rate=3e-5,
    )
    agent, envs = catch_agent(config)
    updates = 0
    update_priorities = Replay.update_priorities

    def record(replay: Replay, rows: torch.Tensor, priority: torch.Tensor) -> None:
        nonlocal updates
        update_priorities(replay, rows, priority)
        sampler = replay.sampler
        assert isinstance(sampler, PrioritizedSampler)
        assert (sampler.alpha, sampler.epsilon, sampler.uniform) == (0.7, 0.01, 0.25)
        assert sampler.beta == pytest.approx(priority_beta_at(config, agent.step))
        rates = [optimizer.param_groups[0]["lr"] for optimizer in agent.learner.optimizers.values()]
        assert rates == pytest.approx([learning_rate_at(config, agent.step), 3e-5])
        assert priority.std() > 0
        expected = (priority.double() + 0.01) ** 0.7
        leaves = sampler.tree.leaves[rows]
        for row in rows.unique():  # of equal rows one priority wins
            where = rows == row
            assert torch.isclose(leaves[where][0], expected[where]).any()
        updates += 1

    monkeypatch.setattr(Replay, "update_priorities", record)
    agent.learn(envs, 200)
    assert updates == agent.updates == 40


def test_the_loop_tells_the_learner_which_update_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, envs = catch_agent(AgentConfig(encoder="mlp", hidden=8, learning_starts=40, replay_capacity=400))
    told: list[int] = []
    monkeypatch.setattr(Learner, "drop_subnormals", lambda _, updates: told.append(updates))
    agent.learn(envs, 80)
    assert told == list(range(1, 11))


def test_a_sampled_transition_has_its_own_weight_and_takes_its_own_priority() -> None:
    replay = Replay(
        (1,),
        np.dtype(np.uint8),
        capacity=60,
        num_envs=1,
        prioritized=True,
        priority_alpha=1.0,
        priority_beta=1.0,
        priority_epsilon=0.0,
    )
    never = np.zeros(1, bool)
    for k in range(51):
        replay.add(np.full((1, 1), k, np.uint8), np.zeros(1, np.int64), np.zeros(1), never, never)
    for _ in range(60):  # transition k takes the priority k + 1
        batch = replay.sample(50)
        replay.update_priorities(batch.row, batch.obs[:, 0].double() + 1)
    assert isinstance(replay.sampler, PrioritizedSampler)
    priorities = replay.sampler.tree.leaves[:50]
    assert (priorities == torch.arange(1, 51)).float().mean() > 0.9
    replay.sampler.tree.set(torch.arange(50), torch.arange(1.0, 51))
    batch = replay.sample(32)
    probabilities = ref.priority_probabilities(np.arange(1.0, 51), 1.0)[batch.obs[:, 0].numpy()]
    assert batch.weight is not None
    np.testing.assert_allclose(batch.weight.numpy(), ref.importance_weights(probabilities, 50, 1.0), rtol=1e-5)


def test_every_reset_draws_another_network_and_a_seed_the_same() -> None:
    config = AgentConfig(encoder="mlp", hidden=8, reset_every=30)
    heads = []
    for updates in (30, 60, 30):
        agent, _ = catch_agent(config)
        agent.updates = updates
        agent.reset_network()
        heads.append(agent.network.head.streams.advantage.out.weight.detach().clone())
    first, second, again = heads
    assert not torch.isclose(first, second).any()
    assert torch.equal(first, again)


def test_noise_for_acting_is_drawn_anew_at_every_step() -> None:
    agent, envs = catch_agent(AgentConfig(encoder="mlp", hidden=8, noisy=True, noisy_sigma=4.0, epsilon_end=0.0), 64)
    agent.step = 10**9  # ε is 0
    obs, _ = envs.reset()
    assert (agent.explore(obs) != agent.explore(obs)).sum() > 10
