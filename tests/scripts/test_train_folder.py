"""Where runs and agents are kept: default folders, the home directory, and seeds that can be written."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, InvalidConfig
from pixelq.agents.config.integers import MOST_SEED
from pixelq.envs import make_vec
from pixelq.scripts import train
from tests.support.runs import TINY, run_here, words
from tests.support.small_agents import ACTIONS, PIXELS


class Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> "Noon":
        return cls(2026, 1, 2, 12, 0, 0)


def test_runs_that_begin_in_the_same_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "datetime", Noon)
    for _ in range(2):
        ended = run_here(["train", *words(TINY, steps=20, evaluation_episodes=1, final_episodes=1)])
        assert ended.code == 0, ended.err
    name = "Catch-v0-classic-seed0-20260102-120000"
    assert sorted(path.name for path in Path("runs").iterdir()) == [name, f"{name}-2"]
    assert all((path / "final_evaluation.json").exists() for path in Path("runs").iterdir())

    def begin(_: int) -> Path:
        with train._new_folder("run") as folder:
            (folder / "file").write_text("")
        return folder

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(50)))) == 50


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_here(["train", *words(TINY, seed=2**129)])
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "pixelq train: seed must be at most 2**128, got one of 130 bits\n"
    assert list(tmp_path.iterdir()) == []


def test_the_greatest_seed_can_be_loaded(tmp_path: Path) -> None:
    DQN(PIXELS, ACTIONS, seed=MOST_SEED).save(tmp_path / "agent")
    assert DQN.load(tmp_path / "agent").seed == MOST_SEED == 2**128
    with pytest.raises(InvalidConfig, match="at most 2\\*\\*128, got one of 129 bits"):
        DQN(PIXELS, ACTIONS, seed=MOST_SEED + 1)
    with pytest.raises(InvalidConfig, match=r"seed must be at least 0, got -1$"):
        DQN(PIXELS, ACTIONS, seed=-1)


def test_paths_may_begin_at_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    ended = run_here(["train", *words(TINY, steps=20, evaluation_episodes=1, final_episodes=1, out="~/run")])
    assert ended.code == 0, ended.err
    agent = DQN.load("~/run", "cpu")
    agent.save("~/agent")
    assert DQN.load("~/agent", "cpu").step == agent.step
    agent.learn(make_vec("pixelq/Catch-v0", 2, 0), 10, "~/run", resume=True)
    played = ["evaluate", "~/run", "--episodes", "1", "--device", "cpu", "--json", "~/score.json"]
    for arguments in (played, ["report", "~/run", "--out", "~/page.html", "--episodes", "0"], ["status", "~/run"]):
        ended = run_here(arguments)
        assert ended.code == 0, ended.err
    names = ["agent", "elsewhere", "page.html", "run", "score.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs names that are not UTF-8")
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"run\xff")
    ended = run_here(["train", *words(TINY, out=out)])
    assert ended.code == 0, ended.err
    ended = run_here(["train", "--resume", "--out", str(out), "--steps", "300", "--device", "cpu"])
    assert ended.code == 0, ended.err
    assert "resumed at step 200, exactly" in ended.err + ended.out


def test_a_name_can_be_given_and_taken_away_when_a_run_goes_on(tmp_path: Path) -> None:
    out, found = tmp_path / "run", list[str | None]()
    few = {"evaluation_episodes": 1, "final_episodes": 1, "out": out}
    resume = ["--resume", "--out", str(out), "--steps"]
    for flags in (
        [*words(TINY, steps=20, **few), "--name", "mine"],
        [*resume, "40"],
        [*resume, "60", "--name", "None"],
        [*resume, "80", "--name", "ours"],
    ):
        assert run_here(["train", *flags]).code == 0
        found.append(json.loads((out / "config.json").read_text()).get("name"))
    assert found == ["mine", "mine", None, "ours"]
