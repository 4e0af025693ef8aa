"""What goes wrong in training itself: the clock, the loss, the environments."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from pixelq.agents import DQN
from pixelq.agents.runs.checkpoints import newest_checkpoint
from pixelq.agents.storage.pointers import checkpoint_folder
from tests.support.cases import representative
from tests.support.runs import BLOCKS, Harness, assert_same, column, run_here, train


def metric(run: Path, name: str) -> list[Any]:
    return column(run / "metrics.csv", name)


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_backwards(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(1.8e9, -3_600.0)
    monkeypatch.setattr(time, "time", lambda: next(hours))
    monkeypatch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", *BLOCKS.values())
    ended = run_here(train(tmp_path / "run"))
    assert ended.code == 0, ended.err
    assert next(hours) < 1.8e9 - 24 * 3_600  # it was asked
    seconds = metric(tmp_path / "run", "wall_seconds")
    assert 0.0 <= seconds[0] <= seconds[-1] < 600.0
    assert seconds == sorted(seconds)
    assert all(0.0 < speed < 1e6 for speed in metric(tmp_path / "run", "steps_per_second"))
    assert_same(whole, tmp_path / "run")


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("update", "kept"), [(1, 20), (20, 76)])
def test_a_run_goes_on_from_before_a_loss_that_was_not_a_number(
    harness: Harness, whole: Path, tmp_path: Path, update: int, kept: int
) -> None:
    out = tmp_path / "run"
    ended = harness.run(train(out), BLOCKS, ["spoil_loss", {"update": update}])
    assert ended.code == 1, ended
    said = ended.err.splitlines()[-1]
    step = 20 + 2 * -(-3 * update // 2)
    assert said.startswith(
        f"pixelq train: the loss became nan at step {step}; try another run with a lower learning_rate"
    )
    assert said.endswith(f"; the last good checkpoint is {out / 'checkpoints' / 'latest'}")
    newest = newest_checkpoint(out / "checkpoints", pytest.fail)
    assert newest == checkpoint_folder(out / "checkpoints" / "latest")
    agent = DQN.load(newest, "cpu")
    assert agent.step == kept
    tensors = agent.network.state_dict() | agent.learner.tensors()
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    ended = harness.run(train(out, resume=True), BLOCKS)
    assert ended.code == 0, ended.err
    assert_same(whole, out)


# --- the environments -------------------------------------------------------------------------------------------------


class Failing(gymnasium.Env[Any, Any]):
    """Episodes of 7 steps; the steps of all its instances are counted together, and some of them fail."""

    observation_space, action_space = Box(-1.0, 1.0, (3,), np.float32), Discrete(2)
    steps = 0
    fails_at: frozenset[int] = frozenset()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 7
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        Failing.steps += 1
        self.left -= 1
        if Failing.steps in Failing.fails_at:
            raise OSError("the simulator\nis gone")
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action), self.left == 0, False, {}


gymnasium.register("tests/Failing-v0", lambda **_: Failing())


@pytest.fixture(autouse=True)
def _no_failures() -> Iterator[None]:
    Failing.steps, Failing.fails_at = 0, frozenset()
    yield
    Failing.steps, Failing.fails_at = 0, frozenset()


def failing(out: Path) -> list[str]:
    """A training without evaluations before its end."""
    return train(out, env="tests/Failing-v0", steps=200, evaluate_every=10**9, log_every=10)


@pytest.mark.parametrize("at", representative([1, 2, 7, 90], keep=[2]))
def test_an_environment_that_fails_is_made_anew(tmp_path: Path, at: int) -> None:
    out = tmp_path / "run"
    Failing.fails_at = frozenset({at})
    ended = run_here(failing(out))
    assert ended.code == 0, ended.err
    restarts = metric(out, "restarts")
    first = next(i for i, count in enumerate(restarts) if count)
    assert restarts == [0.0] * first + [1.0] * (len(restarts) - first)
    assert first == (at - 1) // 10
    (said,) = (line for line in ended.err.splitlines() if "failed" in line)
    assert said.startswith("'tests/Failing-v0' failed: OSError: the simulator, at step ")
    assert said.endswith("; the environments are created again, once")
    lengths = metric(out, "length_mean")
    assert {length for length in lengths if length is not None} == {7.0}  # no episode is whole that was cut
    assert all(np.isfinite(metric(out, "loss")[3:]))
    agent = DQN.load(out / "checkpoints" / "latest", "cpu")
    assert 200 <= agent.step <= 201
    assert agent.updates == (agent.step - 20) // 3


@pytest.mark.slow
def test_a_second_failure_ends_the_run_also_when_it_was_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    Failing.fails_at = frozenset({60, 120})
    ended = run_here(failing(out))
    assert ended.code == 1
    said = ended.err.splitlines()[-1]
    assert said.startswith("pixelq train: 'tests/Failing-v0' failed: OSError: the simulator, at step 1")
    assert said.endswith(f"; the last good checkpoint is {out / 'checkpoints' / 'latest'}")
    assert "Traceback" not in ended.err
    assert metric(out, "restarts")[-1] == 1.0
    stopped = DQN.load(out / "checkpoints" / "latest", "cpu").step
    assert 110 <= stopped <= 120

    Failing.fails_at = frozenset({Failing.steps + 100})  # the steps since the anchors are played again first
    ended = run_here(train(out, resume=True))
    assert ended.code == 1, ended.err
    assert "failed: OSError: the simulator" in ended.err.splitlines()[-1]
    assert DQN.load(out / "checkpoints" / "latest", "cpu").step > stopped

    ended = run_here(train(out, resume=True))
    assert ended.code == 0, ended.err
    assert metric(out, "restarts")[-1] == 1.0
    resumed = json.loads((out / "config.json").read_text())["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, True]


@pytest.mark.slow
def test_an_evaluation_that_fails_is_played_again(tmp_path: Path) -> None:
    """Its games have a seed of their own, so it ends as if nothing had happened; so does the training beside it."""
    flags: dict[str, Any] = {"env": "tests/Failing-v0", "steps": 200, "evaluate_every": 100, "log_every": 10}
    assert run_here(train(tmp_path / "whole", **flags)).code == 0
    Failing.steps, Failing.fails_at = 0, frozenset({105})  # after the 100 of training
    ended = run_here(train(tmp_path / "failed", **flags))
    assert ended.code == 0, ended.err
    assert "the environments are created again, once" in ended.err
    assert "at step 100; the environments" in ended.err
    assert metric(tmp_path / "failed", "restarts") == [0.0] * 10 + [1.0] * 10
    evaluations = [(tmp_path / run / "evaluations.csv").read_text() for run in ("whole", "failed")]
    assert evaluations[0] == evaluations[1]
    latest = [checkpoint_folder(tmp_path / run / "checkpoints" / "latest") for run in ("whole", "failed")]
    network, same = (folder / "network.safetensors" for folder in latest)
    assert network.read_bytes() == same.read_bytes()

    Failing.steps, Failing.fails_at = 0, frozenset({105, 110})
    ended = run_here(train(tmp_path / "ended", **flags))
    assert ended.code == 1
    latest = tmp_path / "ended" / "checkpoints" / "latest"
    assert ended.err.splitlines()[-1].endswith(f"at step 100; the last good checkpoint is {latest}")


def test_a_run_with_a_failure_goes_on_exactly(tmp_path: Path) -> None:
    """What an environment failed at is forgotten: the episodes that were cut, and the transition under way."""
    Failing.fails_at = frozenset({60})
    assert run_here(failing(tmp_path / "whole")).code == 0
    Failing.steps, Failing.fails_at = 0, frozenset({60, 110})
    assert run_here(failing(tmp_path / "stopped")).code == 1
    Failing.fails_at = frozenset()
    assert run_here(train(tmp_path / "stopped", resume=True)).code == 0
    assert_same(tmp_path / "whole", tmp_path / "stopped")
