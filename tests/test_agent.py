"""The agent as a library: acting, saving, loading, learning in parts."""

import dataclasses
import json
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from pixelq.agents import DQN, AgentConfig, InvalidCheckpoint, InvalidConfig, InvalidRun, TrainingDiverged
from pixelq.agents.results.plots import plot_run
from pixelq.agents.runs.checkpoints import RunCheckpoints
from pixelq.agents.storage.checkpoint_files import find_checkpoint
from pixelq.agents.storage.files import CHECKSUMS
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.envs import make_vec
from pixelq.envs.interface import env_id, frame_stack_of
from tests.support.small_agents import seal

PIXELS = Box(0, 255, (4, 84, 84), np.uint8)
SMALL = AgentConfig(hidden=16, learning_starts=64, replay_capacity=1_000, train_every=4, n_step=2, epsilon_steps=100)


def pixel_agent(seed: int = 0) -> DQN:
    return DQN(PIXELS, Discrete(6), dataclasses.replace(SMALL, encoder="nature"), device="cpu", seed=seed)


def cartpole(seed: int = 0, config: AgentConfig = SMALL) -> tuple[DQN, Any]:
    envs = make_vec("CartPole-v1", 4, seed=seed)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=seed), envs


def observations(n: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, 4, 84, 84), dtype=np.uint8)


def test_predict_is_the_argmax_of_q_values() -> None:
    agent, obs = pixel_agent(), observations(9)
    q = agent.q_values(obs)
    assert q.shape == (9, 6)
    assert q.dtype == torch.float32
    actions, state = agent.predict(obs)
    assert state is None
    assert actions.tolist() == q.argmax(1).tolist()


def test_one_observation_gives_one_action() -> None:
    agent, obs = pixel_agent(), observations(3)
    single, _ = agent.predict(obs[1])
    assert single.shape == ()
    assert single == agent.predict(obs)[0][1]
    assert agent.q_values(obs[1]).shape == (1, 6)


def test_channels_last_observations_are_understood() -> None:
    agent, obs = pixel_agent(), observations(5)
    assert agent.predict(obs.transpose(0, 2, 3, 1))[0].tolist() == agent.predict(obs)[0].tolist()
    assert agent.predict(obs[0].transpose(1, 2, 0))[0] == agent.predict(obs)[0][0]


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(4, 84, 84\) or .*, got \(3, 84, 84\)"):
        pixel_agent().predict(np.zeros((3, 84, 84), np.uint8))


def test_stochastic_prediction_explores_with_the_present_epsilon() -> None:
    agent, _ = cartpole()
    obs = np.zeros((4_000, 4), np.float32)
    greedy = agent.predict(obs)[0][0]
    assert (agent.predict(obs)[0] == greedy).all()
    agent.step = SMALL.learning_starts + SMALL.epsilon_steps // 2  # ε = 0.55, half of whose actions are greedy anyway
    greedy_share = (agent.predict(obs, deterministic=False)[0] == greedy).mean()
    assert greedy_share == pytest.approx(1 - 0.55 / 2, abs=0.03)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (pixel_agent(seed).q_values(observations(1)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "words"),
    [
        (PIXELS, Box(-1, 1, (2,)), "Discrete"),
        (PIXELS, MultiDiscrete([2, 2]), "Discrete"),
        (PIXELS, Discrete(3, start=1), "starts at 0"),
        (Dict({"a": PIXELS}), Discrete(3), "Box"),
        (PIXELS, Discrete(40_000), "at most 32,767 actions, got 40,000"),
    ],
)
def test_spaces_that_do_not_fit(observation_space: Any, action_space: Any, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        DQN(observation_space, action_space)


def test_unknown_device_and_encoder() -> None:
    with pytest.raises(InvalidConfig, match="auto, cpu or cuda"):
        DQN(PIXELS, Discrete(3), device="gpu")
    with pytest.raises(InvalidConfig, match="needs images"):
        cartpole(config=dataclasses.replace(SMALL, encoder="nature"))


def test_saved_and_loaded_it_is_the_same_agent(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.learn(envs, 300)
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", device="cpu")
    obs = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    assert torch.equal(loaded.q_values(obs), agent.q_values(obs))
    assert (loaded.step, loaded.updates, loaded.episodes) == (agent.step, agent.updates, agent.episodes)
    assert (loaded.config, loaded.env_id) == (agent.config, "CartPole-v1")
    assert loaded.observation_space.shape == agent.observation_space.shape
    # The optimiser and the target network came along: the next update is the same to the bit.
    batch = agent.replay.sample(32)  # type: ignore[union-attr]
    for each in (agent, loaded):
        each.learner.update(batch)
    assert torch.equal(loaded.q_values(obs), agent.q_values(obs))
    assert agent.rng.random() == loaded.rng.random()


def test_saving_again_replaces(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.save(tmp_path / "agent")
    agent.learn(envs, 200)
    agent.save(tmp_path / "agent")
    assert DQN.load(tmp_path / "agent").step == agent.step > 0
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    agent, _ = cartpole()
    agent.save(tmp_path / "agent")
    suffixes = sorted(path.suffix for path in (tmp_path / "agent").iterdir())
    assert suffixes == [".json", ".safetensors", ".safetensors", ".sha256"]


@pytest.mark.parametrize("name", ["network.safetensors", "learner.safetensors", "agent.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "removed", "noise"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    agent, envs = cartpole()
    agent.learn(envs, 200)
    agent.save(tmp_path / "agent")
    path = tmp_path / "agent" / name
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "noise": bytes(range(256)) * 9}[damage])
    with pytest.raises(InvalidCheckpoint) as refusal:
        DQN.load(tmp_path / "agent")
    assert "\n" not in str(refusal.value)


def test_another_network_or_format_is_refused(tmp_path: Path) -> None:
    agent, _ = cartpole()
    agent.save(tmp_path / "agent")
    description = tmp_path / "agent" / "agent.json"
    state = json.loads(description.read_text())
    for changes, words in (
        ({"num_actions": 3}, "must be torch.float32"),
        ({"config": {**state["config"], "dueling": True}}, "state_value"),
        ({"config": {**state["config"], "colour": 1}}, "colour"),
        ({"format": 99}, "format 99"),
    ):
        description.write_text(json.dumps({**state, **changes}))
        seal(tmp_path / "agent")
        with pytest.raises(InvalidCheckpoint, match=words):
            DQN.load(tmp_path / "agent")


def test_an_agent_of_the_format_before_is_read(tmp_path: Path) -> None:
    """Format 2 had no checksums; a checkpoint of today without them is none of its kind."""
    agent, _ = cartpole()
    agent.save(tmp_path / "agent")
    (tmp_path / "agent" / CHECKSUMS).unlink()
    with pytest.raises(InvalidCheckpoint, match=r"lacks its checksums.sha256"):
        DQN.load(tmp_path / "agent")
    description = tmp_path / "agent" / "agent.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 2}))
    obs = np.ones((1, 4), np.float32)
    assert torch.equal(DQN.load(tmp_path / "agent", device="cpu").q_values(obs), agent.q_values(obs))


def test_a_run_means_its_best_checkpoint_else_its_latest(tmp_path: Path) -> None:
    agent, _ = cartpole()
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    run = RunCheckpoints(checkpoints, agent.make_replay(4, 1), keep=2)

    def names() -> list[str]:
        return sorted(path.name.replace("000000000", "") for path in checkpoints.iterdir())

    with pytest.raises(InvalidCheckpoint, match="no checkpoint in"):
        find_checkpoint(tmp_path / "run")
    for agent.step in (1, 2, 3):
        run.write(agent.step, agent.checkpoint(), {}, {})
        if agent.step == 2:
            run.point("best", 1)
    assert find_checkpoint(tmp_path / "run").resolve() == run.path(1)
    assert find_checkpoint(run.path(3)) == run.path(3)
    assert names() == ["best", "latest", "step_1", "step_2", "step_3"]
    run.point("best", 2)
    (checkpoints / "best").unlink()
    assert find_checkpoint(tmp_path / "run").resolve() == run.path(3)
    run.point("best", 2)
    for agent.step in (4, 5):
        run.write(agent.step, agent.checkpoint(), {}, {})
    assert names() == ["best", "latest", "step_2", "step_4", "step_5"]
    assert checkpoint_folder(checkpoints / "latest") == run.path(5)


def test_saving_leaves_alone_what_is_no_checkpoint(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.learn(envs, 100, tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "run", tmp_path / "file", tmp_path / "run" / "checkpoints" / "latest", tmp_path):
        with pytest.raises(InvalidCheckpoint, match="save to another path"):
            agent.save(path)
    agent.save(tmp_path / "empty")
    assert (tmp_path / "file").read_text() == "mine"
    assert DQN.load(tmp_path / "run").step == DQN.load(tmp_path / "empty").step == agent.step


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.float64])
def test_observations_of_any_type_are_saved_and_loaded(tmp_path: Path, dtype: Any) -> None:
    space = Box(0, 1, (2, 10), dtype)
    agent = DQN(space, Discrete(2), SMALL, device="cpu")
    agent.save(tmp_path / "agent")
    obs = np.ones((3, 2, 10), dtype)
    assert torch.equal(DQN.load(tmp_path / "agent").q_values(obs), agent.q_values(obs))


def test_pixels_mean_the_same_in_every_type() -> None:
    agent, obs = pixel_agent(), observations(2)
    assert torch.equal(agent.q_values(obs.astype(np.int64)), agent.q_values(obs))
    assert torch.equal(agent.q_values(torch.from_numpy(obs)), agent.q_values(obs))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    agent, envs = cartpole(config=dataclasses.replace(SMALL, learning_rate=1e38))
    with pytest.raises(TrainingDiverged, match=r"at step \d+"):
        agent.learn(envs, 500, tmp_path / "run", checkpoint_every=4)
    assert DQN.load(tmp_path / "run", device="cpu").q_values(np.zeros(4, np.float32)).isfinite().all()


def test_a_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    agent, envs = cartpole()
    options = {"evaluation_envs": make_vec("CartPole-v1", 2, seed=9), "evaluate_every": 100, "log_every": 50}
    agent.learn(envs, 200, tmp_path / "run", **options)
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("999,1,2\n99")  # rows from after the checkpoint, the last one torn
    loaded = DQN.load(tmp_path / "run" / "checkpoints" / "latest", device="cpu")
    loaded.learn(envs, 200, tmp_path / "run", resume=True, **options)
    steps = [int(line.split(",")[0]) for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))
    assert [step // 50 for step in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    means = [float(line.split(",")[2]) for line in (tmp_path / "run" / "evaluations.csv").read_text().splitlines()[1:]]
    assert len(means) == 4
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == agent.step + 200
    best = DQN.load(tmp_path / "run", device="cpu")  # the first of the best evaluations, before or after the resume
    assert best.step // 100 == 1 + means.index(max(means))


def test_a_signal_stops_an_evaluation_and_the_checkpoint_is_there(tmp_path: Path) -> None:
    agent, envs = cartpole()
    evaluation_envs = make_vec("CartPole-v1", 2, seed=9)
    reset = evaluation_envs.reset

    def reset_and_stop(**kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return reset(**kwargs)

    evaluation_envs.reset = reset_and_stop  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as stop:
        agent.learn(envs, 500, tmp_path / "run", evaluation_envs=evaluation_envs, evaluate_every=100)
    assert stop.value.code == 143
    assert 100 <= DQN.load(tmp_path / "run").step <= agent.step < 120


def test_wrapped_environments_are_known_for_what_they_are() -> None:
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(make_vec("ALE/Pong-v5", 2))
    assert (frame_stack_of(envs), env_id(envs)) == (4, "ALE/Pong-v5")
    changed = gymnasium.wrappers.vector.FlattenObservation(make_vec("ALE/Pong-v5", 2))
    assert (frame_stack_of(changed), env_id(changed)) == (1, "ALE/Pong-v5")


@pytest.mark.slow
def test_the_replay_ratio_does_not_depend_on_the_number_of_environments() -> None:
    for num_envs in (1, 3, 8):
        envs = make_vec("CartPole-v1", num_envs, seed=0)
        agent = DQN(envs.single_observation_space, envs.single_action_space, SMALL, device="cpu")
        agent.learn(envs, 1_000)
        assert agent.updates == pytest.approx((agent.step - SMALL.learning_starts) / SMALL.train_every, abs=1)
        assert 1_000 <= agent.step < 1_000 + num_envs


def test_steps_do_not_count_the_resets() -> None:
    agent, envs = cartpole(config=dataclasses.replace(SMALL, learning_starts=999))
    agent.learn(envs, 500)
    assert agent.episodes == pytest.approx(500 / 22, rel=0.4)  # random play balances for 22 steps
    assert agent.replay is not None
    rows = agent.replay.time * 4
    assert rows - 4 == pytest.approx(agent.step + agent.episodes, abs=4)  # a row for each step and each end; one cut


def test_evaluations_do_not_change_what_is_learned() -> None:
    agents = []
    for evaluation_envs in (None, make_vec("CartPole-v1", 2, seed=9)):
        agent, envs = cartpole()
        agents.append(agent.learn(envs, 500, evaluation_envs=evaluation_envs, evaluate_every=100))
    weights = [torch.cat([p.flatten() for p in agent.network.parameters()]) for agent in agents]
    assert torch.equal(*weights)


def test_the_target_is_copied_at_its_period() -> None:
    config = dataclasses.replace(SMALL, target_update_every=100)
    agent, envs = cartpole(config=config)
    copies: list[int] = []
    agent.learner.sync_target = lambda: copies.append(agent.step)  # type: ignore[method-assign]
    agent.learn(envs, 450)
    assert [step // 100 for step in copies] == [1, 2, 3, 4]
    assert all(step % 100 < 4 for step in copies)


def test_learning_goes_on_where_it_stopped(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.learn(envs, 300)
    replay, updates = agent.replay, agent.updates
    agent.learn(envs, 200)
    assert agent.replay is replay
    assert 500 <= agent.step < 512
    assert agent.updates - updates == pytest.approx(200 / SMALL.train_every, abs=2)


def test_a_loaded_agent_fills_its_replay_before_it_learns(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.learn(envs, 300).save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", device="cpu")
    before = loaded.updates
    loaded.learn(envs, SMALL.learning_starts - 4)
    assert loaded.updates == before
    loaded.learn(envs, 100)
    assert loaded.updates > before


def test_environments_that_do_not_fit_are_refused() -> None:
    agent, _ = cartpole()
    with pytest.raises(InvalidConfig, match="must have the agent's observations and actions"):
        agent.learn(make_vec("Acrobot-v1", 2), 10)
    same_step = gymnasium.make_vec(
        "CartPole-v1", 2, "sync", vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    )
    with pytest.raises(InvalidConfig, match="NEXT_STEP"):
        agent.learn(same_step, 10)
    envs = make_vec("CartPole-v1", 2)
    others = make_vec("Acrobot-v1", 2)
    for evaluation_envs, match in ((same_step, "NEXT_STEP"), (others, "evaluation environments must")):
        with pytest.raises(InvalidConfig, match=match):
            agent.learn(envs, 10, evaluation_envs=evaluation_envs)
    assert agent.step == 0


def test_plain_gymnasium_environments_serve() -> None:
    envs = gymnasium.make_vec("CartPole-v1", 2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, SMALL, device="cpu")
    agent.learn(envs, 200)
    assert agent.updates > 0


def test_options_are_checked(tmp_path: Path) -> None:
    agent, envs = cartpole()
    for name in ("evaluate_every", "evaluation_episodes", "checkpoint_every", "keep", "log_every"):
        with pytest.raises(InvalidConfig, match=name):
            agent.learn(envs, 10, **{name: 0})
    with pytest.raises(InvalidConfig, match="steps must be at least 1, got 0"):
        agent.learn(envs, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRun, match="cannot be written"):
        agent.learn(envs, 10, tmp_path / "file" / "run")
    agent.learn(envs, 10, tmp_path / "run")
    with pytest.raises(InvalidRun, match="already holds a run"):
        agent.learn(envs, 10, tmp_path / "run")


def test_learning_works_outside_the_main_thread_and_gives_the_signals_back() -> None:
    handler = signal.getsignal(signal.SIGINT)
    agent, envs = cartpole()
    thread = threading.Thread(target=agent.learn, args=(envs, 100))
    thread.start()
    thread.join()
    assert agent.step >= 100
    agent, envs = cartpole()
    agent.learn(envs, 100)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_curve_is_a_picture_of_the_run(tmp_path: Path) -> None:
    agent, envs = cartpole()
    agent.learn(
        envs,
        2_000,
        tmp_path / "run",
        evaluation_envs=make_vec("CartPole-v1", 2, seed=9),
        evaluate_every=1_000,
        description={"preset": "none"},
    )
    picture = plot_run(tmp_path / "run").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
