"""Trackers with the services' own libraries, offline."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, MlflowTracker, Policy, WandbTracker, preset
from pixelq.envs import make_vec
from tests.support.runs import table
from tests.support.small_agents import small


def learn(out: Path, steps: int, tracker: Any) -> None:
    """Learn in the run of a folder up to a step, with an evaluation and a row of metrics every 10."""
    envs, evaluation_envs = (make_vec("pixelq/Catch-v0", num_envs=1, seed=seed) for seed in (0, 1))
    space, actions = envs.single_observation_space, envs.single_action_space
    is_old = (out / "config.json").exists()
    config = small(preset("classic"))
    agent = DQN.load(out / "checkpoints" / "latest", "cpu") if is_old else DQN(space, actions, config, device="cpu")
    every: dict[str, Any] = {"log_every": 10, "evaluate_every": 10, "evaluation_episodes": 2, "resume": is_old}
    agent.learn(envs, steps - agent.step, out, evaluation_envs=evaluation_envs, callbacks=[tracker], **every)


BLOCK, HEAD = 2**15, 7


def records(file: Path) -> list[Any]:
    """The records in a file of wandb: after 7 bytes, a log in the format of LevelDB that holds protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts, found = file.read_bytes(), HEAD, b"", []
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:  # a block's end is padded where no head fits
            place += BLOCK - place % BLOCK
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off", "API_KEY": "x" * 40}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    out = tmp_path / "run"
    learn(out, 20, WandbTracker("games", film=False))
    learn(out, 30, WandbTracker(film=False))
    files = sorted((out / "wandb").glob("offline-run-*/*.wandb"))
    run = json.loads((out / "tracking.json").read_text())["wandb"]["run"]
    assert [file.name for file in files] == [f"run-{run}.wandb"] * 2
    deadline = time.monotonic() + 30
    while not all(records(file)[-1].HasField("exit") for file in files):  # its own process writes them
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = [record for file in files for record in records(file)]
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert {(each.run_id, each.project, each.display_name) for each in runs} == {(run, "games", "run")}
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    rows = [row for row in rows if "train/n_updates" in row]
    metrics, evaluations = table(out / "metrics.csv"), table(out / "evaluations.csv")
    assert [(row["_step"], row["train/n_updates"]) for row in rows] == [(m["step"], m["updates"]) for m in metrics]
    assert [row["eval/mean_reward"] for row in rows] == [row["mean"] for row in evaluations]
    artifacts = [each.request.log_artifact.artifact for each in found if each.request.HasField("log_artifact")]
    artifacts += [each.artifact for each in found if each.WhichOneof("record_type") == "artifact"]
    assert {each.name for each in artifacts} == {f"policy-{run}"}
    # No key is written.
    assert not [path for path in out.rglob("*") if path.is_file() and b"x" * 40 in path.read_bytes()]


@pytest.mark.slow
def test_mlflow_in_a_local_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    out = tmp_path / "run"
    learn(out, 20, MlflowTracker("games", film=False))
    learn(out, 30, MlflowTracker(film=False))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("games").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert (run.data.params["env"], run.data.params["agent.hidden"]) == ("pixelq/Catch-v0", "16")
    for name, key, path in (
        ("train/n_updates", "updates", out / "metrics.csv"),
        ("eval/mean_reward", "mean", out / "evaluations.csv"),
    ):
        sent = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        assert sent == [(row["step"], row[key]) for row in table(path)]
    place = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path / "sent")))
    assert json.loads((place / "config.json").read_text()) == json.loads((out / "config.json").read_text())
    assert Policy.load(place / "latest", "cpu").step == 30
