"""Files that run code where they are unpickled or evaluated: no reader of ours runs any."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard

from pixelq.agents import DQN, InvalidCheckpoint
from pixelq.agents.storage.files import CHECKSUMS, read_checksums
from pixelq.agents.storage.pointers import checkpoint_folder
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
        keep=[("pickle", False), ("torch", True), ("numpy", True), ("python", False)],
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


def test_no_source_loads_what_may_run() -> None:
    """By the text alone; ``tests/test_architecture.py`` reads the syntax."""
    sources = [path for package in ("agents", "envs", "networks", "scripts") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 120
    pattern = re.compile(r"(?<!safetensors\.)torch\.load\b|import pickle|pickle\.loads?\b|yaml\.|allow_pickle")
    found = [f"{path.name}: {m[0]}" for path in sources for m in pattern.finditer(path.read_text())]
    assert found == []
