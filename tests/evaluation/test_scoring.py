"""Scores of many policies: which checkpoint is meant, what is played again, and that processes change nothing."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from pixelq.agents import DQN, AgentConfig, Evaluation, InvalidCheckpoint, Policy
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import UserError
from pixelq.agents.evaluation import scoring
from pixelq.agents.evaluation.episode import Game, evaluation_game
from pixelq.agents.evaluation.players import score_all
from pixelq.agents.evaluation.scoring import KEY, Request, Score, ScoreFile, checkpoints_of, mark_of, request_of, score
from pixelq.envs import make_vec
from tests.support.cases import representative
from tests.support.runs import TINY, run_here, words


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Catch whose best checkpoint is not its last."""
    out = tmp_path_factory.mktemp("scored") / "run"
    ended = run_here(["train", *words(TINY, steps=600, evaluate_every=150, out=out)])
    assert ended.code == 0, ended.err
    first = min((out / "checkpoints").glob("step_*"))
    (out / "checkpoints" / "best").write_text(first.name)
    return out


def steps(paths: list[Path]) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in paths]


def test_which_checkpoint_is_meant(run: Path, tmp_path: Path) -> None:
    kept = sorted((run / "checkpoints").glob("step_*"))
    assert len(kept) >= 3
    first, last = kept[0], kept[-1]
    assert checkpoints_of(run, None) == checkpoints_of(run, "best") == [first]
    assert checkpoints_of(run, "last") == [last]
    assert checkpoints_of(run, "both") == [first, last]
    assert checkpoints_of(run / "checkpoints" / "latest", None) == [last]
    assert [mark_of(path) for path in kept] == ["best", *(path.name for path in kept[1:-1]), "last"]
    with pytest.raises(UserError, match="is a checkpoint and not a run; leave out `which`"):
        checkpoints_of(last, "last")
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        checkpoints_of(tmp_path / "nothing", "both")
    one = tmp_path / "one"
    shutil.copytree(run, one, symlinks=True)
    (one / "checkpoints" / "best").unlink()
    (one / "checkpoints" / "best").symlink_to(last.name)  # as in older versions
    assert steps(checkpoints_of(one, "both")) == steps([last])
    assert mark_of(one / "checkpoints" / last.name) == "best and last"


def test_a_score_is_that_of_its_checkpoint(run: Path) -> None:
    (last,) = checkpoints_of(run, "last")
    counted = []
    agent, found = score(request_of(last, 5, seed=4, device="cpu"), played=lambda: counted.append(1))
    values = found.to_json()
    assert agent.step == values["step"] == values["frames"] == 600
    assert (values["mark"], values["episodes"], values["seed"]) == ("last", 5, 4)
    assert len(counted) == len(values["returns"]) == 5
    assert set(values["returns"]) <= {-1.0, 1.0}
    assert values["lengths"] == (9,) * 5
    assert tuple(values[name] for name in KEY) == found.request.key


class Skipping(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Repeats each action."""

    def step(self, action: Any) -> Any:
        first = self.env.step(action)
        return first if first[2] or first[3] else self.env.step(action)


def test_episodes_that_terminate_at_a_limit_are_not_cut_off(tmp_path: Path) -> None:
    recall = "pixelq/RepeatPrevious-v0"
    envs = make_vec(recall, 1, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(hidden=4), device="cpu")
    agent.env_id, agent.protocol = recall, "gymnasium"
    agent.save(tmp_path / "agent")
    for limit, wrappers, length, cut in ((64, (), 64, 0), (63, (), 63, 3), (20, (Skipping,), 10, 3)):
        request = request_of(tmp_path / "agent", 3, device="cpu", max_episode_steps=limit)
        arguments = {**request.env_arguments, **({"wrappers": wrappers} if wrappers else {})}
        found = score(replace(request, env_arguments=arguments))[1]
        assert (found.evaluation.lengths, found.cut, found.limit) == ((length,) * 3, cut, limit)
        assert found.to_json()["cut"] == cut


def test_the_frames_of_an_atari_step_are_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def play(_: DQN, envs: Any, episodes: int, *, epsilon: float, **__: Any) -> Evaluation:
        asked.update(protocol=envs.protocol, epsilon=epsilon)
        return Evaluation(envs.env_id, (-20.0,) * episodes, (900,) * episodes)

    monkeypatch.setattr("pixelq.agents.evaluation.scoring.evaluate", play)
    envs = make_vec("ALE/Pong-v5", 1, 0, "nature")
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(encoder="mlp", hidden=4))
    agent.env_id, agent.protocol, agent.step = "ALE/Pong-v5", "nature", 1_000
    agent.save(tmp_path / "pong")
    for protocol, played, epsilon in ((None, "nature", 0.05), ("sticky", "sticky", 0.001), ("100k", "100k", 0.001)):
        request = request_of(tmp_path / "pong", 2, protocol=protocol, device="cpu")
        values = score(request)[1].to_json()
        assert (values["step"], values["frames"], values["protocol"]) == (1_000, 4_000, played)
        assert (asked["protocol"].name, asked["epsilon"]) == (played, epsilon)
        assert values["mark"] == "pong"  # it is no run's
    assert (asked["protocol"].repeat_action_probability, asked["protocol"].noop_max) == (0.0, 30)
    agent.protocol = "mine"
    agent.save(tmp_path / "mine")
    with pytest.raises(UserError, match="a protocol of its own, 'mine'; give `protocol`"):
        request_of(tmp_path / "mine", 2)
    assert request_of(tmp_path / "mine", 2, protocol="nature").protocol == "nature"


def requests_of(run: Path, episodes: int = 3) -> list[Request]:
    return [request_of(path, episodes, device="cpu") for path in checkpoints_of(run, "both")]


def test_a_link_is_followed_wherever_it_leads(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sorted((run / "checkpoints").glob("step_*"))
    other = tmp_path / "other"
    shutil.copytree(kept[-1], other / kept[0].name)  # bears the name of what the link leads to
    (other / "mine").symlink_to(kept[0])
    assert [path.resolve() for path in checkpoints_of(other / "mine", None)] == [kept[0].resolve()]
    monkeypatch.chdir(kept[1])
    assert [path.resolve() for path in checkpoints_of(Path(), None)] == [kept[1].resolve()]
    (tmp_path / "run").symlink_to(run)
    assert checkpoints_of(tmp_path / "run", "last") == [tmp_path / "run" / "checkpoints" / kept[-1].name]


def test_the_best_is_the_best_or_nothing(run: Path, tmp_path: Path) -> None:
    young = Path(shutil.copytree(run, tmp_path / "young", symlinks=True))
    (young / "checkpoints" / "best").unlink()
    header, *_ = (young / "evaluations.csv").read_text().splitlines(keepends=True)
    (young / "evaluations.csv").write_text(header)
    assert checkpoints_of(young, None) == checkpoints_of(young, "last")
    with pytest.raises(UserError, match="has no best checkpoint yet; give `which=last`"):
        checkpoints_of(young, "best")


def test_equal_weights_of_other_steps_are_other_policies(run: Path, tmp_path: Path) -> None:
    last, best = (checkpoints_of(run, which)[0] for which in ("last", "best"))
    agent = DQN.load(last, "cpu")
    agent.step = 7
    agent.save(tmp_path / "seven")
    requests = [request_of(path, 1, device="cpu") for path in (last, tmp_path / "seven", best)]
    assert requests[0].weights == requests[1].weights
    assert [request.step for request in requests] == [600, 7, int(best.name[5:])]
    assert len({request.key for request in requests}) == 3


def test_processes_change_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(run)
    alone = {result.request: result.to_json() for result in score_all(requests, 1)}
    # What lies in the working folder is not run, and a module that the user names is imported in each process.
    (tmp_path / "games").mkdir()
    (tmp_path / "games" / "scored_games.py").write_text("import os; open(f'{os.getpid()}.imported', 'w').close()")
    (tmp_path / "multiprocessing.py").write_text("open('trap', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "games"))
    beside = {result.request: result.to_json() for result in score_all(requests, 2, ["scored_games"])}
    assert alone == beside
    assert len({values["weights"] for values in alone.values()}) == 2
    assert (len(list(tmp_path.glob("*.imported"))), (tmp_path / "trap").exists()) == (2, False)


@pytest.mark.slow
def test_what_fails_in_a_process_is_told_of(run: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(checkpoints_of(run, "last")[0], tmp_path / "broken"))
    requests = [*requests_of(run), request_of(broken, 3, device="cpu")]
    (broken / "network.safetensors").write_bytes(b"")
    with pytest.raises(InvalidCheckpoint, match=r"network\.safetensors is not what was written"):
        list(score_all(requests, 2))


def test_a_broken_evaluation_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "scores.jsonl"
    command = ["evaluate", str(run), "--which", "both", "--episodes", "3", "--processes", "1", "--device", "cpu"]
    whole = run_here([*command, "--results", str(file)])
    assert whole.code == 0, whole.err
    lines = file.read_text().splitlines(keepends=True)
    assert [json.loads(line)["mark"] for line in lines] == ["best", "last"]
    assert [line.split(" · ")[1][:5] for line in whole.out.splitlines()] == ["best ", "last "]
    assert [line.split(" · ")[2] for line in whole.out.splitlines()] == ["gymnasium"] * 2

    file.write_text(lines[0] + lines[1][:40])  # it died while it wrote the second
    played = []
    monkeypatch.setattr(
        "pixelq.agents.evaluation.players.score", lambda request: played.append(request.checkpoint) or score(request)
    )
    again = run_here([*command, "--results", str(file)])
    assert again.out == whole.out
    assert file.read_text() == "".join(lines)
    assert played == checkpoints_of(run, "last")

    for other in (["--seed", "1"], ["--episodes", "4"]):  # is another evaluation
        played.clear()
        assert run_here([*command, "--results", str(file), *other]).code == 0
        assert len(played) == 2
    moved = tmp_path / "moved"
    shutil.copytree(run, moved, symlinks=True)
    played.clear()
    elsewhere = run_here([*command[:1], str(moved), *command[2:], "--results", str(file)])
    assert elsewhere.out == whole.out.replace(str(run), str(moved))
    assert played == []


SCORE = {
    "env": "CartPole-v1", "protocol": "gymnasium", "checkpoint": "c", "step": 5, "episodes": 1, "returns": [2.0],
    "mean": 2.0, "ci95": [1.0, 3.0], "human_normalized": None, "mark": "best", "frames": 5, "seed": 0, "weights": "w",
}  # fmt: skip


@pytest.mark.parametrize("nothing", [float("nan"), None])
def test_a_score_that_is_no_number_can_be_kept(tmp_path: Path, nothing: float | None) -> None:
    (tmp_path / "file").write_text(json.dumps(SCORE | {"mean": nothing, "ci95": [1, float("inf")]}) + "\n")
    assert len(ScoreFile(tmp_path / "file").scores) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": "2.0"}, {"mean": 10**400}, {"ci95": [1, 2, 3]}, {"ci95": ["1", "3"]}, {"step": "5"},
        {"returns": ["2"]}, {"episodes": 1.5}, {"human_normalized": "2"}, {"protocol": None}, {"mark": ["best"]},
    ],
)  # fmt: skip
def test_a_score_of_other_types_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "file").write_text(json.dumps(SCORE | changes) + "\n")
    with pytest.raises(UserError, match="holds something else than scores; use another `results` file"):
        ScoreFile(tmp_path / "file")


@pytest.mark.parametrize("text", ["not JSON\n", "[1]\n", '{"env": "x"}\n', "\xff\n", "one line of notes"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="holds something else than scores; use another `results` file"):
        ScoreFile(path)
    assert path.read_bytes() == text.encode("latin-1")


def test_json_of_several_is_a_list_in_the_order_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever process is done first."""

    def last_first(requests: list[Request], processes: int, modules: Any) -> list[Score]:
        assert processes == 2
        return list(score_all(requests, 1, modules))[::-1]

    monkeypatch.setattr("pixelq.scripts.evaluate.score_all", last_first)
    last, best = (str(checkpoints_of(run, which)[0]) for which in ("last", "best"))
    command = ["evaluate", last, best, last, "--episodes", "2", "--device", "cpu", "--processes", "2", "--json"]
    ended = run_here(command)
    assert ended.code == 0, ended.err
    assert [values["checkpoint"] for values in json.loads(ended.out)] == [last, best]


def test_wrong_input(run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([], "no RUN_OR_CHECKPOINT is given; give the folder of a run or a checkpoint"),
        ([str(run), str(tmp_path / "no")], f"{tmp_path / 'no'} does not exist"),
        (
            [str(run), "--which", "both", "--video", str(tmp_path / "v")],
            "--video films one policy; name one checkpoint",
        ),
        ([str(run), "--results", "r", "--video", str(tmp_path / "v")], "--video films one policy; name one checkpoint"),
        ([str(run), "--results", "r", "--json", "r"], "--json and --results must be two files, got r for both"),
        ([str(run), "--processes", "0"], "--processes must be at least 1, got 0"),
        ([str(run), "--results", "/dev/null/scores"], "cannot be written (File exists); use another --results"),
    ):
        ended = run_here(["evaluate", *arguments, "--device", "cpu"])
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        assert message in ended.err
    assert not (tmp_path / "v").exists()


@pytest.mark.linux
@pytest.mark.parametrize(
    ("name", "code"),
    representative([("INT", 130), ("TERM", 143), ("KILL", -9), (None, 1)], keep=[]),
)
def test_the_end_of_one_process_is_that_of_all(run: Path, tmp_path: Path, name: str | None, code: int) -> None:
    """Of the one that a signal is sent to, or of one of those that play."""
    number = None if name is None else signal.Signals[f"SIG{name}"]
    command = [sys.executable, "-m", "pixelq.scripts.main", "evaluate", str(run), "--which", "both", "--device", "cpu"]
    command += ["--episodes", "10000000", "--processes", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 200
    children: list[int] = []
    try:
        while sum(seconds_of(child) > 6.0 for child in children) < 2:  # they play, as importing takes less
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
            children = children_of(process.pid)
        if number == signal.SIGINT:  # which a terminal sends to all
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid if number else max(children, key=seconds_of), number or signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert ("a process that played was killed" in said) == (number is None)
        assert process.returncode == code
        assert "Traceback" not in said
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_config_of_another_run_does_not_count(tmp_path: Path) -> None:
    """Two folders above an agent that was saved lies whatever the user has there."""
    envs = make_vec("CartPole-v1", 1, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, "classic", device="cpu", seed=0)
    agent.env_id, agent.protocol = "CartPole-v1", "gymnasium"
    agent.save(tmp_path / "models" / "cart")
    (tmp_path / "config.json").write_text(json.dumps({"max_episode_steps": 5}))
    assert request_of(tmp_path / "models" / "cart", 1).max_episode_steps is None
    agent.save(tmp_path / "checkpoints" / "cart")  # as in a run
    assert request_of(tmp_path / "checkpoints" / "cart", 1).max_episode_steps == 5


def test_a_film_is_of_a_game_that_the_score_is_not_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def filmed(policy: Policy, game: Game, *_: object) -> float:
        seeds.append(game.seed)
        return 0.0

    monkeypatch.setattr(scoring, "film_episode", filmed)
    (checkpoint,) = checkpoints_of(run, None)
    scoring.film(request_of(checkpoint, 1, seed=3), run / "film.mp4")
    assert seeds == [derived_seed(3, "evaluation", 1)] != [derived_seed(3, "evaluation")]


def test_games_and_actions_of_a_score_are_those_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec("CartPole-v1", 1, 0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(hidden=8), device="cpu")
    agent.env_id, agent.protocol = "CartPole-v1", "gymnasium"
    agent.save(tmp_path / "agent")
    seeds, given, play = [], [], scoring.evaluate

    def made(env: Any, num_envs: int, seed: int, *rest: Any, **more: Any) -> Any:
        seeds.append(seed)
        return make_vec(env, num_envs, seed, *rest, **more)

    def evaluated(*arguments: Any, **more: Any) -> Evaluation:
        given.append(more["seed"])
        return play(*arguments, **more)

    monkeypatch.setattr(scoring, "make_vec", made)
    monkeypatch.setattr(scoring, "evaluate", evaluated)
    score(request_of(tmp_path / "agent", 1, seed=5))
    assert (seeds, given) == ([derived_seed(5, "evaluation")], [5])
    assert evaluation_game(agent, "CartPole-v1", "sticky", 0.0, 5, {}).seed == derived_seed(5, "evaluation")
