"""`pixelq evaluate` and its neighbours: what is laid beside what, in which order, and what a full disk does."""

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.agents import Evaluation, InvalidRun
from pixelq.agents.errors import RunFailed
from pixelq.agents.evaluation.film import Film
from pixelq.agents.evaluation.scoring import Request, Score, ScoreFile, request_of
from pixelq.agents.results.records import load_run
from pixelq.agents.runs.folder import RunFolder
from pixelq.scripts import play_progress
from pixelq.scripts.command_line import write_json
from pixelq.scripts.evaluate import describe
from pixelq.scripts.play_progress import PlayProgress
from tests.support.report_runs import STEPS, write_run
from tests.support.runs import TINY, Ended, copied, run_here, words


class Endless(gymnasium.Env[Any, Any]):
    """Pays 1 a step, and never ends."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return np.random.default_rng(self.steps).integers(256, size=(100, 100, 3), dtype=np.uint8)


gymnasium.register("tests/Onward-v0", Endless)


def score_of_run(run: Path, mark: str, protocol: str = "sticky", **changes: Any) -> Score:
    """A score of 18 of a checkpoint that was written in the middle of a run of Breakout."""
    request = Request(run / "checkpoints" / "step_1", "ALE/Breakout-v5", "", STEPS // 2, protocol, 2, **changes)
    return Score(request, mark, 2 * STEPS, protocol, Evaluation("ALE/Breakout-v5", (17.0, 19.0), (900, 1_100)))


def lines_of(text: str) -> dict[str, str]:
    return {line.split()[0]: line.strip() for line in text.splitlines()}


def test_published_agents_are_laid_beside_the_last_evaluation_and_not_the_best(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", env="ALE/Breakout-v5", mean=3.5)  # its last evaluation has 7
    best, last = lines_of(describe(score_of_run(run, "best"))), lines_of(describe(score_of_run(run, "last")))
    assert best["ALE/Breakout-v5"].split(" · ")[1] == "best checkpoint (step 250,000)"
    assert (
        best["human"]
        == last["human"]
        == f"human        30.5   this score: {(18 - 1.7) / (30.5 - 1.7):.2f} times as far above random play"
    )
    assert best["last"] == "last evaluation of the run (step 500,000): 7.0"
    assert "last" not in last
    # DQN: 7.11 ± 0.934 in the middle of the second million frames, 14.6 ± 3.05 in that of the third
    assert best["DQN"].startswith("DQN          10.")
    assert "at 2.0 million frames" in best["DQN"]
    assert last["DQN"].startswith("DQN          4.5")
    assert "at 1.0 million frames" in last["DQN"]
    assert last["DQN"].endswith("outside the spread")
    assert "DQN" not in lines_of(describe(score_of_run(run, "last", env_arguments={"max_episode_steps": 50})))
    other = lines_of(describe(score_of_run(run, "best", "nature")))
    assert other["last"] == "last evaluation of the run (step 500,000), under sticky: 7.0"
    assert "DQN" not in lines_of(describe(score_of_run(tmp_path / "nowhere", "best")))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"evaluation_episode_steps": 4_500}))
    cut = lines_of(describe(score_of_run(run, "best")))
    assert cut["last"] == "last evaluation of the run (step 500,000), with games cut off after 4,500 steps: 7.0"
    assert "DQN" not in cut


def test_a_policy_that_comes_with_the_package_is_a_best_one() -> None:
    request = Request(Path("demo"), "ALE/Pong-v5", "", 800_000, "sticky", 1)
    said = describe(Score(request, "demo", 3_200_000, "sticky", Evaluation("ALE/Pong-v5", (1.0,), (900,))))
    assert "human" in said
    assert "DQN" not in said


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A run of an environment without an end, whose episodes are cut off after 9 steps."""
    out = tmp_path_factory.mktemp("endless") / "run"
    command = words(TINY, env="tests/Onward-v0", max_episode_steps=9, steps=60, evaluate_every=30, out=out)
    return out, run_here(["train", *command])


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_returns_that_are_not_finite_leave_json_that_report_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(*_: Any, **__: Any) -> Evaluation:
        return Evaluation("pixelq/Catch-v0", (math.inf, 1.0), (9, 9))

    for module in ("pixelq.agents.training.recorder", "pixelq.agents.evaluation.scoring"):
        monkeypatch.setattr(f"{module}.evaluate", infinite)
    out, file = tmp_path / "run", tmp_path / "scores.jsonl"
    ended = run_here(["train", *words(TINY, steps=60, evaluate_every=30, out=out)])
    assert ended.code == 0, ended.err
    values = json.loads((out / "final_evaluation.json").read_text(), parse_constant=refused)
    assert (values["mean"], values["std"], values["returns"]) == (None, None, [None, 1.0])
    run = load_run(out)
    assert run.final is not None
    assert math.isnan(run.final.mean)
    assert np.isnan(run.evaluations["mean"]).tolist() == [True, True]
    page = tmp_path / "page.html"
    assert run_here(["report", str(out), "--episodes", "0", "--out", str(page)]).code == 0
    assert "pixelq/Catch-v0" in page.read_text()
    for _ in range(2):  # played, and read
        command = ["evaluate", str(out), "--episodes", "2", "--processes", "1", "--device", "cpu"]
        shown = run_here([*command, "--results", str(file)])
        assert (shown.code, "mean return nan (" in shown.out) == (0, True), shown
    (line,) = file.read_text().splitlines()
    assert json.loads(line, parse_constant=refused)["mean"] is None


def test_a_mean_that_is_no_number_is_never_the_best() -> None:
    rows = [{"step": str(step), "mean": mean} for step, mean in ((1, "nan"), (2, "-3"), (3, "5"), (4, "nan"), (5, "5"))]
    for seen, best in ((2, (2, -3.0)), (5, (3, 5.0))):
        assert RunFolder.best(SimpleNamespace(evaluations=rows[:seen])) == best  # type: ignore[arg-type]


def test_an_evaluation_has_the_limit_of_its_training(endless: tuple[Path, Ended], tmp_path: Path) -> None:
    out, ended = endless
    values = json.loads((out / "final_evaluation.json").read_text())
    assert (values["lengths"], values["max_episode_steps"], values["cut"]) == ([9, 9], 9, 2)
    assert "2 of 2 episodes cut off after 9 steps; --max-episode-steps sets another limit" in ended.out
    page = out.parent / "page.html"
    assert run_here(["report", str(out), "--episodes", "0", "--out", str(page)]).code == 0
    assert "<code>max_episode_steps</code></th><td>null</td><td>9</td>" in page.read_text()
    assert request_of(out / "checkpoints" / "latest", 1).max_episode_steps == 9
    ended = run_here(["evaluate", str(out), "--max-episode-steps", "4", "--episodes", "3", "--json", "--device", "cpu"])
    assert json.loads(ended.out)["lengths"] == [4, 4, 4]
    resumed = run_here(["train", "--resume", "--out", str(out), "--steps", "70", "--max-episode-steps", "8"])
    assert "--max-episode-steps must be 9 as in the run in" in resumed.err
    ended = run_here(["evaluate", str(out), "--max-episode-steps", "0"])
    assert (ended.code, "--max-episode-steps must be at least 1, got 0" in ended.err) == (2, True)


def test_scores_of_older_versions_are_known_again(tmp_path: Path) -> None:
    score = score_of_run(tmp_path, "last")
    values = {name: value for name, value in score.to_json().items() if name not in ("max_episode_steps", "cut")}
    (tmp_path / "scores").write_text(json.dumps(values) + "\n")
    assert list(ScoreFile(tmp_path / "scores").scores) == [score.request.key]


def test_the_film_comes_first(endless: tuple[Path, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(*_: Any) -> Any:
        raise RunFailed(f"there was {[path.name for path in tmp_path.iterdir()]}")

    monkeypatch.setattr("pixelq.scripts.evaluate.score", score)
    ended = run_here(["evaluate", str(endless[0]), "--video", str(tmp_path), "--device", "cpu"])
    film, failed = ended.err.splitlines()
    assert film.startswith("filmed an episode with return 9: ")
    assert "Onward-v0-step" in failed


def test_progress_counts_steps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(play_progress.time, "monotonic", lambda: now[0])
    with PlayProgress("episodes", 3) as progress:
        for second in (1.0, 6.0, 7.0, 35.0, 37.0):
            now[0] = second
            progress.step(500)
            if second == 35.0:
                progress.advance()
    assert capsys.readouterr().err.splitlines() == ["0 of 3 episodes, 1,000 steps", "1 of 3 episodes, 2,500 steps"]


# --- files that cannot be written -------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(path)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("pictures", [3, 2_000])
def test_a_film_on_a_full_disk(disk: Path, pictures: int) -> None:
    """ffmpeg writes a short film at its end, and ends itself in a long one."""
    path, draw = disk / "film.mp4", np.random.default_rng(0)

    def film() -> None:
        with Film(path, 30) as film:
            for _ in range(pictures):
                film.add(draw.integers(256, size=(400, 400, 3), dtype=np.uint8))

    with pytest.raises(RunFailed, match=r"film.mp4 can no longer be written \(no space left on device\); use another"):
        film()
    assert list(disk.iterdir()) == []


def test_a_film_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def film() -> None:
        with Film(tmp_path / "film.mp4", 30) as film:
            film.add(np.zeros((10, 10, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film()
    assert list(tmp_path.iterdir()) == []


def test_a_film_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "film.mp4").symlink_to(tmp_path / "kept")
    with Film(tmp_path / "film.mp4", 30) as film:
        film.add(np.zeros((10, 10, 3), np.uint8))
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "film.mp4").is_symlink()


@pytest.mark.parametrize("films", ["video", "video/more"])
def test_a_link_in_a_run_leads_no_film_out_of_it(endless: tuple[Path, Ended], tmp_path: Path, films: str) -> None:
    run, outside = copied(endless[0], tmp_path / "run"), tmp_path / "outside"
    outside.mkdir()
    (run / "video").symlink_to(outside)
    ended = run_here(["evaluate", str(run), "--video", str(run / films), "--device", "cpu"])
    assert (ended.code, ended.out) == (2, "")
    said = f"pixelq evaluate: {run / 'video'} must not be a link in a run; remove it, or use another --video folder\n"
    assert ended.err == said
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("limit", [-5, 0, True, "7", 7.0])
def test_a_limit_that_is_none_is_refused(endless: tuple[Path, Ended], tmp_path: Path, limit: Any) -> None:
    run = copied(endless[0], tmp_path / "run")
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_episode_steps": limit}))
    for command in (
        ["evaluate", str(run)],
        ["report", str(run), "--out", str(tmp_path / "page.html")],
        ["train", "--resume", "--out", str(run)],
    ):
        ended = run_here([*command, "--device", "cpu"])
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended
        assert f"max_episode_steps must be an integer of at least 1 or null, got {limit!r}" in ended.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_figures_on_a_full_disk(endless: tuple[Path, Ended], tmp_path: Path) -> None:
    ended = run_here(["evaluate", str(endless[0]), "--episodes", "1", "--json", "/dev/full", "--device", "cpu"])
    said = "the figures cannot be written to /dev/full (No space left on device); what is printed above is complete"
    assert (ended.code, ended.err) == (1, f"pixelq evaluate: {said}\n")
    assert "mean return" in ended.out
    with pytest.raises(RunFailed, match="cannot be written to /dev/full"):
        write_json([1], Path("/dev/full"), indent=2)
    run = write_run(tmp_path / "run", env="ALE/Breakout-v5")
    ended = run_here(["compare", str(run), "--out", "/dev/full"])
    assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
    assert "the picture cannot be written to /dev/full (No space left on device)" in ended.err


def test_what_was_saved_and_cannot_be_read_is_not_the_users_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Any) -> Any:
        raise InvalidRun("no run in there (Permission denied)")

    monkeypatch.setattr("pixelq.scripts.train.plot_run", unreadable)
    ended = run_here(["train", *words(TINY, steps=60, out=tmp_path / "run")])
    said = "the run has taken its last step, but what it saved cannot be read: no run in there (Permission denied)"
    assert (ended.code, ended.err.splitlines()[-1]) == (1, f"pixelq train: {said}")


def test_a_folder_that_cannot_be_searched_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pixelq.agents.training.recorder.RunCheckpoints.write", denied)
    exists = Path.exists  # which raises in a folder without rights, unless one is root
    monkeypatch.setattr(Path, "exists", lambda path: denied() if path.name == "latest" else exists(path))
    ended = run_here(["train", *words(TINY, steps=60, checkpoint_every=20, out=tmp_path / "run")])
    said = f"pixelq train: {tmp_path / 'run'} can no longer be written (Permission denied), at step 20; "
    assert (ended.code, ended.err.splitlines()[-1]) == (1, f"{said}--resume continues when it can")
