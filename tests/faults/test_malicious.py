"""Files that run code where they are unpickled or evaluated: no reader of ours runs any."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import zstandard

from pixelq.agents import DQN, InvalidCheckpoint
from pixelq.agents.report.insight import insight_sections
from pixelq.agents.storage.files import CHECKSUMS, read_checksums
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.envs import InvalidEnv, make_vec, named
from pixelq.scripts.main import main
from tests.support.cases import representative
from tests.support.small_agents import seal

ROOT = Path(__file__).resolve().parents[2]
ACTING_FILES = ("agent.json", "network.safetensors", CHECKSUMS)
AGENT_FILES = (*ACTING_FILES, "learner.safetensors")


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def torch_file(marker: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": Bomb(marker)}, file)
    return file.getvalue()


def numpy_file(marker: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


KINDS: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda marker: pickle.dumps(Bomb(marker)),
    "old pickle": lambda marker: pickle.dumps(Bomb(marker), protocol=0),
    "torch": torch_file,
    "numpy": numpy_file,
    "compressed pickle": lambda marker: zstandard.ZstdCompressor().compress(pickle.dumps(Bomb(marker))),
    "yaml": lambda marker: f"!!python/object/apply:os.mkdir ['{marker}']\n".encode(),
    "json": lambda marker: f'{{"py/reduce": [{{"py/function": "os.mkdir"}}, ["{marker}"]]}}'.encode(),
    "python": lambda marker: f"__import__('os').mkdir('{marker}')\n".encode(),
}
READERS: dict[str, Callable[[bytes, Path], Any]] = {
    "pickle": lambda data, _: pickle.loads(data),
    "old pickle": lambda data, _: pickle.loads(data),
    "torch": lambda data, _: torch.load(io.BytesIO(data), weights_only=False),
    "numpy": lambda data, _: np.load(io.BytesIO(data), allow_pickle=True),
    "compressed pickle": lambda data, _: pickle.loads(zstandard.ZstdDecompressor().decompress(data)),
    "python": lambda data, _: exec(data),
}


@pytest.mark.parametrize("kind", READERS)
def test_the_files_are_malicious(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "ran"
    READERS[kind](KINDS[kind](marker), tmp_path)
    assert marker.is_dir()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("malicious") / "run"
    flags = "--env pixelq/Catch-v0 --preset classic --steps 60 --num-envs 2 --device cpu --final-episodes 1"
    small = "--agent.hidden 4 --agent.batch-size 4 --agent.learning-starts 20 --agent.replay-capacity 60"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2000)
        assert main(["train", "--out", str(out), "--evaluation-episodes", "1", *flags.split(), *small.split()]) == 0
    return out


@pytest.mark.parametrize(
    ("kind", "is_sealed"),
    representative(
        itertools.product(KINDS, (False, True)),
        keep=[("pickle", False), ("torch", True)],
    ),
)
def test_nothing_runs(
    finished_run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    is_sealed: bool,
) -> None:
    monkeypatch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2000)
    marker, run = tmp_path / "ran", tmp_path / "run"
    names = [*read_checksums(checkpoint_folder(finished_run / "checkpoints" / "latest")), CHECKSUMS]
    assert any(name.startswith("../replay") for name in names)
    for name in [*names, "config.json", "metrics.csv", "evaluations.csv"]:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(finished_run, run, symlinks=True)
        for checkpoint in (run / "checkpoints").glob("step_*"):
            is_of_run = name in ("config.json", "metrics.csv", "evaluations.csv")
            (run / name if is_of_run else checkpoint / name).write_bytes(KINDS[kind](marker))
            if is_sealed and name != CHECKSUMS:
                seal(checkpoint)
        commands = [["train", "--resume", "--out", str(run), "--steps", "80"]]
        if name in ACTING_FILES:
            commands.append(["evaluate", str(run), "--episodes", "1"])
        if name in AGENT_FILES:
            with pytest.raises(InvalidCheckpoint):
                DQN.load(run, "cpu")
        else:
            DQN.load(run, "cpu")
        is_lost = name.startswith("..") and not is_sealed  # of the replay, without which a run can go on
        for command in commands:
            capfd.readouterr()
            assert main(command) == (0 if is_lost else 2), (name, command)
            out, err = capfd.readouterr()
            if is_lost:
                assert "going on from it with an empty replay" in err
                continue
            assert out == ""
            said = [line for line in err.splitlines() if not line.startswith("going on from ")]
            assert len(said) == 1, err
            assert said[0].startswith(f"pixelq {command[0]}: ")
        assert not marker.exists()


MODULE = "malicious_games"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes a module importable that makes a folder when it is imported, and registers an environment; the folder."""
    marker = tmp_path / "ran"
    lines = f"os.mkdir({str(marker)!r})", "gymnasium.register('Trap-v0', 'pixelq.envs.catch:Catch')"
    (tmp_path / f"{MODULE}.py").write_text("\n".join(("import os, gymnasium", *lines)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield marker
    sys.modules.pop(MODULE, None)
    gymnasium.registry.pop("Trap-v0", None)


@pytest.fixture
def run_of_a_stranger(finished_run: Path, trap: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose files say that its environment is in the module."""
    monkeypatch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2000)
    run = Path(shutil.copytree(finished_run, trap.parent / "run", symlinks=True))
    for path in [run / "config.json", *run.glob("checkpoints/step_*/agent.json")]:
        flags = {"modules": [MODULE], "import": [MODULE]} if path.name == "config.json" else {}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"env": f"{MODULE}:Trap-v0"} | flags))
        if path.name == "agent.json":
            seal(path.parent)
    return run


def test_a_folder_alone_has_no_module_imported(
    run_of_a_stranger: Path, trap: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = str(run_of_a_stranger)
    for command in (
        ["evaluate", run, "--episodes", "1"],
        ["evaluate", run, run, "--episodes", "1", "--processes", "2"],
        ["evaluate", run, "--episodes", "1", "--video", "films"],
        ["train", "--resume", "--out", run, "--steps", "80"],
    ):
        capfd.readouterr()
        assert main(command) == 2, command
        why = f"'{MODULE}:Trap-v0' needs the module '{MODULE}', and only you can say whether to run it"
        assert why in capfd.readouterr().err
    capfd.readouterr()
    assert main(["report", run, "--episodes", "1", "--device", "cpu", "--out", str(trap.parent / "page.html")]) == 0
    (line,) = capfd.readouterr().err.splitlines()  # and not that episodes are played
    assert line.startswith(f"no episode is shown: {why}")
    sections = insight_sections(run, episodes=1, device="cpu")
    assert [f"--import {MODULE}" in str(section.values) for section in sections] == [True]
    policy = DQN.load(run, "cpu")
    assert policy.env_id == f"{MODULE}:Trap-v0"
    assert not trap.exists()
    assert MODULE not in sys.modules


@pytest.mark.parametrize(
    "flags",
    [
        ["evaluate", "run", "--episodes", "1", "--import", MODULE],
        ["train", "--resume", "--out", "run", "--steps", "80", "--import", MODULE],
        ["train", "--resume", "--out", "run", "--steps", "80", "--env", f"{MODULE}:Trap-v0"],
    ],
    ids=["evaluate", "resume", "resume-env"],
)
def test_the_user_names_the_module(run_of_a_stranger: Path, trap: Path, flags: list[str]) -> None:
    assert main(flags) == 0
    assert trap.is_dir()


def explode(env: Any) -> Any:
    """A wrapper in a module that is loaded, and that the user has not named."""
    os.mkdir("ran")
    return env


@pytest.mark.parametrize(
    ("entries", "module"),
    [
        ({"env": "subprocess:run(args=['mkdir', 'ran'])"}, "subprocess"),
        ({"env": "os:system"}, "os"),
        ({"env": f"{__name__}:explode"}, __name__),
        ({"env": f"{MODULE}:Trap"}, MODULE),
        ({"env": "no_such_module:Game(size=3)"}, "no_such_module"),
        ({"env": "__main__:Game"}, "MODULE"),
        ({"wrappers": ["os:mkdir(path='ran')"]}, "os"),
        ({"wrappers": ["gymnasium.wrappers:FlattenObservation", f"{__name__}:explode"]}, __name__),
        ({"wrappers": [f"{MODULE}:wrap"]}, MODULE),
        ({"wrappers": ["gymnasium.wrappers:RecordVideo(video_folder='ran')"]}, "gymnasium.wrappers"),
        ({"wrappers": ["pixelq.agents.storage.files:replace_file(path='ran', data=b'')"]}, "pixelq.agents"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_names_in_a_folder_are_not_followed(
    run_of_a_stranger: Path,
    trap: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    entries: dict[str, Any],
    module: str,
) -> None:
    monkeypatch.setattr(named, "_trusted", set())
    run = str(run_of_a_stranger)
    values = {"env": entries.get("env", "pixelq/Catch-v0"), "env_arguments": {"wrappers": entries.get("wrappers", [])}}
    for path in [run_of_a_stranger / "config.json", *run_of_a_stranger.glob("checkpoints/step_*/agent.json")]:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        if path.name == "agent.json":
            seal(path.parent)
    loaded = set(sys.modules)
    for command in (
        ["evaluate", run, "--episodes", "1"],
        ["evaluate", run, "--episodes", "1", "--video", "films"],
        ["train", "--resume", "--out", run, "--steps", "80"],
    ):
        capfd.readouterr()
        assert main(command) == 2, command
        assert f"--import {module}".removesuffix(" MODULE") in capfd.readouterr().err
    sections = insight_sections(run, episodes=1, device="cpu")
    assert [f"--import {module}".removesuffix(" MODULE") in str(section.values) for section in sections] == [True]
    agent = DQN.load(run, "cpu")
    with pytest.raises(InvalidEnv, match=r"only you can say|move it into a module"):
        make_vec(agent.env_id, 1, **agent.env_arguments)  # type: ignore[arg-type]
    assert not trap.exists()
    assert not {MODULE, "no_such_module"} & (set(sys.modules) - loaded)


def test_no_other_environment_is_imported_by_naming_it(run_of_a_stranger: Path, trap: Path) -> None:
    assert main(["train", "--resume", "--out", "run", "--steps", "80", "--env", "CartPole-v1"]) == 2
    assert not trap.exists()


def test_no_source_loads_what_may_run() -> None:
    """By the text alone; weights may be read, as PyTorch then runs nothing.

    ``tests/test_architecture.py`` reads the syntax.
    """
    sources = [path for package in ("agents", "envs", "networks", "scripts") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 120
    of_torch = r"(?<!safetensors\.)torch\.load\b(?![^\n]*weights_only=True\)$)"
    pattern = re.compile(rf"{of_torch}|import pickle|pickle\.loads?\b|yaml\.|allow_pickle", re.MULTILINE)
    found = [f"{path.name}: {m[0]}" for path in sources for m in pattern.finditer(path.read_text())]
    assert found == []
