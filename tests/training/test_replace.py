"""Settings of a living agent: what `replace` changes is changed wherever it is held, from the next update on."""

import functools
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pixelq.agents import (
    DQN,
    PQN,
    AgentConfig,
    InvalidConfig,
    InvalidRun,
    Linear,
    Policy,
    TargetInputs,
    register_target,
)
from pixelq.agents.acting.noise import EvaluationNoise
from pixelq.agents.config.agent_config import CHANGEABLE, SPEED_ONLY
from pixelq.agents.evaluation.exploration import evaluation_epsilon
from pixelq.agents.experience.samplers import PrioritizedSampler
from pixelq.agents.learning.cuda_graph import CapturedUpdates, make_updates
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.training.recorder import Recorder
from pixelq.envs import PROTOCOLS, make_vec
from tests.support.cases import representative

BASE: dict[str, Any] = {
    "hidden": 8,
    "encoder": "mlp",
    "learning_starts": 8,
    "batch_size": 4,
    "replay_capacity": 120,
    "train_every": 2,
    "target_update_every": 16,
    "learning_rate": 0.01,
    "epsilon_steps": 40,
}
PER: dict[str, Any] = {"prioritized": True}
IMPLICIT: dict[str, Any] = {"head": "implicit", "tau_samples": 4, "tau_samples_target": 4, "tau_samples_policy": 4}
FQF: dict[str, Any] = {"head": "fqf", "quantiles": 5}
RMSPROP: dict[str, Any] = {"optimizer": "rmsprop"}
MEMORY: dict[str, Any] = {"lstm": 4, "sequence_length": 6, "sequence_period": 3, "burn_in": 1}


@register_target("even")
def even(inputs: TargetInputs) -> tuple[Tensor, Tensor]:
    """All next actions are equally likely."""
    return inputs.reward, torch.full_like(inputs.next_q, 1 / inputs.next_q.shape[1])


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "learning_rate": (0.05, {}),
    "target_tau": (0.5, {"target_tau": 0.1}),
    "learning_rate_end": (0.009, {"learning_rate_steps": 100}),
    "learning_rate_steps": (50, {}),
    "train_every": (1, {}),
    "gradient_steps": (2, {}),
    "target_update_every": (4, {}),
    "epsilon": (0.9, {}),
    "epsilon_start": (0.2, {"epsilon_steps": 1000}),
    "epsilon_end": (1.0, {}),
    "epsilon_steps": (10_000, {}),
    "epsilon_ladder": (True, {}),
    "epsilon_off": (1, {}),
    "evaluation_epsilon": (0.5, {}),
    "evaluation_noise": (True, {"noisy": True}),
    "priority_beta": (1.0, PER),
    "priority_beta_end": (0.5, PER | {"priority_beta_steps": 10}),
    "priority_beta_steps": (10, PER),
    "reset_every": (3, {}),
    "reset_shrink": (0.9, {"reset_every": 3}),
    "gamma": (0.5, {}),
    "n_step": (3, {}),
    "batch_size": (8, {}),
    "reward_clip": (0.5, {}),
    "double": (True, {}),
    "munchausen": (True, {}),
    "munchausen_alpha": (0.5, {"munchausen": True}),
    "munchausen_temperature": (0.5, {"munchausen": True}),
    "munchausen_clip": (-0.01, {"munchausen": True}),
    "target": ("even", {}),
    "loss": ("squared", {}),
    "kappa": (0.01, {"head": "quantile", "quantiles": 5}),
    "tau_samples": (7, IMPLICIT),
    "tau_samples_target": (7, IMPLICIT),
    "tau_samples_policy": (7, IMPLICIT),
    "fraction_entropy": (0.5, FQF | {"fraction_learning_rate": 0.01}),
    "fraction_learning_rate": (0.01, FQF),
    "fraction_epsilon": (10.0, FQF | {"fraction_learning_rate": 0.01}),
    "clip_weighted": (True, PER | {"reward_clip": None, "learning_rate": 0.1}),
    "max_grad_norm": (0.01, {}),
    "adam_epsilon": (0.1, {}),
    "rmsprop_decay": (0.5, RMSPROP),
    "rmsprop_epsilon": (0.1, RMSPROP),
    "weight_decay": (0.1, {}),
    "priority_alpha": (1.0, PER),
    "priority_epsilon": (5.0, PER),
    "priority_uniform": (0.5, PER),
    "priority_eta": (0.1, PER | MEMORY),
    "precision": ("bfloat16", {}),
}
"""A value of each field that may be changed, and what the agent has besides, so that the change shows."""


def envs_of(seed: int) -> Any:
    return make_vec("pixelq/Catch-v0", 2, seed)


@functools.cache
def trained(items: tuple[tuple[str, Any], ...]) -> DQN:
    envs = envs_of(0)
    config = AgentConfig(**(BASE | dict(items)))
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=1)
    return agent.learn(envs, 48)


def twin(agent: DQN, **changes: Any) -> DQN:
    """An agent that is made by hand with other settings, and given all that another one has learned."""
    config = replace(agent.config, **changes)
    made = DQN(agent.observation_space, agent.action_space, config, device="cpu", seed=agent.seed)
    made.network.load_state_dict(agent.network.state_dict())
    made.learner.load_tensors(agent.learner.tensors())
    made.noise.set_state(agent.noise.get_state())
    made.rng.bit_generator.state = agent.rng.bit_generator.state
    made.step, made.updates, made.episodes = agent.step, agent.updates, agent.episodes
    old, new = agent.replay, made.make_replay(2, 1)
    assert old is not None
    new.ring.write(max(0, old.time - old.length), old.ring.read(max(0, old.time - old.length), old.time))
    new.load_state({name: tensor.clone() for name, tensor in old.state().items()})
    return made


def learned(agent: DQN) -> list[Any]:
    """What an agent is and does after some more steps."""
    agent.learn(envs_of(7), 16)
    tensors = {**agent.network.state_dict(), **agent.learner.tensors()}
    noise = EvaluationNoise(agent, 0).draw(1) is None
    chance = evaluation_epsilon(agent.config, PROTOCOLS["sticky"])
    state = str(agent.rng.bit_generator.state)
    return [{name: tensor.tolist() for name, tensor in tensors.items()}, agent.updates, noise, chance, state]


@functools.cache
def unchanged(items: tuple[tuple[str, Any], ...]) -> list[Any]:
    return learned(twin(trained(items)))


def test_the_table_names_all_that_may_be_changed() -> None:
    of_rollouts = {"minibatches", "epochs", "past_rollouts", "td_lambda"}
    assert set(CHANGES) | SPEED_ONLY | of_rollouts == CHANGEABLE


SIMILAR = frozenset(
    "tau_samples_target tau_samples_policy fraction_learning_rate fraction_epsilon rmsprop_epsilon munchausen_clip "
    "munchausen_alpha priority_beta_end learning_rate_end evaluation_noise".split()
)
"""Changes that go the way of others in the table."""


@pytest.mark.parametrize("name", representative(CHANGES, keep=CHANGES.keys() - SIMILAR))
def test_a_change_takes_effect_as_in_an_agent_made_by_hand(name: str) -> None:
    value, besides = CHANGES[name]
    base = trained(tuple(besides.items()))
    changed = twin(base)
    assert changed.replace(**{name: value}) is changed
    after = learned(changed)
    assert after != unchanged(tuple(besides.items()))  # the change shows
    if name != "priority_alpha":  # whose priorities are those of the old exponent, see below
        assert after == learned(twin(base, **{name: value}))


def test_priorities_keep_their_order_with_another_exponent() -> None:
    agent = twin(trained(tuple(PER.items())))
    assert agent.replay is not None
    sampler = agent.replay.sampler
    assert isinstance(sampler, PrioritizedSampler)
    before = sampler.tree.leaves.clone()
    agent.replace(priority_alpha=0.25)  # from 0.5
    assert torch.allclose(sampler.tree.leaves, before**0.5)
    assert float(sampler.tree.total) == pytest.approx(float(sampler.tree.leaves.sum()))
    agent.replace(priority_alpha=0.0).replace(priority_alpha=1.0)
    assert set(sampler.tree.leaves.tolist()) == {0.0, 1.0}


def test_no_limit_of_the_gradient_norm_is_left_behind() -> None:
    agent = twin(trained((("max_grad_norm", 1e-3),)))
    agent.replace(max_grad_norm=None)
    assert learned(agent) == learned(twin(trained((("max_grad_norm", 1e-3),)), max_grad_norm=None))


def test_a_graph_that_was_captured_is_dropped_unless_it_reads_what_changed() -> None:
    agent = twin(trained(()))
    learner, replay = agent.learner, agent.replay
    assert replay is not None
    learner.device = torch.device("cuda")  # nothing is captured before it is called
    captured = make_updates(learner, replay)
    assert isinstance(captured, CapturedUpdates)
    agent.replace(learning_rate=0.5, target_update_every=3, epsilon=0.1)
    assert make_updates(learner, replay) is captured
    agent.replace(gamma=0.5)
    again = make_updates(learner, replay)
    assert isinstance(again, CapturedUpdates)
    assert again is not captured
    agent.replace(target_tau=0.25)
    assert make_updates(learner, replay) is not again
    agent.replace(cuda_graph=False)
    assert not isinstance(make_updates(learner, replay), CapturedUpdates)


def at_step(step: int, change: Callable[[DQN], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a change during the training, as a callback would."""
    record, done = Recorder.record, []

    def recorded(self: Any, before: int, *rest: Any) -> None:
        if self.agent.step >= step and not done:
            done.append(change(self.agent))
        record(self, before, *rest)

    monkeypatch.setattr(Recorder, "record", recorded)


def test_a_change_in_the_middle_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = twin(trained(()))
    batches: list[tuple[int, int, set[float]]] = []
    update = agent.learner.update

    def watched(batch: Any) -> Any:
        batches.append((agent.step, len(batch.action), set(batch.discount.tolist())))
        return update(batch)

    monkeypatch.setattr(agent.learner, "update", watched)
    start = agent.step
    at_step(start + 20, lambda agent: agent.replace(batch_size=16, gamma=0.5, n_step=2), monkeypatch)
    agent.learn(envs_of(3), 40)
    for is_late, batch_size, discounts in ((False, 4, {0.0, float(torch.tensor(0.99))}), (True, 16, {0.0, 0.25})):
        found = [(size, values) for step, size, values in batches if (step > start + 20) == is_late]
        assert {size for size, _ in found} == {batch_size}
        assert set().union(*(values for _, values in found)) == discounts


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_whose_settings_changed_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    """Also if it ends between config.json and the checkpoint that has the new settings."""
    envs, options = envs_of(0), {"checkpoint_every": 20, "log_every": 20}
    spaces = envs.single_observation_space, envs.single_action_space
    new = lambda: DQN(*spaces, AgentConfig(**BASE), device="cpu")  # noqa: E731
    with monkeypatch.context() as patched:
        at_step(30, lambda agent: agent.replace(gamma=0.5), patched)
        whole = new().learn(envs_of(0), 80, tmp_path / "whole", **options)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        at_step(30, lambda agent: agent.replace(gamma=0.5), patched)
        if killed:
            write = RunCheckpoints.write

            def dying(self: Any, step: int, *rest: Any) -> None:
                if step >= 40:
                    raise KeyboardInterrupt
                write(self, step, *rest)

            patched.setattr(RunCheckpoints, "write", dying)
            with pytest.raises(KeyboardInterrupt):
                new().learn(envs_of(0), 80, tmp_path / "run", **options)  # type: ignore[arg-type]
        else:
            new().learn(envs_of(0), 40, tmp_path / "run", **options)  # type: ignore[arg-type]
    agent = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    assert (agent.step, agent.config.gamma) == ((20, 0.99) if killed else (40, 0.5))
    if killed:
        at_step(30, lambda agent: agent.replace(gamma=0.5), monkeypatch)
    agent.learn(envs_of(5), 80 - agent.step, tmp_path / "run", resume=True, **options)  # type: ignore[arg-type]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, agent.network.state_dict()[name])
    configs = [(tmp_path / run / "config.json").read_text() for run in ("whole", "run")]
    assert all('"changes"' in text and '"gamma": 0.5' in text for text in configs)
    assert '"exact": true' in configs[1]


def test_what_cannot_be_changed_changes_nothing() -> None:
    agent = twin(trained(()))
    before = agent.config
    for changes, sentence in (
        ({"gamma": 0.5, "hidden": 16}, "^hidden must stay 8, from which this DQN was built, got 16; make a new one"),
        ({"gamma": 0.5, "learning_rat": 1}, "^unknown field 'learning_rat' of .*; did you mean 'learning_rate'"),
        ({"gamma": 0.5, "batch_size": 500}, "^batch_size must be at most replay_capacity, got 500"),
        ({"gamma": 0.5, "n_step": 60}, "^replay_capacity must be at least 122 with 2 environments, got 120 rows"),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            agent.replace(**changes)
        assert agent.config == before
        assert agent.replay is not None
        assert (agent.replay.window.ahead, agent.replay.window.returns.gamma) == (1, 0.99)
    with pytest.raises(InvalidConfig, match=r"^config must be an AgentConfig, got 3; agent\.replace\(\.\.\.\) changes"):
        agent.config = 3  # type: ignore[assignment]
    assert agent.config is before


@pytest.mark.parametrize(("lstm", "most"), [(None, "16 steps of a rollout"), (4, "2 environments")])
def test_minibatches_cannot_become_more_than_a_rollout_has(lstm: int | None, most: str) -> None:
    envs = make_vec("pixelq/Catch-v0", 2)
    config = AgentConfig(algorithm="pqn", rollout_length=8, minibatches=2, hidden=8, lstm=lstm)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu").learn(envs, 20)
    for count in (2, 16) if lstm is None else (2, 1):
        agent.replace(minibatches=count)
        agent.learn(envs, 20)
    before = agent.config
    with pytest.raises(InvalidConfig, match=f"^minibatches must be at most the {most}.*, got 17$"):
        agent.replace(minibatches=17, learning_rate=1.0)
    assert agent.config == before


def test_settings_are_changed_when_an_agent_is_loaded(tmp_path: Path) -> None:
    agent = trained(())
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", "cpu", learning_rate=Linear(1e-3, 0, 100), adam_epsilon=0.1)
    assert loaded.config == replace(agent.config, learning_rate=Linear(1e-3, 0, 100), adam_epsilon=0.1)
    assert loaded.learner.optimizers["optimizer"].param_groups[0]["eps"] == 0.1
    loaded.learn(envs_of(0), 16)
    assert loaded.learner.learning_rate == pytest.approx(1e-3 * (1 - (loaded.step - 8) / 100))
    with pytest.raises(InvalidConfig, match="hidden must stay 8"):
        DQN.load(tmp_path / "agent", "cpu", hidden=9)
    assert Policy.load(tmp_path / "agent", "cpu", evaluation_epsilon=0.25).config.evaluation_epsilon == 0.25


def waves(steps: int) -> float:
    return 0.25 if steps % 20 < 10 else 0.75


def test_a_function_must_be_given_again(tmp_path: Path) -> None:
    envs = envs_of(0)
    spaces = envs.single_observation_space, envs.single_action_space
    for function, named in ((waves, r" \(\S*test_replace:waves\)"), (lambda steps: waves(steps), "")):
        agent = DQN(*spaces, AgentConfig(**BASE, epsilon=function), device="cpu")
        out = tmp_path / f"run{bool(named)}"
        agent.learn(envs_of(0), 30, out)
        assert agent.epsilon == waves(agent.step - 8)
        latest = out / "checkpoints" / "latest"
        with pytest.raises(InvalidConfig, match=rf"^epsilon was a function of your own{named}, which a file does not"):
            DQN.load(latest, "cpu")
        policy = Policy.load(latest, "cpu")  # acts greedily without it
        policy.predict(envs.reset(seed=0)[0])
        with pytest.raises(InvalidConfig, match=r"^epsilon was a function"):
            policy.explore(envs.reset(seed=0)[0])
        loaded = DQN.load(latest, "cpu", epsilon=function)
        loaded.learn(envs_of(0), 30, out, resume=True)
        assert '"exact": true' in (out / "config.json").read_text()
        with pytest.raises(InvalidRun, match=r"epsilon must be .* as in the run"):
            DQN.load(latest, "cpu", epsilon=0.5).learn(envs_of(0), 30, out, resume=True)


def test_a_function_that_fails_in_the_middle_is_told_in_a_sentence() -> None:
    envs = envs_of(0)
    config = AgentConfig(**(BASE | {"learning_rate": lambda steps: 0.1 if steps < 20 else -1.0}))
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    with pytest.raises(InvalidConfig, match=r"^learning_rate must be greater than 0, but \S*\(20\) returned -1"):
        agent.learn(envs, 60)


def test_files_name_functions_and_never_call_them() -> None:
    values = AgentConfig(**BASE, epsilon=waves).to_dict()
    assert values["epsilon"] == {"schedule": "function", "name": f"{waves.__module__}:waves"}
    values["epsilon"]["name"] = "antigravity:fly"
    config = AgentConfig.from_dict(values)
    assert not isinstance(config.epsilon, types.FunctionType)
    with pytest.raises(InvalidConfig, match=r"epsilon was a function of your own \(antigravity:fly\)"):
        config.value_at("epsilon", 0)
