"""Run folders of strangers and in bad company: links out of them, missing pointers, a lost lock, false sizes."""

import dataclasses
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelq.agents import DQN, InvalidCheckpoint, InvalidRun, RunUnwritable
from pixelq.agents.evaluation.scoring import checkpoints_of, mark_of
from pixelq.agents.runs.checkpoints import RunCheckpoints, newest_checkpoint
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.storage import files
from pixelq.agents.storage.checkpoint import read_description, read_run_arrays, unpack_tensors
from pixelq.agents.storage.checkpoint_files import find_checkpoint
from pixelq.agents.storage.pointers import checkpoint_folder, step_folders, step_of
from pixelq.agents.training.recorder import RunWriter
from pixelq.envs import make_vec
from tests.support.runs import contents, copied, run_here
from tests.support.small_agents import seal
from tests.training.test_resume import OPTIONS, TINY, Trained

ID = "pixelq/Catch-v0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 300 steps, whose replay of 200 has been filled."""
    out = tmp_path_factory.mktemp("stranger") / "run"
    trained = Trained(config=dataclasses.replace(TINY, replay_capacity=200))
    assert trained.train(out, 300, evaluate_every=100) is not None
    return out


def go_on(out: Path, steps: int = 40, **options: Any) -> DQN:
    agent = DQN.load(checkpoint_folder(out / "checkpoints" / "latest"), "cpu")
    return agent.learn(make_vec(ID, 2, 0), steps, out, resume=True, **(OPTIONS | options))


# --- pointers ---------------------------------------------------------------------------------------------------------


def test_a_run_without_its_pointers_keeps_its_best(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    for name in ("best", "latest"):
        (out / "checkpoints" / name).unlink()
    first, *_, last = step_folders(out / "checkpoints")
    rows = (out / "evaluations.csv").read_text().splitlines()
    rows.insert(1, f"{step_of(first)},3,99.0,99.0,0.0,99.0,99.0,")
    (out / "evaluations.csv").write_text("\n".join([*rows, ""]))
    assert find_checkpoint(out) == first
    assert checkpoints_of(out, "both") == [first, last]
    assert (mark_of(first), mark_of(last)) == ("best", "last")
    agent = go_on(out, keep=1, checkpoint_every=10)
    assert step_folders(out / "checkpoints") == [first, out / "checkpoints" / f"step_{agent.step:010d}"]
    assert (out / "checkpoints" / "best").read_text() == f"{first.name}\n"
    assert find_checkpoint(out) == first


def test_a_copy_of_the_best_becomes_a_pointer_again(run: Path, tmp_path: Path) -> None:
    """In an older version's run that was copied with its links followed."""
    out = copied(run, tmp_path / "run")
    pointer, best = out / "checkpoints" / "best", find_checkpoint(out)
    pointer.unlink()
    shutil.copytree(best, pointer)
    go_on(out, keep=1, checkpoint_every=10)
    assert pointer.read_text() == f"{best.name}\n"
    assert best in step_folders(out / "checkpoints")


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    trained = Trained()
    assert trained.train(tmp_path / "run", 100, evaluate_every=50, keep=1) is not None
    agent = trained.train(tmp_path / "run", 200, evaluate_every=50, keep=1)
    assert agent is not None
    assert step_of(checkpoint_folder(tmp_path / "run" / "checkpoints" / "latest")) == agent.step >= 200


# --- links ------------------------------------------------------------------------------------------------------------

READ = ("config.json", "metrics.csv", "evaluations.csv", "progress.json")
WRITTEN = ("final_evaluation.json", "curve.png", "scores.json", "checkpoints/latest", "checkpoints/best")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """Neither the files that a run replaces nor those that it writes first under another name."""
    out, outside = tmp_path / "run", tmp_path / "outside"
    command = ["--env", ID, "--preset", "quick_dqn", "--num-envs", "2", "--device", "cpu"]
    command += ["--evaluation-episodes", "1", "--final-episodes", "1"]
    command += ["--checkpoint-every", "50", "--agent.hidden", "8", "--agent.replay-capacity", "200", "--out", str(out)]
    assert run_here(["train", *command, "--steps", "100"]).code == 0
    outside.mkdir()
    for name in READ:
        shutil.move(out / name, outside / name)
        (out / name).symlink_to(outside / name)
    for name in (*WRITTEN, *(f"{name.rpartition('/')[0]}/.{Path(name).name}.partial" for name in (*READ, *WRITTEN))):
        name = name.removeprefix("/")
        (outside / Path(name).name).write_text("mine")
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(outside / Path(name).name)
    before = contents(outside) | {name: (outside / name).read_bytes() for name in READ}
    ended = run_here(["train", "--resume", "--out", str(out), "--steps", "200", "--device", "cpu"])
    assert ended.code == 0, ended.err
    ended = run_here(["evaluate", str(out), "--episodes", "1", "--device", "cpu", "--json", str(out / "scores.json")])
    assert ended.code == 0, ended.err
    assert contents(outside) | {name: (outside / name).read_bytes() for name in READ} == before
    assert json.loads((out / "scores.json").read_text())["episodes"] == 1
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not any((out / name).is_symlink() for name in (*READ, *WRITTEN))


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/replay", ".lock"])
def test_a_folder_that_leads_out_of_the_run_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    out = copied(run, tmp_path / "run")
    if (out / name).exists():
        (out / name).rename(tmp_path / "outside")
    (out / name).symlink_to(tmp_path / "outside")
    before = contents(tmp_path)
    with pytest.raises(InvalidRun, match=f"{name} must not be a link; put what it leads to in its place"):
        go_on(out)
    assert contents(tmp_path) == before


def test_a_lock_that_is_a_file_of_someone_else_is_refused(run: Path, tmp_path: Path) -> None:
    out = copied(run, tmp_path / "run")
    (tmp_path / "precious").write_text("mine")
    (out / ".lock").unlink(missing_ok=True)
    (out / ".lock").hardlink_to(tmp_path / "precious")
    with pytest.raises(InvalidRun, match=r"\.lock must not be a hard link to another file; remove it"):
        go_on(out)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_that_cannot_be_read_loses_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(run, tmp_path / "run")
    (out / "checkpoints" / "replay").mkdir(exist_ok=True)
    block = out / "checkpoints" / "replay" / "rows_000000000010.zst"
    block.write_bytes(b"rows")
    agent = DQN.load(out, "cpu")
    checkpoints = RunCheckpoints(out / "checkpoints", agent.make_replay(2, 1), keep=1)
    writer = RunWriter(agent, None, None)
    writer.folder = RunFolder(out, resume=True)

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).startswith(str(out / "checkpoints")):
                raise PermissionError(13, "Permission denied")
            return call(path, *arguments, **options)

        return refuse

    said = r"can no longer be written \(Permission denied\), at step [0-9]+; `resume=True` continues when it can$"
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refusing(os.listdir))
        with pytest.raises(InvalidCheckpoint, match=r"checkpoints cannot be read \(Permission denied\)"):
            newest_checkpoint(out / "checkpoints", pytest.fail)
        patch.setattr(os, "stat", refusing(os.stat))  # also where the error's sentence is made
        with pytest.raises(InvalidCheckpoint, match="no checkpoint in"):
            find_checkpoint(out)
        with pytest.raises(RunUnwritable, match=said), writer.writing():
            checkpoints._remove_old()
    writer.folder.close()
    assert block.exists()


# --- the lock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: files.replace_file(path, b"")])
def test_a_run_whose_lock_is_gone_writes_no_more(tmp_path: Path, lose: Callable[[Path], Any]) -> None:
    out, envs = tmp_path / "run", make_vec(ID, 2, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu")
    calls, recv, before = 0, envs.recv, dict[str, Any]()

    def losing() -> Any:
        nonlocal calls
        calls += 1
        if calls == 60:
            lose(out / ".lock")
            before.update(contents(out))
        return recv()

    envs.recv = losing
    said = (
        r"\.lock was deleted or replaced, or its folder moved, .* continues when no other process writes there.*latest"
    )
    with pytest.raises(RunUnwritable, match=said):
        agent.learn(envs, 300, out, **OPTIONS)
    after = contents(out)
    before.pop(".lock", None)
    assert {name: after[name] for name in before} == before
    assert 110 < agent.step < 150  # at the next row or checkpoint


# --- sizes ------------------------------------------------------------------------------------------------------------


def tensors(**lengths: int) -> bytes:
    """The beginning of a safetensors file with byte tensors of these lengths."""
    header, end = {}, 0
    for name, length in lengths.items():
        header[name] = {"dtype": "U8", "shape": [length], "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.fixture
def hollow(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a file of a checkpoint one of 3 GB that takes no room on the disk, and whose checksum is right."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_folder(run / "checkpoints" / "latest"), folder)
    beginning = tensors(x=3 * 2**30)

    def make(name: str) -> Path:
        (folder / name).write_bytes(beginning)
        os.truncate(folder / name, len(beginning) + 3 * 2**30)
        digest_of_file = files.digest_of_file
        known = files.read_checksums(folder)[name]
        monkeypatch.setattr(
            files, "digest_of_file", lambda path: known if path.name == name else digest_of_file(path)
        )  # which takes seconds for 3 GB
        return folder

    return make


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, most: int | None = None) -> bytes:
        with files.open_regular(path) as (file, size):
            if most is not None and size > most:
                raise OSError(27, f"more than {most:,} bytes")
            assert size < 2**30, path
            return file.read(size)

    monkeypatch.setattr(files, "read_regular", read)


@pytest.mark.usefixtures("_little_memory")
def test_files_larger_than_the_agent_are_not_read(hollow: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"does not describe an agent of this version: \S+ is missing"):
        DQN.load(hollow("network.safetensors"), "cpu")


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("name", ["learner.safetensors", "agent.json"])
def test_other_files_have_a_limit(hollow: Callable[[str], Path], name: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"more than [0-9,]+ bytes"):
        DQN.load(hollow(name), "cpu")


@pytest.mark.usefixtures("_little_memory")
def test_the_arrays_of_a_run_have_a_limit(hollow: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidCheckpoint, match="more than 268,435,456 bytes"):
        read_run_arrays(hollow("run.safetensors"), 2**28)


def test_a_file_must_have_the_size_that_it_claims(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_folder(run / "checkpoints" / "latest"), folder)
    path = folder / "network.safetensors"
    size = path.stat().st_size
    os.truncate(path, size + 2**20)
    seal(folder)
    with pytest.raises(InvalidCheckpoint, match=f"it claims {size:,} bytes and has {size + 2**20:,}"):
        read_description(folder)


def test_too_many_tensors_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tensors(**{str(number): 0 for number in range(30_000)})
    monkeypatch.setattr("safetensors.torch.load", pytest.fail)
    with pytest.raises(InvalidCheckpoint, match=f"its header claims {len(data) - 8:,} bytes"):
        unpack_tensors(Path("x"), data)


@pytest.mark.parametrize("parts", [{}, {"prioritized": True}])
def test_a_capacity_that_cannot_be_takes_no_memory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any]
) -> None:
    out, said = copied(run, tmp_path / "run"), "of 1[0-9]+ time steps it has only those from [0-9]+ on"
    if parts:  # of which the tree tells, also before the replay is full
        shutil.rmtree(out)
        assert Trained(config=dataclasses.replace(TINY, **parts)).train(out, 70) is not None
        said = "it has the priorities of at most 416 rows"
    for path in (out / "config.json", *(out / "checkpoints").glob("step_*/agent.json")):
        values = json.loads(path.read_text())
        values["agent" if "agent" in values else "config"]["replay_capacity"] = 10**8
        path.write_text(json.dumps(values))
        if path.name == "agent.json":
            seal_agent(path.parent)
    monkeypatch.setattr("pixelq.agents.agent.make_replay", pytest.fail)
    with pytest.raises(InvalidCheckpoint, match=f"does not fit a replay of 100,000,000 rows: {said}"):
        go_on(out)


def seal_agent(checkpoint: Path) -> None:
    """Corrects the checksum of agent.json alone, since a run's checkpoint has those of its blocks too."""
    path = checkpoint / files.CHECKSUMS
    lines = [line for line in path.read_text().splitlines() if not line.endswith("  agent.json")]
    lines.append(f"{files.digest_of_file(checkpoint / 'agent.json')}  agent.json")
    path.write_text("\n".join([*lines, ""]))


def test_weights_are_the_same_with_and_without_the_check(run: Path) -> None:
    state, shapes = read_description(find_checkpoint(run))
    network = DQN.load(run, "cpu").network.state_dict()
    assert state["config"]["hidden"] == 8
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in shapes.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in network.items()
    }
    assert all(tensor.device == torch.device("meta") for tensor in shapes.values())
