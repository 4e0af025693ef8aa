"""A run that was stopped and resumed is the run that never was: to the byte, in all that it keeps but times."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.run_checkpoints import newest_checkpoint
from pixelq.envs import PROTOCOLS, Protocol, make_vec
from tests.runs import assert_same

TINY = AgentConfig(
    hidden=8,
    batch_size=4,
    learning_starts=50,
    replay_capacity=400,
    train_every=3,
    target_update_every=40,
    epsilon_steps=500,
    n_step=3,
)
OPTIONS: dict[str, Any] = {
    "evaluate_every": 230,
    "evaluation_episodes": 3,
    "checkpoint_every": 70,
    "log_every": 50,
    "keep": 3,
}


class Killed(BaseException):
    """In place of SIGKILL: nothing of ours catches it, and what it runs through on its way out writes no file."""


class Trained:
    """How one run is trained, from its beginning or from its newest checkpoint."""

    def __init__(
        self, env: str = "pixelq/Catch-v0", config: AgentConfig = TINY, num_envs: int = 2, protocol: Any = "sticky"
    ) -> None:
        self.env, self.config, self.num_envs, self.protocol = env, config, num_envs, protocol

    def envs(self, seed: int, num_envs: int | None = None) -> Any:
        return make_vec(self.env, num_envs or self.num_envs, seed, self.protocol, num_threads=1)

    def train(self, out: Path, steps: int, *, kill_at: int | None = None, **options: Any) -> DQN | None:
        """Trains up to a step; ``kill_at`` is the call of the environments' ``recv`` at which the run dies."""
        newest = newest_checkpoint(out / "checkpoints", pytest.fail) if out.exists() else None
        envs = self.envs(seed=0 if newest is None else 99)  # other games, were they not put back
        if newest is None:
            agent = DQN(envs.single_observation_space, envs.single_action_space, self.config, device="cpu", seed=5)
        else:
            agent = DQN.load(newest, "cpu")
        calls, recv = 0, envs.recv

        def dying_recv() -> Any:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return recv()

        envs.recv = dying_recv
        evaluation_envs = self.envs(seed=1 if newest is None else 98, num_envs=2)
        try:
            resume = newest is not None or (out / "config.json").exists()
            options = OPTIONS | options
            return agent.learn(envs, steps - agent.step, out, evaluation_envs=evaluation_envs, resume=resume, **options)
        except Killed:
            return None
        finally:
            envs.close()
            evaluation_envs.close()


PARTS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "prioritized": {"prioritized": True, "priority_beta_steps": 400, "priority_uniform": 0.1},
    "noisy categorical": {"head": "categorical", "noisy": True, "dueling": True, "double": True, "epsilon_end": 0.0},
    "quantile munchausen": {"head": "quantile", "munchausen": True},
    "implicit": {"head": "implicit", "prioritized": True},
    "fqf": {"head": "fqf"},
    "rmsprop": {"optimizer": "rmsprop", "n_step": 1},
    "schedules and resets": {"learning_rate_steps": 400, "weight_decay": 0.1, "reset_every": 60, "gradient_steps": 2},
    "another ratio": {"train_every": 7, "max_grad_norm": None},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("parts", PARTS)
def test_every_part_goes_on_exactly(tmp_path: Path, parts: str) -> None:
    """Killed at three moments, one of them before the first checkpoint."""
    trained = Trained(config=dataclasses.replace(TINY, **PARTS[parts]))
    assert trained.train(tmp_path / "whole", 500) is not None
    for kill_at in (20, 130, 55):
        assert trained.train(tmp_path / "killed", 500, kill_at=kill_at) is None
    assert trained.train(tmp_path / "killed", 500) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")
    resumed = json.loads((tmp_path / "killed" / "config.json").read_text())["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, True]


def test_a_run_of_many_interruptions(tmp_path: Path) -> None:
    trained = Trained(env="CartPole-v1", num_envs=3)
    assert trained.train(tmp_path / "whole", 900) is not None
    for _ in range(12):  # at each attempt a little further than the newest checkpoint
        assert trained.train(tmp_path / "killed", 900, kill_at=31) is None
    assert trained.train(tmp_path / "killed", 900) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")


SHORT = dataclasses.replace(PROTOCOLS["sticky"], max_frames=400)


@pytest.mark.parametrize(
    ("env", "protocol"), [("ALE/Pong-v5", SHORT), ("ALE/Breakout-v5", "nature"), ("ALE/Qbert-v5", SHORT)]
)
def test_an_atari_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, protocol: Protocol | str
) -> None:
    """With sticky actions, no-op draws, lost lives, truncations, several anchors, and a ring that was overwritten."""
    monkeypatch.setattr("pixelq.envs.anchors.ANCHOR_EVERY", 120)
    monkeypatch.setattr("pixelq.agents.replay_files.BLOCK_BYTES", 2**19)
    config = dataclasses.replace(TINY, encoder="nature", train_every=30, prioritized=True, replay_capacity=600)
    trained = Trained(env, config, num_envs=3, protocol=protocol)
    options = {"evaluate_every": 800, "evaluation_episodes": 1, "checkpoint_every": 250, "log_every": 100}
    assert trained.train(tmp_path / "whole", 1_600, **options) is not None
    for kill_at in (300, 200):
        assert trained.train(tmp_path / "killed", 1_600, kill_at=kill_at, **options) is None
    agent = trained.train(tmp_path / "killed", 1_600, **options)
    assert agent is not None
    assert agent.episodes > 3
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert len(list((tmp_path / "whole" / "checkpoints" / "replay").iterdir())) > 3
