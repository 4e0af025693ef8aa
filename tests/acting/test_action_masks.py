"""Action masks in acting: whatever is chosen is allowed, and random actions are uniform among what is."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.networks import among_allowed

BOX, ACTIONS = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32), gymnasium.spaces.Discrete(5)
MASKS = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [0, 1, 0, 0, 1]], bool)


def agent_of(**fields: Any) -> DQN:
    return DQN(BOX, ACTIONS, AgentConfig(encoder="mlp", hidden=8, **fields), device="cpu", seed=0)


def test_random_actions_are_uniform_among_the_allowed_ones() -> None:
    rng = np.random.default_rng(0)
    actions = np.stack([epsilon_greedy(np.array([0, 4, 0, 1]), 5, 0.6, rng, MASKS) for _ in range(20_000)])  # [T, N]
    for column, mask, greedy in zip(actions.T, MASKS, (0, 4, 0, 1), strict=True):
        shares = np.bincount(column, minlength=5) / len(column)
        expected = 0.6 * mask / mask.sum() + 0.4 * (np.arange(5) == greedy)
        np.testing.assert_allclose(shares, expected, atol=0.012)  # 3.5 standard deviations
        assert (shares[~mask] == 0).all()


def test_what_is_allowed_in_one_environment_changes_nothing_in_the_others() -> None:
    others = MASKS.copy()
    others[2] = [0, 0, 0, 1, 0]
    actions = []
    for masks in (MASKS, others):
        rng = np.random.default_rng(3)
        actions.append(np.stack([epsilon_greedy(np.zeros(4, np.int64), 5, 1.0, rng, masks) for _ in range(50)]))
    np.testing.assert_array_equal(actions[0][:, [0, 1, 3]], actions[1][:, [0, 1, 3]])


def test_the_best_allowed_action_by_hand() -> None:
    q = torch.tensor([[1.0, 9.0, 3.0], [float("-inf")] * 3, [9.0, float("nan"), 1.0], [float("inf"), -1.0, -2.0]])
    mask = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 1, 1]]).bool()
    assert among_allowed(q, None) is q
    assert among_allowed(q, mask).argmax(1).tolist() == [2, 2, 0, 1]
    assert among_allowed(q, mask).softmax(1)[~mask].tolist() == [0.0] * 5


@pytest.mark.parametrize("lstm", [None, 4])
@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile", "implicit", "fqf"])
def test_every_action_is_allowed(head: str, lstm: int | None) -> None:
    memory_fields = {} if lstm is None else {"lstm": lstm, "sequence_length": 4, "sequence_period": 2, "burn_in": 0}
    agent = agent_of(head=head, noisy=True, epsilon_start=0.5, epsilon_end=0.5, **memory_fields)
    rng, memory = np.random.default_rng(1), agent.make_memory(4)
    for _ in range(15):
        obs = rng.normal(size=(4, 3)).astype(np.float32)
        for actions in (
            agent.explore(obs, memory, MASKS),
            agent.act(obs, 1.0, memory, None, MASKS),
            agent.act(obs, 0.0, memory, None, MASKS),
            agent.predict(obs, action_masks=MASKS)[0],
            agent.predict(obs, deterministic=False, action_masks=MASKS.astype(np.int8))[0],
        ):
            assert MASKS[np.arange(4), actions].all()


def test_greedy_actions_are_the_best_allowed_ones() -> None:
    agent, obs = agent_of(), np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    q = agent.q_values(obs).numpy()
    masked = agent.q_values(obs, action_masks=MASKS).numpy()
    np.testing.assert_array_equal(masked, np.where(MASKS, q, -np.inf))
    expected = [max(np.flatnonzero(mask), key=lambda a: values[a]) for values, mask in zip(q, MASKS, strict=True)]
    assert expected != q.argmax(1).tolist()
    assert agent.predict(obs, action_masks=MASKS)[0].tolist() == expected
    assert agent.predict(obs[3], action_masks=MASKS[3])[0] == expected[3]


def test_masks_that_do_not_fit_are_refused() -> None:
    agent, obs = agent_of(), np.zeros((4, 3), np.float32)
    for masks, sentence in (
        (MASKS[:3], r"action_masks must be of shape \(4, 5\), got \(3, 5\)"),
        (MASKS[0], r"action_masks must be of shape \(4, 5\), got \(5,\)"),
        (3 * MASKS, "action_masks must be of 0 and 1"),
        (np.zeros((4, 5)), "action_masks must allow an action, got none for observation 0"),
    ):
        for method in (agent.predict, agent.q_values):
            with pytest.raises(ValueError, match=sentence):
                method(obs, action_masks=masks)


def test_predict_warns_if_masks_of_the_training_are_left_out() -> None:
    agent, obs = agent_of(), np.zeros((4, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.predict(obs)
        agent.action_masks = True
        agent.predict(obs, action_masks=MASKS)
    with pytest.warns(UserWarning, match="trained with action masks, but predict was called without them"):
        agent.predict(obs)
