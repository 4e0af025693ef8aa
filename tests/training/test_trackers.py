"""Trackers: what they send of a run and when, and that the run goes on whatever becomes of them."""

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, Callback, Policy, RunFailed, TrackioTracker, WandbTracker, preset
from pixelq.agents.errors import how_to_install
from pixelq.agents.evaluation import limits
from pixelq.agents.evaluation.scoring import Request
from pixelq.agents.runs.tracking import TRACKING, Record, read_record, tracked_by, write_record
from pixelq.agents.training.trackers import tracker
from pixelq.agents.training.trackers.tracker import Tracker
from pixelq.envs import make_vec
from tests.support.runs import TINY, copied, run_here, table, words
from tests.support.small_agents import small

SMALL = small(preset("classic"))
Row = tuple[int, dict[str, float]]


@dataclass
class Kept:
    """What a service keeps of one run."""

    options: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    policies: list[tuple[list[str], int, dict[str, bytes]]] = field(default_factory=list)
    films: list[tuple[int, bytes]] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)

    def steps(self, name: str) -> list[int]:
        return [step for step, values in self.rows if name in values]


class Service:
    """Stands in for wandb and trackio, whose calls it keeps by run; `broken` makes the calls of a name fail."""

    def __init__(self) -> None:
        self.runs: dict[str, Kept] = {}
        self.broken: set[str] = set()
        self.run: Any = None  # as wandb has the active run
        service = self

        class Artifact:
            def __init__(self, name: str, type: str, metadata: dict[str, Any]) -> None:
                assert (name, type) == (f"policy-{service.run.id}", "model")
                self.step, self.files = metadata["step"], {}

            def add_dir(self, folder: str) -> None:
                self.files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}

        class Video:
            def __init__(self, path: str, format: str = "mp4") -> None:
                self.content = Path(path).read_bytes()

        self.Artifact, self.Video = Artifact, Video

    def check(self, call: str) -> None:
        if call in self.broken:
            raise ConnectionError(f"{call}: no route to host")

    def init(self, **options: Any) -> Any:
        self.check("init")
        name = options["name"] if "embed" in options or options.get("resume") == "allow" else None
        name = options.get("id") or name or f"run{len(self.runs)}"
        kept = self.runs.setdefault(name, Kept())
        kept.options.append(options)
        kept.config = options.get("config", kept.config)
        self.run = types.SimpleNamespace(id=name, name=name, config=types.SimpleNamespace(update=self.update))
        self.run.log, self.run.log_artifact, self.run.finish = self.log, self.log_artifact, self.finish
        return self.run

    @property
    def now(self) -> Kept:
        return self.runs[self.run.id]

    def update(self, config: dict[str, Any], allow_val_change: bool) -> None:
        assert allow_val_change
        self.now.config = config

    def log(self, values: dict[str, Any], step: int) -> None:
        self.check("log")
        if "film" in values:
            self.now.films.append((step, values["film"].content))
        else:
            self.now.rows.append((step, values))

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        self.check("log_artifact")
        assert aliases[-1] == f"step-{artifact.step}"
        self.now.policies.append((aliases[:-1], artifact.step, artifact.files))

    def finish(self, exit_code: int = 0) -> None:
        self.now.ends.append(exit_code)
        self.run = None


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """wandb and trackio, which both keep their runs here."""
    found = Service()
    for library in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, library, found)  # type: ignore[arg-type]
    return found


def learn(out: Path, steps: int, tracker: Callback, *others: Callback, **options: Any) -> DQN:
    """An agent that learns in the run of a folder up to a step, with an evaluation and a row of metrics every 10."""
    envs, evaluation_envs = (make_vec("pixelq/Catch-v0", num_envs=1, seed=seed) for seed in (0, 1))
    space, actions = envs.single_observation_space, envs.single_action_space
    is_old = (out / "config.json").exists()
    agent = DQN.load(out / "checkpoints" / "latest", "cpu") if is_old else DQN(space, actions, SMALL, device="cpu")
    every: dict[str, Any] = {"log_every": 10, "evaluate_every": 10, "evaluation_episodes": 2, "resume": is_old}
    callbacks = [tracker, *others]
    return agent.learn(
        envs, steps - agent.step, out, evaluation_envs=evaluation_envs, callbacks=callbacks, **every | options
    )


TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "trackio": TrackioTracker}


@pytest.mark.parametrize("library", ["wandb", "trackio"])
def test_a_run_and_its_resumption_are_one_record(library: str, service: Service, tmp_path: Path) -> None:
    out = tmp_path / "run"
    learn(out, 20, TRACKERS[library]("games", film=False))
    learn(out, 30, TRACKERS[library]())  # in the same project
    ((name, kept),) = service.runs.items()
    assert [options["project"] for options in kept.options] == ["games", "games"]
    assert (name == "run0") if library == "wandb" else name.startswith("run-")
    assert kept.options[0]["name"].startswith("run")
    assert kept.config == json.loads((out / "config.json").read_text())
    # Rows have TensorBoard's names and the tables' numbers, each step once.
    metrics, evaluations = table(out / "metrics.csv"), table(out / "evaluations.csv")
    assert kept.steps("train/n_updates") == [row["step"] for row in metrics] == [10, 20, 30]
    assert kept.steps("eval/mean_reward") == [row["step"] for row in evaluations] == [10, 20, 30]
    assert kept.rows == sorted(kept.rows, key=lambda row: row[0])
    sent = {name: value for step, values in kept.rows for name, value in values.items() if step == 30}
    assert sent["eval/mean_reward"] == evaluations[-1]["mean"]
    assert sent["rollout/ep_rew_mean"] == pytest.approx(metrics[-1]["return_mean_100"])
    assert (sent["eval/mean_ep_length"], sent["train/n_updates"]) == (9, metrics[-1]["updates"])
    # The policies are loaded as such; the film is of the best one.
    best, latest = (int((out / "checkpoints" / mark).read_text().split("_")[1]) for mark in ("best", "latest"))
    assert {mark: step for names, step, _ in kept.policies for mark in names} == {"best": best, "latest": latest}
    (tmp_path / "policy").mkdir()
    _, step, files = kept.policies[-1]
    assert files.keys() == {"agent.json", "network.safetensors", "checksums.sha256"}
    for file, content in files.items():
        (tmp_path / "policy" / file).write_bytes(content)
    assert Policy.load(tmp_path / "policy", "cpu").step == step
    assert kept.films == [(30, (out / "film.mp4").read_bytes())]
    assert kept.ends == [0, 0]


def test_no_step_is_sent_twice_or_left_out(service: Service, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """A run that goes on from a checkpoint older than its record, and one whose tracker was unreachable meanwhile."""
    out, older = tmp_path / "run", tmp_path / "older"
    learn(out, 10, WandbTracker(film=False))
    copied(out, older)
    learn(out, 20, WandbTracker(film=False))
    (older / TRACKING).write_bytes((out / TRACKING).read_bytes())  # the record is at step 20, the checkpoint at 10
    learn(older, 30, WandbTracker(film=False))
    service.broken = {"init"}
    learn(older, 50, WandbTracker(film=False))
    assert [str(each.message).endswith("(init: no route to host)") for each in recwarn] == [True]
    service.broken = set()
    learn(older, 60, WandbTracker(film=False))
    (kept,) = service.runs.values()
    for name in ("time/fps", "eval/mean_reward"):
        assert kept.steps(name) == [10, 20, 30, 40, 50, 60]
    assert [step for step, _ in kept.rows] == sorted(step for step, _ in kept.rows)


@pytest.mark.parametrize("call", ["init", "log", "log_artifact"])
def test_a_tracker_that_fails_costs_one_sentence(call: str, service: Service, tmp_path: Path) -> None:
    service.broken = {call}
    with pytest.warns(UserWarning, match="Weights & Biases") as warned:
        learn(tmp_path / "run", 20, WandbTracker(film=False))
    assert [str(each.message) for each in warned] == [
        f"Weights & Biases no longer records the run, which continues ({call}: no route to host)"
    ]
    assert len(table(tmp_path / "run" / "metrics.csv")) == 2
    if call != "init":
        assert service.runs["run0"].ends == [0]  # it is closed all the same


def test_a_film_is_no_longer_than_that_of_the_command_line(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filmed: list[tuple[int | None, float]] = []

    def film(request: Request, path: Path, *, most_seconds: float) -> None:
        filmed.append((request.max_episode_steps, most_seconds))
        path.touch()

    monkeypatch.setattr(f"{tracker.__name__}.film", film)
    learn(tmp_path / "run", 10, WandbTracker(), description={"evaluation_episode_steps": 5})
    monkeypatch.setattr(limits, "is_atari", lambda env: env == "pixelq/Catch-v0")
    learn(tmp_path / "games", 10, WandbTracker(), description={"evaluation_episode_steps": 5})
    learn(tmp_path / "whole", 10, WandbTracker())
    assert filmed == [(None, 180.0), (5, 180.0), (None, 180.0)]


def test_a_film_that_fails_costs_the_film(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelq.agents.training.trackers.tracker.film", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match="Weights & Biases gets no film: division by zero"):
        learn(tmp_path / "run", 10, WandbTracker())
    assert (service.runs["run0"].films, service.runs["run0"].ends) == ([], [0])


@pytest.mark.parametrize(
    ("library", "title"), [("wandb", "Weights & Biases"), ("mlflow", "MLflow"), ("trackio", "Trackio")]
)
def test_a_library_that_is_missing_is_a_sentence(
    library: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    ended = run_here(["train", "--out", str(tmp_path / "run"), "--track", library])
    assert ended == (2, "", f"pixelq train: {title} needs {library}: {how_to_install(library)}\n")
    assert not (tmp_path / "run").exists()


def test_the_command_line_keeps_and_goes_on_with_a_record_if_it_is_told_to(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # without which there is no film, and no word of it
    monkeypatch.setattr("pixelq.scripts.train.plot_run", lambda run: run / "curve.png")
    out = tmp_path / "run"
    more = ["--track", "wandb", "--track-project", "games", "--progress", "none"]
    ended = run_here(["train", *words(TINY, out=out, steps=100), *more])
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(f"  continue  pixelq train --resume --out {out} --steps 200 --track wandb\n")
    config = json.loads((out / "config.json").read_text())
    assert "track" not in str(config)
    # A stranger's folder sends nothing anywhere.
    (out / "config.json").write_text(json.dumps(config | {"track": ["trackio"], "track_project": "x"}))
    again = ["train", "--resume", "--out", str(out), "--device", "cpu", "--steps"]
    ended = run_here([*again, "120"])
    assert (ended.code, service.runs.keys(), len(service.runs["run0"].options)) == (0, {"run0"}, 1)
    assert "pixelq train: the record of this run in wandb is continued only with --track wandb\n" in ended.err
    ended = run_here([*again, "120"])
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "has taken 120 of 120 steps already" in ended.err
    assert run_here([*again, "140", "--track", "wandb"]).code == 0
    assert [options["project"] for options in service.runs["run0"].options] == ["games", "games"]
    assert service.runs["run0"].steps("eval/mean_reward") == [100, 120, 140]


class Failing(Callback):
    def on_metrics(self, training: Any, row: dict[str, Any]) -> None:
        raise OSError("on purpose")


def test_a_run_that_fails_is_closed_as_such(service: Service, tmp_path: Path) -> None:
    tracker = WandbTracker(name="mine", policies=False, group="all")
    with pytest.raises(RunFailed, match="on purpose"):
        learn(tmp_path / "run", 20, tracker, Failing())
    (kept,) = service.runs.values()
    assert (kept.options[0]["name"], kept.options[0]["group"]) == ("mine", "all")
    assert (kept.ends, kept.policies, kept.films) == ([1], [], [])


def test_without_a_folder_several_calls_are_one_record(service: Service, tmp_path: Path) -> None:
    envs = make_vec("pixelq/Catch-v0", num_envs=1)
    space, actions = envs.single_observation_space, envs.single_action_space
    tracker = WandbTracker("games")
    for _ in range(2):  # agents: a new one begins a new record
        agent = DQN(space, actions, SMALL, device="cpu")
        for _ in range(2):
            agent.learn(envs, 20, log_every=10, callbacks=[tracker])
    assert [kept.steps("time/fps") for kept in service.runs.values()] == [[10, 20, 30, 40]] * 2
    assert service.runs["run0"].config["agent"]["hidden"] == SMALL.hidden
    assert not list(tmp_path.iterdir())


def test_a_run_of_wandb_that_is_active_is_used_and_left_open(service: Service) -> None:
    service.init(project="sweep", id="sweeping")
    envs = make_vec("pixelq/Catch-v0", num_envs=1)
    agent = DQN(envs.single_observation_space, envs.single_action_space, SMALL, device="cpu")
    agent.learn(envs, 10, callbacks=[WandbTracker()])
    assert (service.runs["sweeping"].steps("time/fps"), service.runs["sweeping"].ends) == ([10], [])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"wandb": 1}',
        '{"wandb": {"run": 1}}',
        '{"wandb": {"run": "", "steps": {"metrics": -1}}}',
        "[" * 9999,
    ],
)
def test_a_damaged_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / TRACKING).write_text(text)
    with pytest.raises(ValueError, match=r"wandb|object|deeply|Expecting"):
        read_record(tmp_path, "wandb")


def test_each_tracker_has_a_record_of_its_own(tmp_path: Path) -> None:
    for library, record in (("wandb", Record("x", None)), ("mlflow", Record("y", "games", {"metrics": 3}))):
        write_record(tmp_path, library, record)
        assert read_record(tmp_path, library) == record
    assert read_record(tmp_path, "trackio") is None
    assert tracked_by(tmp_path) == ["wandb", "mlflow"]
