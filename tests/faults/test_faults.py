"""Runs that are killed, at whatever moment: they can be resumed, and then are the runs that were never stopped."""

import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelq.agents import DQN
from pixelq.agents.runs.checkpoints import newest_checkpoint
from pixelq.agents.storage.pointers import checkpoint_folder, step_of
from tests.support.cases import representative
from tests.support.runs import (
    AT_THE_END,
    BLOCKS,
    COMPLETED,
    DIED,
    Child,
    Harness,
    assert_same,
    copied,
    train,
    unfinished,
)

SEED = 20


def go_on(out: Path, harness: Harness, fresh: list[str], patches: dict[str, Any]) -> Child:
    """Starts a run, or resumes it once its folder has a configuration, as whoever sees it killed would."""
    if (out / "config.json").exists():
        return harness.start(train(out, resume=True), patches)
    if out.exists():
        ended = harness.run(train(out, resume=True), patches)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended
        assert "; leave out --resume to start one" in ended.err
    return harness.start(fresh, patches)


def caught(out: Path) -> str:
    """At what a run was killed, by what lies in its folder."""
    if not (out / "config.json").exists():
        return "before config.json"
    if not (out / "checkpoints" / "latest").exists():
        return "before the first checkpoint"
    if any(path.suffix == ".partial" for path in unfinished(out)):
        return "writing"
    if any(path.suffix == ".removed" for path in unfinished(out)):
        return "removing"
    newest = max(path.name for path in (out / "checkpoints").glob("step_*"))
    return "between" if checkpoint_folder(out / "checkpoints" / "latest").name != newest else "elsewhere"


def resumptions(out: Path) -> list[dict[str, Any]]:
    """How often a run went on from a checkpoint, and whether exactly."""
    entries: list[dict[str, Any]] = json.loads((out / "config.json").read_text())["resumed"]
    return entries


def await_checkpoint(out: Path, seconds: float) -> None:
    """Waits until a run begins to write or to remove a checkpoint, or for so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if any(name.startswith(".") for name in os.listdir(out / "checkpoints")):
                return
        time.sleep(0.0005)


def kill_often(
    harness: Harness, folder: Path, whole: Path, fresh: Any, kills: int, longest: float, patches: dict[str, Any]
) -> Counter[str]:
    """Kills runs at random moments, and compares each that comes to its end nevertheless, the last in any case.

    Args:
        harness: that runs them.
        folder: for the runs.
        whole: the run that they are compared with.
        fresh: a folder's command line.
        kills: how many in all.
        longest: seconds that an attempt may take.
        patches: of the runs.

    Returns:
        how many kills hit what.
    """
    draw, counts, runs, resumed = random.Random(SEED), Counter[str](), 0, list[dict[str, Any]]()
    out = folder / "run-0"
    while counts.total() < kills:
        child = go_on(out, harness, fresh(out), patches)
        time.sleep(draw.uniform(0, longest) if draw.random() < 0.8 else draw.uniform(0, 0.1))
        if draw.random() < 0.3:  # of a fast disk, chance alone would hit too few checkpoints
            await_checkpoint(out, longest)
        child.send(signal.SIGKILL)
        ended = child.wait()
        where = f"seed {SEED}, kill {counts.total()}, {out}: {ended}"
        assert "Traceback" not in ended.err, where
        if ended.code == 0 or "has taken" in ended.err:  # it was faster, or the one before it that was killed
            assert_same(whole, out)
            resumed += resumptions(out)
            runs += 1
            out = folder / f"run-{runs}"
            continue
        assert ended.code == -signal.SIGKILL, where
        counts[caught(out)] += 1
    ended = go_on(out, harness, fresh(out), patches).wait()
    assert ended.code == 0, f"seed {SEED}, the end: {ended}"
    assert_same(whole, out)
    resumed += resumptions(out)
    assert resumed  # not of each run: one may have been killed before its first checkpoint only
    assert all(entry["exact"] for entry in resumed), resumed
    return counts


def test_kills(harness: Harness, whole: Path, tmp_path: Path) -> None:
    """Kill less often than the next test does, at moments over the whole time that a run takes."""
    begun, ended = ((whole / name).stat().st_mtime for name in ("config.json", "final_evaluation.json"))
    kill_often(harness, tmp_path, whole, train, 5, ended - begun, BLOCKS)


@pytest.mark.slow
def test_a_hundred_kills(harness: Harness, whole: Path, tmp_path: Path) -> None:
    counts = kill_often(harness, tmp_path, whole, train, 100, 0.9, BLOCKS)
    assert counts["writing"] + counts["between"] + counts["removing"] >= 10, counts
    assert counts["before config.json"] + counts["before the first checkpoint"] >= 2, counts


PONG = {"env": "ALE/Pong-v5", "steps": 160, "checkpoint_every": 20, "evaluate_every": 1_000, "log_every": 50}
PONG |= {"evaluation_episodes": 1, "final_episodes": 1, "agent.train_every": 20, "agent.encoder": "minatar"}


PONG_PATCHES = {"pixelq.envs.anchors.ANCHOR_EVERY": 60, "pixelq.agents.runs.replay_files.BLOCK_BYTES": 2**18}


@pytest.mark.slow
def test_a_kill_of_an_atari_run(harness: Harness, tmp_path: Path) -> None:
    """With environments that are put back from an anchor and the actions since."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert harness.run(train(whole, **PONG), PONG_PATCHES).code == 0
    child = harness.start(train(out, **PONG), PONG_PATCHES)
    while latest_step(out) < 80:
        time.sleep(0.001)
    child.send(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    assert harness.run(train(out, resume=True), PONG_PATCHES).code == 0
    assert_same(whole, out)
    assert [entry["exact"] for entry in resumptions(out)] == [True]


@pytest.mark.slow
def test_kills_of_an_atari_run(harness: Harness, tmp_path: Path) -> None:
    def short(out: Path) -> list[str]:
        return train(out, **PONG)

    begun = time.monotonic()
    assert harness.run(short(tmp_path / "whole"), PONG_PATCHES).code == 0
    kill_often(harness, tmp_path, tmp_path / "whole", short, 5, time.monotonic() - begun, PONG_PATCHES)


# --- between any two changes of the disk ------------------------------------------------------------------------------


def litter(run: Path) -> None:
    """Leaves in a run what crashes leave: a damaged checkpoint, and some that were being written or removed."""
    newest = checkpoint_folder(run / "checkpoints" / "latest")
    for name in ("step_0000000119", ".step_0000000118.partial", ".step_0000000003.removed", ".step_0000000002.removed"):
        copied(newest, newest.with_name(name))
    (newest.with_name("step_0000000119") / "rows.zst").write_bytes(b"")
    (newest.parent / "latest").unlink()
    (newest.parent / "latest").symlink_to("step_0000000119")  # as in older versions
    (newest.parent / ".best.partial").symlink_to(newest.name)
    (newest.parent / ".pixelq-0123456789abcdef.partial").write_text("step_00")
    (newest.parent / "replay" / ".pixelq-0123456789abcdef.partial").write_bytes(b"half a block")
    (run / ".pixelq-0123456789abcdef.partial").write_text("{")
    (newest.parent / "replay" / "rows_000000999999.zst").write_bytes(b"of a checkpoint that is no more")


@pytest.mark.parametrize(
    ("method", "call", "least"),
    [
        ("RunCheckpoints.write", 4, 42),  # there are some to be removed, and new blocks to be written
        ("RunCheckpoints.point", 2, 4),
        pytest.param("RunCheckpoints.forget_after", 1, 30, marks=pytest.mark.slow),
        ("RunFolder.begin", 1, 10),
        ("RunCheckpoints.write", 18, 35),  # the last, at the last step
        ("train.plot_run", 1, 1),  # what is written after it
        pytest.param("train.replace_file", 1, 4, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("stride", representative([1, 20], keep=[20]))
def test_a_crash_between_any_two_changes_of_the_disk(
    harness: Harness, whole: Path, stopped: Path, tmp_path: Path, method: str, call: int, least: int, stride: int
) -> None:
    out, found = tmp_path / "run", set()
    for at in itertools.count(1, stride):
        litter(copied(stopped, out))
        ended = harness.run(train(out, resume=True), BLOCKS, ["die_in", {"method": method, "at": at, "call": call}])
        if ended.code == COMPLETED:
            break
        assert ended.code == DIED, ended.err
        newest = newest_checkpoint(out / "checkpoints", lambda line: None)
        assert newest is not None, at
        found.add(newest.name)
        assert checkpoint_folder(out / "checkpoints" / "latest").is_dir(), at
        agent = DQN.load(newest, "cpu")
        assert newest.name == f"step_{agent.step:010d}"
        assert all(torch.isfinite(weight).all() for weight in agent.network.parameters())
        if at % 5 == 1:
            ended = harness.run(train(out, resume=True), BLOCKS)
            assert ended.code == 0, f"{method}, change {at}: {ended.err}"
            assert_same(whole, out)
    assert at > least
    assert len(found) == (2 if method == "RunCheckpoints.write" else 1)  # the one before and the one that was written


@pytest.mark.parametrize("stride", representative([1, 8], keep=[8]))
def test_a_crash_between_any_two_changes_as_a_run_begins(
    harness: Harness, whole: Path, tmp_path: Path, stride: int
) -> None:
    for at in itertools.count(1, stride):
        out = tmp_path / str(at)
        ended = harness.run(train(out), BLOCKS, ["die_in", {"method": "RunFolder.begin", "at": at}])
        if ended.code == COMPLETED:
            break
        assert ended.code == DIED, ended.err
        ended = go_on(out, harness, train(out), BLOCKS).wait()
        assert ended.code == 0, f"change {at}: {ended.err}"
        assert_same(whole, out)
    assert at > 10


# --- SIGTERM ----------------------------------------------------------------------------------------------------------


def latest_step(out: Path) -> int:
    latest = out / "checkpoints" / "latest"
    return step_of(checkpoint_folder(latest)) if latest.exists() else 0


def test_sigterm_stops_a_run_that_goes_on_exactly(harness: Harness, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for step in (4, 30, 60):
        child = go_on(out, harness, train(out), BLOCKS)
        while latest_step(out) < step:
            time.sleep(0.001)
        sent = time.monotonic()
        child.send(signal.SIGTERM)
        ended = child.wait(timeout=10.0)
        assert time.monotonic() - sent < 10.0
        assert ended.code == 143, ended
        assert "Traceback" not in ended.err
        assert unfinished(out) == []
        assert f"stopped at step {latest_step(out)}; resume the run to continue" in ended.err
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


@pytest.mark.parametrize("evaluation", representative([1, 3], keep=[3]))
def test_sigterm_in_an_evaluation(harness: Harness, whole: Path, tmp_path: Path, evaluation: int) -> None:
    out = tmp_path / "run"
    ended = harness.run(train(out), BLOCKS, ["stop_in_evaluation", {"number": 15, "evaluation": evaluation}])
    assert (ended.code, "Traceback" in ended.err) == (143, False), ended
    assert latest_step(out) // 10 == (5, 10, 12)[evaluation - 1]  # where the evaluation is
    assert len((out / "evaluations.csv").read_text().splitlines()) == evaluation  # and the header
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


def test_sigterm_in_the_evaluation_that_ends_a_training(harness: Harness, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = harness.run(train(out), BLOCKS, ["stop_before", AT_THE_END | {"number": 15}])
    assert (ended.code, "Traceback" in ended.err) == (143, False), ended
    assert not (out / "final_evaluation.json").exists()
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)


# --- two processes ----------------------------------------------------------------------------------------------------


def test_a_run_is_one_process_s_until_it_is_killed(harness: Harness, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = harness.start(train(out), BLOCKS)
    first.wait_for(out / "checkpoints" / "latest")
    first.send(signal.SIGSTOP)
    ended = harness.run(train(out, resume=True), BLOCKS)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert f"pixelq train: {out} is in use by another process; wait for it, or stop it" in ended.err
    ended = harness.run(train(out), BLOCKS)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    assert harness.run(train(out, resume=True), BLOCKS).code == 0
    assert_same(whole, out)
