"""Exported files: what other programs compute from them is what the policy computes."""

import itertools
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from pixelq.agents import DQN, AgentConfig, InvalidConfig, MissingExtra, Policy, RunFailed, preset
from pixelq.agents.errors import InvalidRun
from pixelq.agents.sharing import export, export_onnx
from pixelq.agents.sharing.acting_network import played_inputs
from pixelq.agents.sharing.export import Format
from pixelq.envs import make_vec
from tests.support.cases import IS_FULL, representative
from tests.support.runs import run_here
from tests.support.small_agents import ACTIONS, PIXELS, small

VECTORS = gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32)
ONE_FRAME = gymnasium.spaces.Box(0, 255, (1, 44, 44), np.uint8)
CONFIGS: dict[str, AgentConfig] = {
    name: small(preset(name))
    for name in (
        "c51 qrdqn iqn fqf rainbow der munchausen quick pqn pqn_hadamax pqn_hl_gauss minatar_dqn dueling r2d2 drqn"
    ).split()
}
CONFIGS["btr"] = small(preset("btr"), encoder_width=1)
CONFIGS["rescaled"] = small(preset("dqn"), value_rescaling=True, encoder="compact", contrast_norm=True)
CONFIGS["layers"] = small(AgentConfig(encoder="nature", encoder_layers=(24, 16), activation="gelu"))


def agent_of(config: AgentConfig, space: gymnasium.spaces.Box = PIXELS) -> Policy:
    policy = Policy(space, ACTIONS, config, device="cpu", seed=3)
    with torch.no_grad():
        for name, weight in policy.network.named_parameters():
            if name.endswith("sigma"):
                weight.fill_(100.0)  # noise would be seen
    return policy


def observations(policy: Policy, rows: int, seed: int) -> Any:
    rng, space = np.random.default_rng(seed), policy.observation_space
    size = (rows, *space.shape)
    return rng.integers(256, size=size, dtype=np.uint8) if space.dtype == np.uint8 else rng.normal(size=size)


def session_of(file: Path) -> Any:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


FORMATS: tuple[Format, ...] = ("torchscript", "torch_export")
CASES = representative(itertools.product(CONFIGS, FORMATS), {(name, FORMATS[0]) for name in ("rainbow", "r2d2", "btr")})


@pytest.mark.parametrize(("name", "to"), CASES)
def test_every_head_and_encoder_is_exported(name: str, to: Format, tmp_path: Path) -> None:
    policy = agent_of(CONFIGS[name], ONE_FRAME if name == "drqn" else PIXELS)
    found = export(policy, to, tmp_path / "file", None)
    assert found is not None
    assert (found.observations, found.other_actions) == (49, 0)
    assert found.q_value < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_head_and_encoder_is_exported_as_onnx(name: str, tmp_path: Path) -> None:
    policy = agent_of(CONFIGS[name], ONE_FRAME if name == "drqn" else PIXELS)
    found = export_onnx(policy, tmp_path / "file.onnx")
    assert found is not None
    assert (found.observations, found.other_actions) == (49, 0)
    assert found.q_value < 1e-4
    onnx.checker.check_model(onnx.load(tmp_path / "file.onnx"), full_check=True)


def test_the_file_takes_any_number_of_rows_and_says_what_it_is_of(tmp_path: Path) -> None:
    policy = agent_of(AgentConfig(encoder="mlp", hidden=8, noisy=True, dueling=True), VECTORS)
    policy.env_id, policy.protocol, policy.step = "Some/Env-v0", "gymnasium", 12
    export_onnx(policy, tmp_path / "file.onnx")
    session = session_of(tmp_path / "file.onnx")
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("observation", "tensor(float)", [5])
    assert (returned.name, returned.type, returned.shape[1:]) == ("q_values", "tensor(float)", [3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["env"], metadata["protocol"], metadata["step"]) == ("Some/Env-v0", "gymnasium", "12")
    for rows in (1, 2, 7):
        obs = observations(policy, rows, rows).astype(np.float32)
        (q,) = session.run(None, {"observation": obs})
        np.testing.assert_allclose(q, policy.q_values(obs).numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_state_of_an_lstm_goes_in_and_out(tmp_path: Path) -> None:
    """Played as `predict` plays, through an episode's end."""
    config = AgentConfig(encoder="mlp", hidden=8, lstm=6, lstm_last_action=True, lstm_last_reward=True)
    policy = agent_of(config, VECTORS)
    export_onnx(policy, tmp_path / "file.onnx")
    session = session_of(tmp_path / "file.onnx")
    names = [each.name for each in session.get_inputs()]
    assert names == ["observation", "hidden", "cell", "episode_start", "last_action", "last_reward"]
    rng, rows, expected = np.random.default_rng(0), 3, None
    state = {"hidden": np.zeros((rows, 6), np.float32), "cell": np.zeros((rows, 6), np.float32)}
    start, action, reward = np.ones(rows, bool), np.zeros(rows, np.int64), np.zeros(rows, np.float32)
    for step in range(8):
        obs = observations(policy, rows, step).astype(np.float32)
        given = {"observation": obs, **state, "episode_start": start, "last_action": action, "last_reward": reward}
        q, *states = session.run(None, given)
        actions, expected = policy.predict(obs, expected, start, reward=reward)
        np.testing.assert_array_equal(q.argmax(1), actions)
        np.testing.assert_allclose(states, expected[:2], atol=1e-5)
        state, action = dict(zip(state, states, strict=True)), actions
        start, reward = np.array([False, step == 4, False]), rng.normal(size=rows).astype(np.float32)


@pytest.mark.parametrize("frames", [1000 if IS_FULL else 64])
def test_the_difference_on_real_frames(frames: int, tmp_path: Path) -> None:
    policy, envs = Policy.load("demo", "cpu"), make_vec("ALE/Pong-v5", 8, 0, "envpool", frame_size=42)
    found = export_onnx(policy, tmp_path / "pong.onnx", played_inputs(policy, envs, frames // 8))
    assert found is not None
    assert (found.observations, found.other_actions) == (frames, 0)
    assert 0.0 < found.q_value < 1e-4
    assert f"differ by at most {found.q_value:.1e} on {frames:,} observations; no greedy" in str(found)


def test_played_inputs_are_what_the_policy_remembers() -> None:
    envs = make_vec("CartPole-v1", 2, 0)
    config = AgentConfig(encoder="mlp", hidden=8, lstm=6, lstm_last_action=True, lstm_last_reward=True)
    policy = Policy(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    played = list(played_inputs(policy, envs, 60))
    starts = np.stack([each.episode_start.numpy() for each in played])
    assert starts[0].all()
    assert 2 < starts.sum() < 60
    assert all((each.last_reward.numpy() == 1.0).any() for each in played[1:])
    assert {int(action) for each in played for action in each.last_action} == {0, 1}


def test_another_network_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, file = agent_of(AgentConfig(encoder="mlp", hidden=8), VECTORS), tmp_path / "file"
    writers: Any = sys.modules["pixelq.agents.sharing.export"]._WRITERS  # type: ignore[attr-defined]
    write = writers["torchscript"]

    def changed(*arguments: Any) -> Any:
        data, run, program = write(*arguments)
        return data, lambda given: [q + 0.01 for q in run(given)], program

    def broken(*arguments: Any) -> Any:
        return write(*arguments)[0], lambda given: 1 / 0, "another program"

    monkeypatch.setitem(writers, "torchscript", changed)
    with pytest.raises(RunFailed, match=r"the exported network is not the policy's: .*1\.0e-02 on 49 observations"):
        export(policy, "torchscript", file)
    monkeypatch.setitem(writers, "torchscript", broken)
    with pytest.raises(RunFailed, match="cannot be run by another program"):
        export(policy, "torchscript", file)
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    """An encoder that torch.export cannot express: Python reads its numbers."""

    out_features = 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float() if x.sum() > 0 else -x.float()


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(VECTORS, ACTIONS, AgentConfig(hidden=8), device="cpu", encoder=Branching())
    with pytest.raises(InvalidConfig, match="torch_export cannot express this network"):
        export(policy, "torch_export", tmp_path / "file")
    plain = agent_of(AgentConfig(encoder="mlp", hidden=8), VECTORS)
    with pytest.raises(InvalidConfig, match="format must be one of onnx, torchscript, torch_export, got 'tflite'"):
        export(plain, "tflite", tmp_path / "file")  # type: ignore[arg-type]
    with pytest.raises(InvalidRun, match="cannot be written"):
        export(plain, "torchscript", tmp_path / "missing" / "file")
    for library in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(MissingExtra, match=r"needs onnx and onnxscript: pip install 'pixelq\[onnx\]'"):
                export_onnx(plain, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_onnxruntime_the_file_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx(agent_of(AgentConfig(encoder="mlp", hidden=8), VECTORS), tmp_path / "file.onnx") is None
    onnx.checker.check_model(onnx.load(tmp_path / "file.onnx"))


def saved(folder: Path, **config: Any) -> Path:
    """A checkpoint of an agent for CartPole."""
    envs = make_vec("CartPole-v1", 1)
    config = {"hidden": 8, "encoder": "mlp", **config}
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(**config), device="cpu")
    agent.env_id, agent.protocol = "CartPole-v1", "gymnasium"
    agent.save(folder)
    return folder


def test_the_command(tmp_path: Path) -> None:
    checkpoint, file = saved(tmp_path / "agent", lstm=4), tmp_path / "new" / "file.pt"
    ended = run_here(["export", str(checkpoint), "--format", "torchscript", "--out", str(file), "--frames", "20"])
    assert (ended.code, ended.err) == (0, "")
    assert "inputs   observation float32 [batch, 4], hidden float32 [batch, 4], cell" in ended.out
    assert "on 24 observations; no greedy action differs" in ended.out
    assert file.stat().st_size > 1000
    other = DQN.load(checkpoint, "cpu")
    other.env_id = None
    other.save(tmp_path / "other")
    ended = run_here(["export", str(tmp_path / "other"), "--format", "torch_export", "--out", str(file)])
    assert ended.code == 0
    assert "compared on random observations: " in ended.err
    assert "on 49 observations" in ended.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none", "--out", "file"], "none does not exist"),
        (["agent"], "missing: --out"),
        (["agent", "--out", "file", "--format", "tflite"], "--format must be one of"),
        (["agent", "--out", "file", "--frames", "-1"], "--frames must be at least 0, got -1"),
        (["agent", "--out", "agent", "--format", "torchscript"], "cannot be written (Is a directory)"),
        (["agent", "--out", "file", "--which", "best"], "is a checkpoint and not a run; leave out --which"),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "agent")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ended = run_here(["export", *arguments])
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
