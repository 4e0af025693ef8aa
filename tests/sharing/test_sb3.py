"""Agents of stable-baselines3 and ours play the same actions, in both directions, and nothing of a zip is executed."""

import base64
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from pixelq.agents import DQN, PQN, AgentConfig, InvalidCheckpoint, InvalidConfig
from pixelq.agents.errors import InvalidRun
from pixelq.agents.sharing import load_sb3, save_sb3
from pixelq.envs import make_vec
from tests.support.cases import representative
from tests.support.runs import run_here

VECTORS = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
BYTES = gymnasium.spaces.Box(0, 255, (6,), np.uint8)
PIXELS = gymnasium.spaces.Box(0, 255, (3, 36, 40), np.uint8)
ACTIONS = gymnasium.spaces.Discrete(2)


class Squares(gymnasium.Env[Any, Any]):
    """Pictures of noise, brighter after the right action."""

    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.bright = int(self.np_random.integers(3))
        return self.shown(), {}

    def step(self, action: Any) -> Any:
        reward = float(action == self.bright)
        self.bright = int(self.np_random.integers(3))
        return self.shown(), reward, self.np_random.random() < 0.1, False, {}

    def shown(self) -> Any:
        space = self.observation_space
        return self.np_random.integers(60 * self.bright + 60, size=space.shape).astype(space.dtype)


def trained(env: Any, policy: str = "MlpPolicy", steps: int = 150, **kwargs: Any) -> stable_baselines3.DQN:
    """An agent of stable-baselines3 after some learning."""
    settings = {"learning_starts": 50, "buffer_size": 500, "learning_rate": 3e-4, "train_freq": 4, "seed": 0}
    model = stable_baselines3.DQN(policy, env, policy_kwargs=kwargs, device="cpu", **settings)
    return model.learn(steps)


def theirs(model: stable_baselines3.DQN, obs: Any) -> Any:
    with torch.no_grad():
        return model.policy.q_net(model.policy.obs_to_tensor(obs)[0]).numpy()


def random_observations(space: gymnasium.spaces.Box, rows: int = 64) -> Any:
    rng = np.random.default_rng(5)
    size = (rows, *space.shape)
    return rng.integers(256, size=size).astype(np.uint8) if space.dtype == np.uint8 else rng.normal(size=size)


def assert_same(model: stable_baselines3.DQN, agent: DQN, obs: Any) -> None:
    q = agent.q_values(obs).numpy()
    np.testing.assert_allclose(q, theirs(model, obs), rtol=1e-5, atol=1e-5 * np.abs(q).max())
    np.testing.assert_array_equal(agent.predict(obs)[0], model.predict(obs, deterministic=True)[0])
    assert np.ptp(q, axis=0).min() > 1e-4


@pytest.mark.parametrize("arch", representative([[], [9], [16, 16], [12, 7], [9, 8, 7], None], [[9], [9, 8, 7]]))
def test_an_mlp_of_any_width_is_read(arch: list[int] | None, tmp_path: Path) -> None:
    model = trained("CartPole-v1", **({} if arch is None else {"net_arch": arch}))
    model.save(tmp_path / "model.zip")
    agent = load_sb3(tmp_path / "model.zip", device="cpu")
    obs = random_observations(VECTORS).astype(np.float32)
    assert_same(model, agent, obs)
    assert (agent.step, agent.config.gamma, agent.config.batch_size, agent.config.epsilon_end) == (152, 0.99, 32, 0.05)
    assert agent.config.learning_rate == 3e-4
    # It is saved, loaded and written back like any other agent
    agent.save(tmp_path / "agent")
    again = DQN.load(tmp_path / "agent", device="cpu")
    assert_same(model, again, obs)
    save_sb3(again, tmp_path / "back.zip")
    assert_same(stable_baselines3.DQN.load(tmp_path / "back.zip"), again, obs)


@pytest.mark.parametrize("arch", representative([[], [24], [24, 16]], [[24]]))
@pytest.mark.parametrize("shape", representative([[36, 40, 3], [2, 36, 36]], [[36, 40, 3]]))
def test_a_cnn_is_read(shape: list[int], arch: list[int], tmp_path: Path) -> None:
    pictures = gymnasium.spaces.Box(0, 255, tuple(shape), np.uint8)
    model = trained(
        Squares(pictures),
        "CnnPolicy",
        80,
        net_arch=arch,
        features_extractor_kwargs={"features_dim": 32},
    )
    model.save(tmp_path / "model.zip")
    agent = load_sb3(tmp_path / "model.zip", device="cpu")
    obs = random_observations(pictures)
    assert_same(model, agent, obs)
    save_sb3(agent, tmp_path / "back.zip")
    assert_same(stable_baselines3.DQN.load(tmp_path / "back.zip"), agent, obs)
    if shape[2] == 3:
        last = load_sb3(tmp_path / "model.zip", device="cpu", channels_last=True)
        assert last.observation_space.shape == tuple(shape)
        assert_same(model, last, obs)
        save_sb3(last, tmp_path / "back.zip")
        assert_same(stable_baselines3.DQN.load(tmp_path / "back.zip"), last, obs)


@pytest.mark.parametrize("kwargs", representative([{}, {"normalize_images": False}], [{}]))
def test_bytes_are_scaled_as_they_were(kwargs: dict[str, Any], tmp_path: Path) -> None:
    """Ours divide all bytes by 255, theirs only those of images, if at all."""
    for space in (BYTES, PIXELS):
        model = trained(Squares(space), steps=70, net_arch=[32], **kwargs)
        model.save(tmp_path / "model.zip")
        agent = load_sb3(tmp_path / "model.zip", device="cpu")
        assert_same(model, agent, random_observations(space))
    agent = DQN(BYTES, ACTIONS, AgentConfig(encoder="mlp", hidden=8), device="cpu")
    save_sb3(agent, tmp_path / "back.zip")
    assert_same(stable_baselines3.DQN.load(tmp_path / "back.zip"), agent, random_observations(BYTES))


@pytest.mark.slow
def test_an_agent_trained_on_pong(tmp_path: Path) -> None:
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    envs = VecFrameStack(make_atari_env("ALE/Pong-v5", 1, seed=0), 4)
    model = trained(envs, "CnnPolicy", 400)
    model.save(tmp_path / "pong.zip")
    agent = load_sb3(tmp_path / "pong.zip", device="cpu")
    obs, found = envs.reset(), []
    for _ in range(100):
        found.append(obs)
        obs, *_ = envs.step(model.predict(obs, deterministic=False)[0])
    obs = np.concatenate(found)
    np.testing.assert_allclose(agent.q_values(obs).numpy(), theirs(model, obs), atol=1e-5)
    np.testing.assert_array_equal(agent.predict(obs)[0], model.predict(obs, deterministic=True)[0])


def test_an_exported_agent_plays_in_stable_baselines3(tmp_path: Path) -> None:
    envs = make_vec("CartPole-v1", 1, 0)
    agent = PQN(envs.single_observation_space, envs.single_action_space, device="cpu", seed=1)
    agent.step = 77
    difference = save_sb3(agent, tmp_path / "agent.zip")
    assert (difference.observations, difference.other_actions) == (49, 0)
    assert difference.q_value < 1e-5
    model = stable_baselines3.DQN.load(tmp_path / "agent.zip", env=gymnasium.make("CartPole-v1"))
    assert (model.num_timesteps, model.buffer_size, model.gamma) == (77, 100_000, 0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = [evaluate_policy(each, gymnasium.make("CartPole-v1"), 3)[0] for each in (model, agent)]
    assert both[0] > 0


REFUSED: dict[str, dict[str, Any]] = {
    "dueling streams": {"dueling": True},
    "noisy layers": {"noisy": True},
    "head categorical": {"head": "categorical"},
    "head implicit": {"head": "implicit"},
    "LSTM": {"lstm": 4},
    "value_rescaling": {"value_rescaling": True},
    "normalisation of layers": {"layer_norm": True},
    "activation gelu": {"activation": "gelu"},
    "encoder impala": {"encoder": "impala"},
    "encoder dopamine": {"encoder": "dopamine"},
    "contrast_norm": {"contrast_norm": True},
    "CNN without a hidden layer": {"hidden": 0},
    "observations": {"encoder": "mlp"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_stable_baselines3_lacks_is_refused(reason: str, tmp_path: Path) -> None:
    agent = DQN(PIXELS, ACTIONS, AgentConfig(**({"hidden": 8} | REFUSED[reason])), device="cpu")
    with pytest.raises(
        InvalidConfig, match=f"stable-baselines3's DQN has no .*{reason}.*; export such an agent as onnx"
    ):
        save_sb3(agent, tmp_path / "agent.zip")
    assert list(tmp_path.iterdir()) == []


def test_masks_and_missing_folders_are_refused(tmp_path: Path) -> None:
    agent = DQN(VECTORS, ACTIONS, AgentConfig(encoder="mlp", hidden=8), device="cpu")
    with pytest.raises(InvalidRun, match="cannot be written"):
        save_sb3(agent, tmp_path / "missing" / "agent.zip")
    agent.action_masks = True
    with pytest.raises(InvalidConfig, match="has no action masks"):
        save_sb3(agent, tmp_path / "agent.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def model_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sb3") / "model.zip"
    trained("CartPole-v1", net_arch=[8], steps=60).save(path)
    return path


def changed(source: Path, to: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a zip with other entries."""
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(to, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return to


def data_with(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries["data"] = json.dumps(json.loads(entries["data"]) | values).encode()

    return change


def weights_with(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[dict[str, bytes]], None]:
    def changing(entries: dict[str, bytes]) -> None:
        state = torch.load(io.BytesIO(entries["policy.pth"]), weights_only=True)
        file = io.BytesIO()
        torch.save(change(state) or state, file)
        entries["policy.pth"] = file.getvalue()

    return changing


def compressed(entries: dict[str, bytes]) -> None:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(entries["policy.pth"])) as old,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    entries["policy.pth"] = file.getvalue()


class Touch:
    """What is pickled as a call that leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


BOX = {":type:": "<class 'gymnasium.spaces.box.Box'>", ":serialized:": "", "_shape": [4], "dtype": "float32"}
ARCH = {":type:": "<class 'dict'>", ":serialized:": ""}
DAMAGED: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "no policy": (lambda entries: entries.pop("policy.pth") and None, "is no zip of stable-baselines3"),
    "no data": (lambda entries: entries.pop("data") and None, "is no zip of stable-baselines3"),
    "not JSON": (lambda entries: entries.update(data=b"{"), "is no zip of stable-baselines3, or is damaged"),
    "a list": (lambda entries: entries.update(data=b"[]"), "data is no object"),
    "not weights": (lambda entries: entries.update({"policy.pth": b"weights"}), "or is damaged"),
    "compressed": (compressed, "policy.pth is compressed"),
    "other space": (
        data_with(observation_space={":type:": "<class 'gymnasium.spaces.dict.Dict'>"}),
        "must have observations of a Box, got <class 'gymnasium.spaces.dict.Dict'>",
    ),
    "no shape": (data_with(observation_space=BOX | {"_shape": None}), "shape of the observations must be a list"),
    "huge shape": (data_with(observation_space=BOX | {"_shape": [2**30]}), "at most 16,777,216 numbers"),
    "other shape": (
        data_with(observation_space=BOX | {"_shape": [2**24]}),
        "a layer must be [8, 16777216] for [16777216], got [8, 4]",
    ),
    "a bias to broadcast": (
        weights_with(lambda state: state | {"q_net.q_net.0.bias": torch.zeros(1)}),
        "a layer must be",
    ),
    "tanh": (
        data_with(policy_kwargs=ARCH | {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}),
        "must have ReLU as activation_fn, got <class 'torch.nn.modules.activation.Tanh'>",
    ),
    "own extractor": (
        data_with(policy_kwargs=ARCH | {"features_extractor_class": "<class 'mine.Extractor'>"}),
        "must have NatureCNN or FlattenExtractor as features_extractor_class",
    ),
    "gamma": (data_with(gamma=3), "has settings that no agent has here: gamma must be in"),
    "another algorithm": (
        weights_with(lambda state: {name.replace("q_net.", "actor."): each for name, each in state.items()}),
        "holds no DQN with CnnPolicy or MlpPolicy",
    ),
    "a further layer": (
        weights_with(lambda state: state | {"q_net.norm.weight": torch.zeros(8)}),
        "holds no DQN with CnnPolicy or MlpPolicy",
    ),
    "no tensor": (weights_with(lambda state: state | {"q_net.q_net.0.bias": 3}), "is no array of numbers"),
    "a virtual tensor": (
        weights_with(lambda state: state | {"q_net.q_net.0.weight": torch.zeros(1, 1).expand(2**40, 4)}),
        "is no array of numbers",
    ),
    "a list of weights": (weights_with(lambda state: [1]), "holds no DQN"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_and_other_zips_are_refused(damage: str, model_zip: Path, tmp_path: Path) -> None:
    change, sentence = DAMAGED[damage]
    path = changed(model_zip, tmp_path / "changed.zip", change)
    with pytest.raises(InvalidCheckpoint) as error:
        load_sb3(path, device="cpu")
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{path} ")


def test_pickles_are_ignored_or_refused(model_zip: Path, tmp_path: Path) -> None:
    """Those in data are text to us; one in place of the weights is not unpickled."""
    pickle = pytest.importorskip("pickle")
    hostile = base64.b64encode(pickle.dumps(Touch(tmp_path / "touched"))).decode()
    entry = {":type:": "<class 'function'>", ":serialized:": hostile}
    path = changed(model_zip, tmp_path / "one.zip", data_with(lr_schedule=entry, _last_obs=entry, replay_buffer=entry))
    assert load_sb3(path, device="cpu").num_actions == 2

    def hostile_weights(entries: dict[str, bytes]) -> None:
        file = io.BytesIO()
        torch.save({"q_net.q_net.0.weight": Touch(tmp_path / "touched")}, file)
        entries["policy.pth"] = file.getvalue()

    with pytest.raises(InvalidCheckpoint, match="or is damaged"):
        load_sb3(changed(model_zip, tmp_path / "two.zip", hostile_weights), device="cpu")
    assert not (tmp_path / "touched").exists()
    for path, sentence in ((tmp_path / "none.zip", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(InvalidCheckpoint, match=sentence):
            load_sb3(path, device="cpu")


def test_the_commands(model_zip: Path, tmp_path: Path) -> None:
    """A zip becomes a checkpoint, is evaluated, and becomes a zip that fits the environment."""
    out, back = tmp_path / "agent", tmp_path / "back.zip"
    ended = run_here(["convert", str(model_zip), "--env", "CartPole-v1", "--out", str(out)])
    assert (ended.code, ended.err) == (0, "")
    scored = run_here(["evaluate", str(out), "--episodes", "2", "--json", "--device", "cpu"])
    figures = json.loads(scored.out)
    assert (figures["env"], figures["step"], figures["episodes"]) == ("CartPole-v1", 60, 2)
    ended = run_here(["export", str(out), "--format", "sb3", "--out", str(back), "--frames", "16"])
    assert (ended.code, ended.err) == (0, "")
    assert "on 16 observations; no greedy action differs" in ended.out
    model = stable_baselines3.DQN.load(back, env=gymnasium.make("CartPole-v1"))  # whose bounds it compares
    agent = DQN.load(out, device="cpu")
    assert_same(model, agent, random_observations(VECTORS).astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.zip", "--env", "CartPole-v1", "--out", "agent"], "none.zip is no file"),
        (["model.zip", "--out", "agent"], "missing: --env"),
        (["model.zip", "--env", "CartPole-v1"], "missing: --out"),
        (["model.zip", "--env", "Nothing-v0", "--out", "agent"], "Nothing"),
        (["model.zip", "--env", "Acrobot-v1", "--out", "agent"], "has observations [4] of float32 and 2 actions, and"),
        (["model.zip", "--env", "CartPole-v1", "--out", "other"], "other already exists and is no checkpoint"),
        (["text.zip", "--env", "CartPole-v1", "--out", "agent"], "text.zip is no zip of stable-baselines3"),
    ],
)
def test_bad_input(
    arguments: list[str], sentence: str, model_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.zip").write_bytes(model_zip.read_bytes())
    Path("text.zip").write_text("no zip")
    Path("other").mkdir()
    Path("other", "mine.txt").write_text("mine")
    ended = run_here(["convert", *arguments])
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("agent").exists()
