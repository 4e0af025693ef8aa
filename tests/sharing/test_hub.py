"""Policies on the Hub: written with a card, loaded as any checkpoint, with a sentence for whatever is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
from huggingface_hub import ModelCard

from pixelq.agents import DQN, AgentConfig, InvalidCheckpoint, MissingExtra, Policy, load
from pixelq.agents.evaluation.film import check_films
from pixelq.agents.sharing.card import card
from pixelq.agents.storage.checkpoint_files import AGENT, NETWORK
from pixelq.agents.storage.files import CHECKSUMS
from pixelq.agents.storage.hub import MOST_DOWNLOAD, hub_folder, is_on_hub, pinned, repository, written
from pixelq.envs import make_vec
from pixelq.scripts import push
from tests.support.hub_server import TOKEN, Hub, serving
from tests.support.runs import Ended, run_here

REPO = "org/DQN-CartPole-v1"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server, at which the library of the Hub looks, and a token for it."""
    with serving() as server:
        constants = huggingface_hub.constants
        for name, value in {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def made(folder: Path, seed: int = 0) -> Path:
    """A checkpoint of an agent that knows its environment."""
    envs = make_vec("CartPole-v1", 1)
    config = AgentConfig(encoder="mlp", hidden=8)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=seed)
    agent.env_id, agent.protocol, agent.step = "CartPole-v1", "gymnasium", 500
    agent.save(folder)
    return folder


def pushed(folder: Path, *flags: str) -> Ended:
    return run_here(["push", str(folder), REPO, "--episodes", "4", "--device", "cpu", "--no-film", *flags])


def test_a_policy_is_pushed_and_loaded(hub: Hub, tmp_path: Path) -> None:
    folder = made(tmp_path / "agent")
    ended = pushed(folder)
    assert (ended.code, ended.err) == (0, "")
    assert f"repository  {hub.address}/{REPO}" in ended.out
    files = hub.files(REPO)
    names = {AGENT, NETWORK, CHECKSUMS, "config.json", "results.json", "README.md"}
    assert set(files) == names | {".gitattributes"}
    assert len(hub.repos[REPO]) == 2  # the empty one, and a single commit
    assert files[NETWORK] == (folder / NETWORK).read_bytes()
    assert json.loads(files["config.json"])["agent"]["hidden"] == 8
    own = Policy.load(folder, "cpu")
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    for agent in (
        load(f"hf://{REPO}", "cpu"),
        DQN.load(f"hf://{REPO}", "cpu"),
        Policy.load(Path(f"hf://{REPO}"), "cpu"),
    ):
        np.testing.assert_array_equal(agent.q_values(obs).numpy(), own.q_values(obs).numpy())
    scored = run_here(["evaluate", f"hf://{REPO}", "--episodes", "4", "--json", "--device", "cpu"])
    figures = json.loads(scored.out)
    assert figures["returns"] == json.loads(files["results.json"])["returns"]
    assert figures["checkpoint"] == f"hf://{REPO}@{hub.repos[REPO][-1][0]}"
    assert figures["mark"] == REPO


def test_the_card_has_what_the_hubs_pages_read(hub: Hub, tmp_path: Path) -> None:
    assert pushed(made(tmp_path / "agent"), "--private").code == 0
    files = hub.files(REPO)
    assert hub.private == {REPO}
    results = json.loads(files["results.json"])
    assert results["n_eval_episodes"] == 4
    assert results["is_deterministic"] is True
    assert results["mean_reward"] == np.mean(results["returns"])
    assert results["std_reward"] == np.std(results["returns"])
    assert results["eval_datetime"].startswith("20")
    data = ModelCard(files["README.md"].decode()).data
    assert data.library_name == "pixelq"
    assert data.tags == ["CartPole-v1", "deep-reinforcement-learning", "reinforcement-learning", "pixelq"]
    assert data.model_name == "DQN"
    (result,) = data.eval_results
    assert (result.task_type, result.task_name) == ("reinforcement-learning",) * 2
    assert (result.dataset_type, result.dataset_name) == ("CartPole-v1",) * 2
    assert (result.metric_type, result.metric_name, result.verified) == ("mean_reward", "mean_reward", False)
    assert result.metric_value == f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"


def test_the_card_of_cut_games_says_so(hub: Hub, tmp_path: Path) -> None:
    policy = Policy.load(made(tmp_path / "agent"), "cpu")
    figures = {
        **{"mean": 5.0, "std": 0.0, "ci95": [5.0, 5.0], "step": 9, "frames": 9, "episodes": 3, "protocol": "gymnasium"},
        **{"human_normalized": 0.5, "cut": 2, "max_episode_steps": 1200},
    }
    text = card(REPO, policy, figures, has_film=False)
    assert "over 3 episodes (2 of them cut off after 1,200 steps) under" in text
    assert "human-normalised" not in text
    whole = card(REPO, policy, figures | {"cut": 0}, has_film=False)
    assert "over 3 full episodes under" in whole
    assert "| human-normalised | 50%" in whole
    assert "--import" not in whole
    policy.env_id = "own:Line"
    text = card(REPO, policy, figures, has_film=False)
    assert f"pixelq evaluate hf://{REPO} --episodes 10 --import own\n" in text
    assert "The repository does not hold the code of own." in text


@pytest.mark.slow
def test_a_run_is_pushed_with_its_film_and_its_command(hub: Hub, tmp_path: Path) -> None:
    """In a process of its own, which finds the Hub by its environment variables."""
    run, env = tmp_path / "run", {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "cache")}
    env = {**os.environ, **env, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    steps = ["--steps", "120", "--agent.learning-starts", "60", "--final-episodes", "2", "--progress", "none"]
    trained = run_here(["train", "--env", "CartPole-v1", "--out", str(run), "--device", "cpu", *steps])
    assert trained.code == 0, trained.err
    command = [
        sys.executable,
        "-m",
        "pixelq.scripts.main",
        "push",
        str(run),
        REPO,
        "--episodes",
        "2",
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    files, config = hub.files(REPO), json.loads((run / "config.json").read_text())
    assert json.loads(files["config.json"]) == config
    card = files["README.md"].decode()
    assert "pixelq train --env CartPole-v1 --preset classic --steps 120 --" in card
    try:
        check_films()
    except MissingExtra:
        assert "replay.mp4" not in files
        return
    assert files["replay.mp4"][4:8] == b"ftyp"
    assert "`replay.mp4` is an episode" in card
    # A film of another policy does not stay
    assert pushed(made(tmp_path / "agent", 1)).code == 0
    assert "replay.mp4" not in hub.files(REPO)


def test_a_revision_stays_what_it_was(hub: Hub, tmp_path: Path) -> None:
    assert pushed(made(tmp_path / "one", 1)).code == 0
    first = hub.repos[REPO][-1][0]
    assert pinned(f"hf://{REPO}") == Path(f"hf://{REPO}@{first}")
    assert pushed(made(tmp_path / "two", 2)).code == 0
    weights = {
        name: Policy.load(tmp_path / name, "cpu").network.head.streams.advantage.out.bias for name in ("one", "two")
    }
    for reference, name in ((f"hf://{REPO}@{first}", "one"), (f"hf://{REPO}", "two"), (f"hf://{REPO}@main", "two")):
        assert Policy.load(reference, "cpu").network.head.streams.advantage.out.bias.equal(weights[name])
    asked = len(hub.requests)
    Policy.load(f"hf://{REPO}@{first}", "cpu")
    assert len(hub.requests) == asked  # a commit that is here needs no connection


def test_without_a_connection_the_cache_serves(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pushed(made(tmp_path / "agent")).code == 0
    Policy.load(f"hf://{REPO}", "cpu")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    assert Policy.load(f"hf://{REPO}", "cpu").step == 500
    ended = run_here(["evaluate", "hf://org/other"])
    assert ended.code == 2
    assert ended.err.startswith("pixelq evaluate: the Hub cannot be reached for org/other (ConnectError: ")
    assert ended.err.count("\n") == 1
    ended = pushed(made(tmp_path / "agent"))
    assert ended.code == 2
    assert "the Hub cannot be reached for" in ended.err


def test_what_is_downloaded_is_checked_as_any_checkpoint(hub: Hub, tmp_path: Path) -> None:
    assert pushed(made(tmp_path / "agent")).code == 0
    good = hub.files(REPO)
    hub.commit(REPO, good | {"pickled.pkl": b"no", "agents/__init__.py": b"raise SystemExit"})
    folder = hub_folder(f"hf://{REPO}")
    assert {path.name for path in folder.rglob("*")} == {AGENT, NETWORK, CHECKSUMS, "config.json"}
    damage: dict[str, tuple[dict[str, bytes], str]] = {
        AGENT: (
            good | {AGENT: good[AGENT].replace(b'"step": 500', b'"step": 501')},
            "agent.json is not what was written",
        ),
        NETWORK: (good | {NETWORK: good[NETWORK][:-1] + b"x"}, "network.safetensors is not what was written"),
        CHECKSUMS: ({name: data for name, data in good.items() if name != CHECKSUMS}, "checksums.sha256 is missing"),
        "empty": ({"README.md": b"nothing"}, "holds no policy of pixelq: agent.json is missing"),
    }
    for files, sentence in damage.values():
        hub.commit(REPO, files)
        with pytest.raises(InvalidCheckpoint, match=sentence):
            Policy.load(f"hf://{REPO}", "cpu")


def test_what_is_too_large_is_not_downloaded(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pushed(made(tmp_path / "agent")).code == 0
    assert MOST_DOWNLOAD == 2**33
    monkeypatch.setattr("pixelq.agents.storage.hub.MOST_DOWNLOAD", 100)
    asked = len(hub.requests)
    with pytest.raises(InvalidCheckpoint, match=f"{REPO} on the Hub is too large"):
        Policy.load(f"hf://{REPO}", "cpu")
    assert not any("/resolve/" in request for request in hub.requests[asked:])


def test_paths_on_the_hub() -> None:
    assert repository("hf://org/name") == ("org/name", None)
    assert repository(Path("hf://org/name@v1.0")) == ("org/name", "v1.0")
    assert written(Path("hf://org/name")) == "hf://org/name"
    assert written(Path("runs/hf")) == "runs/hf"
    assert not is_on_hub("runs/hf")
    for path in ("hf://org", "hf://org/name/file", "hf://../../etc", "hf://org/na me", "hf://org/name@../x"):
        with pytest.raises(InvalidCheckpoint, match="must be hf://ORG/NAME or hf://ORG/NAME@REVISION"):
            repository(path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "hf://org/none"], "there is no repository org/none on the Hub that may be used from here"),
        (["evaluate", "hf://org"], "hf://org must be hf://ORG/NAME"),
        (["evaluate", "hf://org/here@v9"], "org/here on the Hub has no revision v9"),
        (["export", "hf://org/none", "--out", "file"], "there is no repository org/none"),
        (["push", "agent", "name"], "the repository must be ORG/NAME, got 'name'"),
        (["push", "agent", "../x"], "the repository must be ORG/NAME"),
        (["push", "agent", "stranger/name"], "stranger/name must be of tester or org, for which the token is"),
        (["push", "none", "org/name"], "none does not exist"),
        (["push", "hf://org/here", "org/name"], "must be a run or a checkpoint of this machine"),
        (["push", "agent", "org/name", "--episodes", "1"], "--episodes must be at least 2, got 1"),
    ],
)
def test_bad_input(
    arguments: list[str], sentence: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "agent")
    monkeypatch.chdir(tmp_path)
    hub.commit("org/here", {"README.md": b""})
    ended = run_here(arguments)
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.count("\n") == 1
    assert set(hub.repos) == {"org/here"}


def test_tokens_and_the_extra(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "agent")
    monkeypatch.setenv("HF_TOKEN", "another")
    assert "401 about org/DQN-CartPole-v1: the token is not valid; set HF_TOKEN" in pushed(folder).err
    monkeypatch.delenv("HF_TOKEN")
    ended = pushed(folder)
    assert ended.code == 2
    assert "can only be written with a token of the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN" in ended.err
    assert hub.repos == {}
    hub.commit(REPO, {})
    hub.private.add(REPO)
    assert "there is no repository" in run_here(["evaluate", f"hf://{REPO}"]).err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (["push", str(folder), REPO], ["evaluate", f"hf://{REPO}"]):
        ended = run_here(arguments)
        assert ended.code == 2
        assert "needs huggingface_hub: pip install 'pixelq[hub]'" in ended.err
    with pytest.raises(MissingExtra, match=f"hf://{REPO} needs huggingface_hub"):
        load(f"hf://{REPO}")


def test_what_is_said_of_the_training_is_the_policys_own(tmp_path: Path) -> None:
    agent = load(made(tmp_path / "models" / "agent"), "cpu")
    other = {"env": "CartPole-v1", "protocol": "gymnasium", "agent": {}, "seed": 7}
    (tmp_path / "config.json").write_text(json.dumps(other))
    assert push._config(tmp_path / "models" / "agent", agent)["seed"] == 0
    (tmp_path / "models" / "agent" / "config.json").write_text(json.dumps(other | {"seed": 8}))  # as of a packed one
    assert push._config(tmp_path / "models" / "agent", agent)["seed"] == 8
    (tmp_path / "checkpoints").mkdir()
    assert push._config(made(tmp_path / "checkpoints" / "step_1"), agent)["seed"] == 7  # in a run
