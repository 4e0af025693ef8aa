"""Agents with memory by all three doors: trained from the command line, evaluated and filmed, used as a library."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelq.agents import DQN, Evaluation, preset
from pixelq.agents.acting.memory import joined
from pixelq.agents.evaluation import scoring
from pixelq.agents.evaluation.episode import Game, evaluation_game, evaluation_rules
from pixelq.agents.insight.activations import last_hidden
from pixelq.agents.insight.recording import record_episode, states_of
from pixelq.agents.insight.saliency import gaussian_blur, gaussian_mask, saliency
from pixelq.agents.insight.state_map import embed, map_states
from pixelq.agents.report.inside import chosen_moments, inside_section
from pixelq.agents.runs.tables import read_run
from pixelq.envs import make_vec, resolve_protocol
from pixelq.scripts import train
from tests.support.runs import run_here

SMALL = "--num-envs 4 --agent.lstm 8 --agent.hidden 8 --agent.batch-size 4 --agent.replay-capacity 2000 --device cpu"
SHORT = "--agent.sequence-length 12 --agent.sequence-period 6 --agent.burn-in 2 --agent.learning-starts 200"
FEW = "--evaluation-episodes 2 --final-episodes 3 --evaluate-every 400 --log-every 100 --agent.train-every 16"
FLAGS = f"--preset quick_recurrent {SMALL} {SHORT} {FEW}".split()


def small(**fields: Any) -> Any:
    sizes = {"lstm": 8, "hidden": 8, "sequence_length": 12, "sequence_period": 6, "burn_in": 2}
    return dataclasses.replace(preset("quick_recurrent"), **(sizes | fields))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("memory") / "run"
    ended = run_here(["train", "--env", "pixelq/TMaze-v0", "--steps", "800", *FLAGS, "--out", str(out)])
    assert ended.code == 0, ended
    return out


@pytest.mark.slow
def test_a_run_tells_of_its_memory(run: Path) -> None:
    config, metrics, evaluations = read_run(run)
    assert (config["agent"]["lstm"], config["agent"]["sequence_length"]) == (8, 12)
    assert [row["step"] for row in evaluations] == ["400", "800"]
    discrepancies = [float(row["q_discrepancy"]) for row in metrics if row["q_discrepancy"]]
    assert len(metrics) == 8
    assert len(discrepancies) == 1  # with the first update; there are fewer than a hundred more
    assert 1e-4 < discrepancies[0] < 1


@pytest.mark.slow
def test_it_goes_on_as_if_it_had_not_been_stopped(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "halved"
    arguments = ["train", "--env", "pixelq/TMaze-v0", *FLAGS, "--out", str(out)]
    assert run_here([*arguments, "--steps", "400"]).code == 0
    assert run_here(["train", "--resume", "--out", str(out), "--steps", "800"]).code == 0
    assert json.loads((out / "config.json").read_text())["resumed"][0]["exact"]
    one, other = (DQN.load(path / "checkpoints" / "latest", "cpu") for path in (run, out))
    assert one.step == other.step == 800
    for weights, others in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(weights, others)


def test_evaluate_plays_with_memory(run: Path, tmp_path: Path) -> None:
    scores, again = tmp_path / "scores.json", tmp_path / "again.json"
    for file in (scores, again):
        ended = run_here(["evaluate", str(run), "--episodes", "5", "--device", "cpu", "--json", str(file)])
        assert ended.code == 0, ended
    figures = json.loads(scores.read_text())
    assert figures["returns"] == json.loads(again.read_text())["returns"]
    assert len(figures["returns"]) == 5
    ended = run_here(["evaluate", str(run), "--flicker", "0.5"])
    assert (ended.code, "only Atari games flicker; leave out --flicker" in ended.err) == (2, True), ended


@pytest.mark.slow
def test_a_flickering_game_is_evaluated_as_it_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "pong"
    flags = [*FLAGS, "--flicker", "0.5", "--agent.encoder", "der", "--agent.learning-starts", "5000"]
    few = ["--steps", "40", "--evaluate-every", "1000", "--evaluation-episodes", "1", "--final-episodes", "1"]
    made: list[tuple[int, float]] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        envs = make_vec(*arguments, **options)
        made.append((envs.frame_stack, envs.flicker))
        return envs

    for module in (scoring, train):
        monkeypatch.setattr(module, "make_vec", noted)
    monkeypatch.setattr(scoring, "evaluate", lambda *_, **__: evaluation_of_nothing())
    monkeypatch.setattr("pixelq.agents.training.recorder.evaluate", lambda *_, **__: evaluation_of_nothing())
    ended = run_here(["train", "--env", "ALE/Pong-v5", *flags, *few, "--out", str(out)])
    assert ended.code == 0, ended
    assert made == [(1, 0.5)] * 3  # training, its evaluations, the final one
    agent = DQN.load(out, "cpu")
    assert agent.protocol == "sticky+flicker=0.5"
    game = evaluation_game(agent, "ALE/Pong-v5", evaluation_rules(agent.protocol), None, 0)
    assert (game.frame_stack, game.protocol) == (1, "sticky+flicker=0.5")

    filmed: list[str] = []
    monkeypatch.setattr(
        "pixelq.scripts.evaluate.film_episode", lambda _, game, *__: filmed.append(game.protocol) or 0.0
    )
    for flicker in (0.25, 0.0):
        words = ["--flicker", str(flicker), "--json", str(tmp_path / "scores.json"), "--video", str(tmp_path)]
        ended = run_here(["evaluate", str(out), *words, "--device", "cpu"])
        assert ended.code == 0, ended
        rules = json.loads((tmp_path / "scores.json").read_text())["protocol"]
        assert resolve_protocol(rules).flicker == flicker
        assert ("sticky with 25% of the frames black" in ended.out) == (flicker == 0.25)
    assert made[3:] == [(1, 0.25), (1, 0.0)]
    assert filmed == ["sticky+flicker=0.25", "sticky"]
    ended = run_here(["evaluate", str(out), "--flicker", "1"])
    assert (ended.code, "--flicker must be a probability in [0, 1), got 1" in ended.err) == (2, True), ended


def evaluation_of_nothing() -> Any:
    return Evaluation("ALE/Pong-v5", (0.0,), (1,))


def test_a_recorded_episode_has_the_values_of_a_player_with_memory() -> None:
    envs = make_vec("pixelq/RepeatPrevious-v0", 1, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, small(), device="cpu", seed=0)
    episode = record_episode(agent, Game("pixelq/RepeatPrevious-v0", seed=3))
    obs, state = make_vec("pixelq/RepeatPrevious-v0", 1, seed=3).reset()[0], None
    assert np.array_equal(episode.observations[0], obs[0])
    for t in range(len(episode.actions)):
        action, state = agent.predict(episode.observations[t], state, np.array([t == 0]))
        assert action == episode.actions[t]
    apart = np.abs(episode.q_values - agent.q_values(episode.observations).numpy()).max(1)
    assert apart[0] == pytest.approx(0.0, abs=1e-6)  # an episode's first
    assert apart[1:].min() > 1e-4  # the others have a past


def remembering(env_id: str = "pixelq/Catch-v0", **fields: Any) -> DQN:
    envs = make_vec(env_id, 1, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, small(**fields), device="cpu", seed=0)
    agent.env_id = env_id
    return agent


@pytest.mark.parametrize("head", ["scalar", "implicit"])
def test_what_looks_at_states_remembers_what_was_before_them(head: Any) -> None:
    agent = remembering(head=head, cosines=8, dueling=False)
    episodes = [record_episode(agent, Game("pixelq/Catch-v0", epsilon=0.5, seed=seed)) for seed in range(3)]
    observations, _, memories = states_of(episodes)
    assert memories is not None
    assert len(memories) == len(observations) == 27
    q = np.concatenate([episode.q_values for episode in episodes])
    q_now = agent.q_values(observations, joined(memories)).numpy()
    np.testing.assert_allclose(q_now, q, atol=1e-6)
    assert np.abs(agent.q_values(observations).numpy() - q)[1:9].max() > 1e-4
    found = map_states(agent, observations, memories, thumbnails=3)
    np.testing.assert_allclose(found.values, q.max(1), atol=1e-6)
    hidden = last_hidden(agent, observations, memories)
    out = agent.network.head.streams.advantage.out
    with torch.no_grad():
        of_hidden = out(torch.from_numpy(hidden)).numpy()  # linear, so that the mean over fractions may come first
    np.testing.assert_allclose(of_hidden.reshape(q.shape), q, atol=1e-5)
    np.testing.assert_array_equal(found.positions, embed(hidden))
    few = states_of(episodes, 5)
    assert few.memories is not None
    np.testing.assert_allclose(
        agent.q_values(few.observations, joined(few.memories)).numpy(), q[[0, 6, 13, 20, 26]], atol=1e-6
    )


def test_saliency_is_that_of_the_moment() -> None:
    agent = remembering()
    episode = record_episode(agent, Game("pixelq/Catch-v0", seed=1))
    assert episode.memories is not None
    memory, image = episode.memories[5], episode.observations[5]
    before = joined([memory])
    found = saliency(agent, image, memory)
    assert found is not None
    for kept, now in zip((*before.state, *before.last), (*memory.state, *memory.last), strict=True):
        assert torch.equal(kept, now)
    pixels = torch.from_numpy(image).float()
    blurred = gaussian_blur(pixels, 3.0)
    for row, column in ((0, 0), (9, 2), (4, 4)):
        mask = gaussian_mask(10, 5, row, column, 1.0)
        changed = (pixels + (blurred - pixels) * mask).round().to(torch.uint8).numpy()
        q = agent.q_values(changed[None], joined([memory])).numpy()[0]
        assert found.q_values[row, column] == pytest.approx(((q - episode.q_values[5]) ** 2).sum() / 2, abs=1e-9)
    section = inside_section(agent, episode)
    (moment,) = [m for m in section.values["moments"] if "the highest value" in m["why"]]
    index = chosen_moments(episode)[section.values["moments"].index(moment)].index
    most = saliency(agent, episode.observations[index], episode.memories[index])
    assert most is not None
    assert moment["saliency"][1]["most"] == f"{most.q_values.max():.3g}"
    alone = saliency(agent, episode.observations[index])
    assert alone is not None
    assert moment["saliency"][1]["most"] != f"{alone.q_values.max():.3g}"
    np.testing.assert_allclose(section.data["values"], episode.q_values.max(1), rtol=1e-5)


def test_memories_are_joined_in_their_order() -> None:
    agent = remembering()
    memories = [agent.make_memory(n) for n in (1, 2)]
    obs = np.random.default_rng(0).integers(256, size=(3, *agent.observation_space.shape), dtype=np.uint8)
    for memory, seen in zip(memories, (obs[:1], obs[1:]), strict=True):
        assert memory is not None
        agent.q_values(seen, memory)
        memory.step(np.arange(len(seen)), np.ones(len(seen)), np.zeros(len(seen), dtype=bool))
    whole = joined(memories)  # type: ignore[arg-type]
    assert whole.num_envs == 3
    assert whole.last.action.tolist() == [0, 0, 1]
    alone = [agent.q_values(seen, memory) for seen, memory in zip((obs[:1], obs[1:]), memories, strict=True)]
    torch.testing.assert_close(agent.q_values(obs, whole), torch.cat(alone))
    with pytest.raises(ValueError, match="memories must hold at least one memory, got none"):
        joined([])


def test_the_environments_decide_how_many_frames_are_stacked(tmp_path: Path) -> None:
    """What is trained is what config.json says, so that a run goes on from the command line."""
    envs = make_vec("ALE/Pong-v5", 1, seed=0)
    config = small(encoder="der", learning_starts=50)
    assert config.frame_stack == 1
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    with pytest.warns(
        UserWarning, match="had frame_stack 1, but the environments stack 4 frames; it was changed to 4"
    ) as told:
        agent.learn(envs, 20, tmp_path / "run")
    assert told[0].filename == __file__
    assert agent.config == agent.learner.config == dataclasses.replace(config, frame_stack=4)
    assert read_run(tmp_path / "run").config["agent"]["frame_stack"] == 4
    saved = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    assert saved.fits(make_vec("ALE/Pong-v5", 1, seed=0, frame_stack=saved.config.frame_stack))
    path = tmp_path / "run" / "config.json"  # as earlier versions wrote it
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"agent": told["agent"] | {"frame_stack": 1}}))
    saved.learn(envs, 5, tmp_path / "run", resume=True)
    assert read_run(tmp_path / "run").config["agent"]["frame_stack"] == 4

    single = make_vec("ALE/Pong-v5", 1, seed=0, frame_stack=1)
    one = DQN(single.single_observation_space, single.single_action_space, config, device="cpu", seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*frame_stack")
        one.learn(single, 5)


def test_saved_for_acting_it_remembers_alike(tmp_path: Path) -> None:
    envs = make_vec("pixelq/TMaze-v0", 3, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, small(), device="cpu", seed=0)
    agent.save(tmp_path / "agent", for_acting=True)
    loaded = DQN.load(tmp_path / "agent", "cpu")
    obs, states = envs.reset()[0], [None, None]
    for _ in range(20):
        actions = []
        for i, player in enumerate((agent, loaded)):
            action, states[i] = player.predict(obs, states[i])  # type: ignore[call-overload]
            actions.append(action)
        assert np.array_equal(*actions)
        obs = envs.step(actions[0])[0]
    for one, other in zip(*states, strict=True):  # type: ignore[arg-type]
        assert np.array_equal(one, other)
