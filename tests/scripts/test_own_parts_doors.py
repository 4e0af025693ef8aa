"""Parts of one's own by all doors of the command line: a module that registers them, named by --import."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelq.agents.config import parts
from tests.support.runs import run_here, words

MODULE = "parts_of_mine"
SOURCE = "from tests.support.own_parts import register_all\nregister_all()\n"
FLAGS = {
    "--env": "pixelq/Catch-v0",
    "--preset": "classic",
    "--device": "cpu",
    "--num-envs": "2",
    "--steps": "80",
    "--final-episodes": "1",
    "--evaluation-episodes": "1",
    "--agent.hidden": "8",
    "--agent.batch-size": "4",
    "--agent.learning-starts": "20",
    "--agent.train-every": "4",
    "--agent.replay-capacity": "100",
}
PARTS = {"--agent.encoder": "flat", "--agent.head": "plain", "--agent.target": "twin"}
IMPORT = ["--import", MODULE]


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    forget(monkeypatch)
    monkeypatch.setattr("pixelq.scripts.train.plot_run", lambda run: run / "curve.png")  # which knows no parts
    yield
    sys.modules.pop(MODULE, None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process one that has not imported the module."""
    sys.modules.pop(MODULE, None)
    monkeypatch.setattr(parts, "_REGISTERED", {"encoder": {}, "head": {}, "target": {}})


def test_a_run_goes_through_all_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    ended = run_here(["train", *words(FLAGS | PARTS, out=whole), *IMPORT])
    assert ended.code == 0, ended.err
    assert f"pixelq evaluate {whole} --video {whole / 'video'} --import {MODULE}\n" in ended.out
    agent = json.loads((whole / "config.json").read_text())["agent"]
    assert [agent[kind] for kind in ("encoder", "head", "target")] == ["flat", "plain", "twin"]
    # Resumed, to the byte
    assert run_here(["train", *words(FLAGS | PARTS, out=halves, steps=40), *IMPORT]).code == 0
    forget(monkeypatch)
    refused = run_here(["train", "--resume", "--out", str(halves), "--steps", "80"])
    assert refused.code == 2
    assert f"{halves} cannot be resumed: encoder must be " in refused.err
    assert "got 'flat'; import the module that registers it, or give --import MODULE\n" in refused.err
    assert run_here(["train", "--resume", "--out", str(halves), "--steps", "80", "--device", "cpu", *IMPORT]).code == 0
    weights = [
        (run / "checkpoints" / "step_0000000080" / "network.safetensors").read_bytes() for run in (whole, halves)
    ]
    assert weights[0] == weights[1]
    forget(monkeypatch)
    refused = run_here(["evaluate", str(whole), "--episodes", "1"])
    assert (refused.code, "cannot be loaded: encoder must be" in refused.err) == (2, True), refused
    assert run_here(["evaluate", str(whole), "--episodes", "1", *IMPORT]).code == 0


def test_names_on_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for flags, said in (
        ({"--agent.encoder": "natur"}, "or a registered name, got 'natur'; did you mean 'nature'?"),
        ({"--agent.target": "twin"}, "target must be a registered name, got 'twin'; import the module"),
        ({"--agent.encoder": "<E>"}, "the encoder <E> must be given as a module"),
        ({"--agent.encoder": "flat", "--import": "nonesuch"}, "the module 'nonesuch' cannot be imported"),
    ):
        ended = run_here(["train", *words(FLAGS | flags, out=out)])
        assert (ended.code, said in ended.err, ended.err.count("\n")) == (2, True, 1), ended
    assert not out.exists()
