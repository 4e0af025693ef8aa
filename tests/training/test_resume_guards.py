"""What resuming refuses, so that nothing of a run is lost, and what it takes in its stride."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelq.agents import DQN, InvalidCheckpoint, InvalidRun
from pixelq.agents.runs.checkpoints import newest_checkpoint
from pixelq.agents.runs.machine import arithmetic, changes_of_arithmetic
from pixelq.agents.storage.checkpoint_files import find_checkpoint
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.envs import make_vec
from tests.support.cases import representative
from tests.support.runs import AT_THE_END, BLOCKS, Harness, assert_same, contents, copied, run_here, train
from tests.training.test_resume import OPTIONS, TINY, Trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 500 steps, with three checkpoints and the best, which is none of these or one."""
    out = tmp_path_factory.mktemp("guards") / "run"
    assert Trained().train(out, 500) is not None
    return out


def steps_of(out: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (out / "checkpoints").glob("step_*"))


def learn(agent: DQN, out: Path, steps: int = 60, env: str = "pixelq/Catch-v0", **options: Any) -> DQN:
    envs = make_vec(env, 2, 0)
    return agent.learn(envs, steps, out, resume=True, **(OPTIONS | options))


def new_agent(seed: int = 5, steps: int = 0) -> DQN:
    envs = make_vec("pixelq/Catch-v0", 2, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu", seed=seed)
    return agent.learn(envs, steps) if steps else agent


# --- another agent ----------------------------------------------------------------------------------------------------


def refused_and_unchanged(out: Path, go_on: Callable[[], Any], error: type[Exception], message: str) -> None:
    before = contents(out)
    with pytest.raises(error, match=message):
        go_on()
    assert contents(out) == before


def test_a_new_agent_does_not_write_over_a_run(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    message = "the agent is at step 0, but its run has come further; load the agent from"
    refused_and_unchanged(out, lambda: learn(new_agent(), out), InvalidCheckpoint, message)


def test_an_older_checkpoint_does_not_throw_away_newer_ones(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    first, *_, last = steps_of(out)
    agent = DQN.load(out / "checkpoints" / f"step_{first:010d}", "cpu")
    message = f"at step {first}, but its run has come further; .*step_{last:010d}"
    refused_and_unchanged(out, lambda: learn(agent, out), InvalidCheckpoint, message)
    assert learn(DQN.load(out / "checkpoints" / "latest", "cpu"), out).step >= last + 60


def test_an_agent_of_the_same_step_is_not_the_run_s(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    last = steps_of(out)[-1]
    other = new_agent(steps=300)
    other.step, other.env_id, other.protocol = last, "pixelq/Catch-v0", "gymnasium"
    refused_and_unchanged(out, lambda: learn(other, out), InvalidCheckpoint, "the agent is not the one in")
    other = DQN.load(out / "checkpoints" / "latest", "cpu")
    other.seed = 6
    refused_and_unchanged(out, lambda: learn(other, out), InvalidRun, "seed must be 5 as in the run in .*, got 6")


def test_another_environment_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert Trained(env="CartPole-v1").train(out, 300) is not None
    agent = DQN.load(out / "checkpoints" / "latest", "cpu")
    message = "env must be 'CartPole-v1' as in the run in .*, got 'CartPole-v0'"
    refused_and_unchanged(out, lambda: learn(agent, out, env="CartPole-v0"), InvalidRun, message)


def test_what_a_run_said_of_itself_is_kept(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"preset": "classic", "final_episodes": 7}))
    learn(DQN.load(out / "checkpoints" / "latest", "cpu"), out)
    now = json.loads((out / "config.json").read_text())
    assert (now["preset"], now["final_episodes"], now["steps"]) == ("classic", 7, 560)


# --- another machine --------------------------------------------------------------------------------------------------


def test_another_processor_is_told_of(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(run, tmp_path / "run")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SSE")
    learn(DQN.load(out / "checkpoints" / "latest", "cpu"), out)
    (entry,) = json.loads((out / "config.json").read_text())["resumed"]
    assert entry["exact"] is False
    assert entry["why_not"].startswith("processor was ")
    assert entry["why_not"].endswith(", SSE")


def test_libraries_that_compute_otherwise_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    before = json.loads(json.dumps(arithmetic(device)))
    assert changes_of_arithmetic(before, device) == []
    monkeypatch.setenv("MKL_VERBOSE", "1")  # changes no sum
    assert changes_of_arithmetic(before, device) == []
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert changes_of_arithmetic(before, device) == ["ONEDNN_MAX_CPU_ISA was not set and is SSE41"]
    now = arithmetic(device)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert changes_of_arithmetic(now, device) == ["ONEDNN_MAX_CPU_ISA was SSE41 and is not set"]
    with torch.backends.mkldnn.flags(enabled=False):
        assert changes_of_arithmetic(before, device) == ["oneDNN was on and is off"]
    old = {name: before[name] for name in ("device", "processor", "PyTorch", "threads")}  # as version 0.1 wrote it
    assert changes_of_arithmetic(old, device) == []
    changes = changes_of_arithmetic(before, device, is_compiled=True)
    assert changes == ["compile_update was False and is True"]
    assert changes_of_arithmetic(old | {"threads": 99}, device) == [f"threads was 99 and is {before['threads']}"]


def test_a_run_that_was_copied_with_its_links_followed(
    harness: Harness, whole: Path, stopped: Path, tmp_path: Path
) -> None:
    old = copied(stopped, tmp_path / "old")
    latest = old / "checkpoints" / "latest"
    target = checkpoint_folder(latest).name
    latest.unlink()
    latest.symlink_to(target)  # as in older versions
    out = Path(shutil.copytree(old, tmp_path / "run", symlinks=False))
    assert (out / "checkpoints" / "latest").is_dir()
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


# --- what is lost -----------------------------------------------------------------------------------------------------


def test_a_run_goes_on_without_a_replay_that_is_damaged(harness: Harness, stopped: Path, tmp_path: Path) -> None:
    out = copied(stopped, tmp_path / "run")
    newest = newest_checkpoint(out / "checkpoints", pytest.fail)
    assert newest is not None
    before = DQN.load(newest, "cpu")
    block = min((out / "checkpoints" / "replay").iterdir())
    block.write_bytes(b"")
    ended = harness.run(train(out, resume=True), BLOCKS)
    assert ended.code == 0, ended.err
    name = f"../replay/{block.name}"
    assert ended.err.splitlines()[0] == (
        f"pixelq train: {newest} cannot be resumed ({name} is not what was written), nor any other checkpoint of the "
        "run; going on from it with an empty replay"
    )
    (entry,) = json.loads((out / "config.json").read_text())["resumed"]
    assert entry["exact"] is False
    assert entry["why_not"].startswith(f"an empty replay: {newest} is damaged ({name} is not what was written)")
    agent = DQN.load(out / "checkpoints" / "latest", "cpu")
    # The replay is first filled again: 20 steps, then an update for every 3.
    assert 0 < agent.updates - before.updates <= (agent.step - before.step - 20) // 3 + 1
    assert newest_checkpoint(out / "checkpoints", pytest.fail) is not None  # a whole one


def test_a_run_without_its_checkpoints_is_not_begun_again(stopped: Path, tmp_path: Path) -> None:
    out = copied(stopped, tmp_path / "run")
    shutil.rmtree(out / "checkpoints")
    before = contents(out)
    ended = run_here(train(out, resume=True))
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert f"the checkpoints of {out} are missing; restore them, or start another run in another --out" in ended.err
    assert contents(out) == before


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(path.read_bytes()[:-9]), pytest.param(Path.unlink, marks=pytest.mark.slow)],
)
def test_an_older_checkpoint_s_damage_stops_nothing(
    harness: Harness, whole: Path, stopped: Path, tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    out = copied(stopped, tmp_path / "run")
    older = out / "checkpoints" / f"step_{steps_of(out)[-2]:010d}"
    damage(older / "checksums.sha256")
    ended = harness.run(train(out, resume=True), BLOCKS)
    assert ended.code == 0, ended.err
    assert_same(whole, out)


def test_the_end_of_a_longer_run_is_evaluated_also_after_a_stop(harness: Harness, tmp_path: Path) -> None:
    """What an earlier end left in the folder does not pass for the longer one's."""
    out = tmp_path / "run"
    assert harness.run(train(out)).code == 0
    first = json.loads((out / "final_evaluation.json").read_text())
    longer = [*train(out, resume=True), "--steps", "200"]
    stop = ["stop_before", AT_THE_END | {"number": signal.SIGTERM}]
    assert harness.run(longer, {}, stop).code != 0
    assert not (out / "final_evaluation.json").exists()
    assert harness.run(longer).code == 0
    last = json.loads((out / "final_evaluation.json").read_text())
    assert last["step"] >= first["step"]
    assert DQN.load(out / "checkpoints" / "latest", "cpu").step >= 200


def test_the_last_step_of_a_run_stays_its_last_step(tmp_path: Path) -> None:
    """Also if three environments took it beyond, and only its last evaluation was missing."""
    out, envs = tmp_path / "run", make_vec("pixelq/Catch-v0", 3, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu")
    agent.learn(envs, 100, out, **OPTIONS)
    assert agent.step == 102
    before = (out / "config.json").read_text()
    assert json.loads(before)["steps"] == 100
    for steps, last in ((0, 100), (0, 100), (50, 152)):
        agent = DQN.load(out / "checkpoints" / "latest", "cpu")
        agent.learn(make_vec("pixelq/Catch-v0", 3, 0), steps, out, resume=True, **OPTIONS)
        assert json.loads((out / "config.json").read_text())["steps"] == last


# --- signals and sizes ------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_putting_back_of_games(stopped: Path, tmp_path: Path, harness: Harness) -> None:
    out = copied(stopped, tmp_path / "run")
    before = contents(out)
    child = harness.start(
        train(out, resume=True), {}, ["sleep_before", {"method": "GymnasiumVec.set_state", "call": 1, "seconds": 60}]
    )
    time.sleep(1.5)
    begun = time.monotonic()
    child.send(signal.SIGTERM)
    ended = child.wait()
    assert ended.code == 143, ended
    assert time.monotonic() - begun < 5
    assert contents(out) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    representative(
        ["config.json", "metrics.csv", "evaluations.csv", "checkpoints/latest/checksums.sha256"],
        keep=["checkpoints/latest/checksums.sha256"],
    ),
)
def test_files_of_any_size_take_no_memory(stopped: Path, tmp_path: Path, name: str) -> None:
    out = copied(stopped, tmp_path / "run")
    path = checkpoint_folder((out / name).parent) / (out / name).name
    os.truncate(path, 40 * 2**30)  # takes no room on the disk
    command = [sys.executable, "-m", "pixelq.scripts.main", *train(out, resume=True)]
    limit = 6 * 2**30

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    ended = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert "Traceback" not in ended.stderr
    if "checksums" in name:
        assert "bytes" in ended.stderr.splitlines()[0]
        assert "going back to" in ended.stderr
    else:
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended


def test_paths_that_no_file_can_have(tmp_path: Path) -> None:
    ended = run_here(["evaluate", str(tmp_path / ("x" * 300)), "--device", "cpu"])
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        find_checkpoint(tmp_path / ("x" * 300))
