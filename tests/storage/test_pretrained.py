"""Policies that come with the package: which there are, by which names, and how they are packed."""

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelq.agents import DQN, PQN, AgentConfig, Evaluation, InvalidCheckpoint, Linear, Piecewise, load, preset
from pixelq.agents.evaluation.scoring import checkpoints_of, request_of
from pixelq.agents.results.formatting import describe_rules
from pixelq.agents.results.records import differences
from pixelq.agents.results.scores import read_score
from pixelq.agents.storage import pretrained
from pixelq.agents.storage.checkpoint import FOR_ACTING, read_checkpoint
from pixelq.agents.storage.files import CHECKSUMS, digest_of_file, read_checksums
from pixelq.envs import InvalidEnv, make_vec
from pixelq.scripts import pack
from pixelq.scripts.flags import pack as pack_flags
from pixelq.scripts.flags import train as train_flags
from tests.support.runs import TINY, run_here, words
from tests.support.small_agents import SMALL, filled, seal

LEAST = {"demo": 18.0, "freeway": 29.0}
"""Below the 95% intervals of the mean returns of the agents that ship."""
NAMES = ["agent.json", "checksums.sha256", "config.json", "evaluation.json", "network.safetensors", "README.md"]


def values_of(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_pretrained_policies() -> None:
    assert pretrained.names() == ["demo", "freeway", "pong"]
    assert {each.name: each.protocol for each in pretrained.pretrained_policies()} == {
        "freeway": "envpool",
        "pong": "envpool",
    }
    assert [each.name for each in pretrained.pretrained_policies()] == sorted(
        set(pretrained.names()) - set(pretrained.ALIASES)
    )
    assert pretrained.pretrained_folder("demo") == pretrained.pretrained_folder("pong") == pretrained.FOLDER / "pong"
    for each in pretrained.pretrained_policies():
        folder = pretrained.pretrained_folder(each.name)
        assert sorted((path.name for path in folder.iterdir()), key=str.lower) == NAMES
        assert read_checksums(folder) == {n: digest_of_file(folder / n) for n in NAMES if n != CHECKSUMS}
        assert each.size == sum((folder / name).stat().st_size for name in NAMES) < 10e6
        figures, config = values_of(folder, "evaluation.json"), values_of(folder, "config.json")
        assert (each.env, each.steps, each.mean) == (figures["env"], figures["step"], figures["mean"])
        assert each.frames == 4 * each.steps
        assert each.episodes == len(figures["returns"]) >= 50
        assert each.mean == pytest.approx(np.mean(figures["returns"]))
        assert each.ci95[0] <= each.mean <= each.ci95[1]
        assert figures["weights"] == digest_of_file(folder / "network.safetensors")
        assert figures["checkpoint"] == figures["mark"] == each.name
        assert (config["env"], config["seed"] >= 0, config["hardware"]["torch"] != "") == (each.env, True, True)
        assert config["steps"] >= each.steps - config["num_envs"]
        card = (folder / "README.md").read_text()
        assert f"{each.steps:,} steps ({each.frames:,} frames)" in card
        assert f"| {each.mean:.1f} ({each.ci95[0]:.1f} to {each.ci95[1]:.1f}) over".replace("-", "−") in card
        assert config["command"] in re.sub(r" \\\n +", " ", card)
        for name in ("agent.json", "config.json", "evaluation.json", "README.md"):
            assert not re.search(r"(?<![\w.])/(root|home|work|tmp|Users|mnt)\b", (folder / name).read_text()), name
        assert read_score(folder / "evaluation.json").mean == each.mean  # as any evaluation, beside its config.json


def test_it_is_loaded_by_name() -> None:
    agent = load("demo", device="cpu")
    envs = make_vec("ALE/Pong-v5", 2, 0, "envpool", frame_size=42)
    try:
        assert agent.fits(envs)
        obs, _ = envs.reset()
        for _ in range(30):
            obs, *_ = envs.step(agent.predict(obs)[0])
    finally:
        envs.close()
    assert (agent.env_id, agent.protocol, agent.step) == (
        "ALE/Pong-v5",
        "envpool",
        next(each.steps for each in pretrained.pretrained_policies() if each.name == "pong"),
    )
    assert agent.config == AgentConfig.from_dict(
        values_of(pretrained.pretrained_folder("demo"), "config.json")["agent"]
    )
    q = agent.q_values(obs)
    assert q.shape == (2, 6)
    assert q.isfinite().all()
    assert (q.std(1) > 0).all()
    for other in ("demo", "pong", Path("demo"), pretrained.pretrained_folder("pong")):
        assert torch.equal(PQN.load(other, "cpu").q_values(obs), q)
    with pytest.raises(InvalidCheckpoint, match=r"PQN"):
        DQN.load("demo", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST)
def test_it_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As well as its figures say, far above random play; and it is filmed."""
    monkeypatch.chdir(tmp_path)
    ended = run_here(["evaluate", name, "--video", "out/", "--episodes", "1", "--device", "cpu", "--json"])
    assert ended.code == 0, ended.err
    figures, expected = json.loads(ended.out), values_of(pretrained.pretrained_folder(name), "evaluation.json")
    assert figures["mean"] >= expected["mean"] - 4 * expected["std"]
    assert expected["ci95"][0] >= LEAST[name]
    assert (figures["checkpoint"], figures["mark"], figures["weights"]) == (name, name, expected["weights"])
    (film,) = (tmp_path / "out").iterdir()
    game = expected["env"].removeprefix("ALE/")
    assert film.name == f"{game}-step{expected['step']}-seed0.mp4"
    assert film.stat().st_size > 10_000


def test_the_list() -> None:
    ended = run_here(["evaluate", "--list"])
    assert (ended.code, ended.err) == (0, "")
    header, *rows, empty, use = ended.out.splitlines()
    assert header.split() == "name environment steps frames mean return (95% interval) played size".split()
    assert (empty, use) == ("", 'pixelq evaluate demo --video out   or, in Python, pixelq.agents.load("demo")')
    for row, each in zip(rows, pretrained.pretrained_policies(), strict=True):
        low, high = each.ci95
        assert re.split(r"  +", row) == [
            ", ".join((each.name, *each.aliases)),
            each.env,
            f"{each.steps:,}",
            f"{each.frames:,}",
            f"{each.mean:.1f} ({low:.1f} to {high:.1f})",
            f"{each.episodes} episodes, {describe_rules(each.protocol)}",
            f"{each.size / 1e6:.1f} MB",
        ]


def test_the_list_as_json(tmp_path: Path) -> None:
    expected = json.loads(json.dumps([dataclasses.asdict(each) for each in pretrained.pretrained_policies()]))
    assert json.loads(run_here(["evaluate", "--list", "--json"]).out) == expected
    ended = run_here(["evaluate", "--list", "--json", str(tmp_path / "list.json")])
    assert json.loads((tmp_path / "list.json").read_text()) == expected
    assert ended.out == run_here(["evaluate", "--list"]).out


def test_the_list_without_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    assert run_here(["evaluate", "--list"]).out == "no policy comes with this pixelq\n"
    with pytest.raises(InvalidCheckpoint, match=r"demo does not exist; .*; pixelq comes with no policy"):
        load("demo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--list", "demo"], "--list plays nothing; give no other flag with it than --json"),
        (["evaluate", "--list", "--video", "out"], "--list plays nothing"),
        (["evaluate"], "give the folder of a run or a checkpoint, or demo, a pretrained policy"),
        (
            ["evaluate", "Dmeo"],
            "Dmeo does not exist; give the folder of a run or a checkpoint; perhaps you meant ",
        ),
        (["evaluate", "ping"], "perhaps you meant pong, which comes with pixelq"),
        (["evaluate", "runs/no"], "pixelq comes with demo and "),
        (["evaluate", "demo", "--which", "last"], "demo is a checkpoint and not a run; leave out --which"),
        (["train", "--resume", "--out", "demo"], "no run in demo; leave out --resume"),
        (
            ["train", "--resume", "--out", str(pretrained.FOLDER / "pong")],
            "holds an agent without its run; it can be loaded",
        ),
        (["report", "demo"], "no run in "),
        (["report", str(pretrained.FOLDER / "pong")], "no run in "),
        (["compare", "demo", "--out", "picture.png"], "no run in "),
    ],
)
def test_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in pretrained.pretrained_folder("demo").iterdir())
    ended = run_here(arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert message in ended.err
    assert sorted(path.name for path in pretrained.pretrained_folder("demo").iterdir()) == before


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filled(AgentConfig(**SMALL)).save("demo")
    assert DQN.load("demo", "cpu").num_actions == 3
    assert checkpoints_of(Path("demo"), None) == [Path("demo")]
    shutil.rmtree("demo")
    assert load("demo", "cpu").num_actions == 6
    Path("demo").mkdir()
    with pytest.raises(
        InvalidCheckpoint, match=r"no checkpoint in demo; .*; from another folder, demo is the policy that comes"
    ):
        DQN.load("demo", "cpu")
    with pytest.raises(InvalidCheckpoint, match="cartpole is no policy that comes with pixelq; pixelq comes with demo"):
        pretrained.pretrained_folder("cartpole")


def test_beside_other_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of one policy are two lines of one score."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "pixelq.agents.evaluation.scoring.evaluate", lambda *_, **__: Evaluation("ALE/Pong-v5", (3.0, 5.0), (900, 900))
    )
    filled(AgentConfig(**SMALL)).save("mine")
    assert "does not say which environment" in run_here(["evaluate", "demo", "mine"]).err
    command = ["evaluate", "demo", "pong", "--episodes", "2", "--device", "cpu", "--results", "scores.jsonl"]
    ended = run_here(command)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split(" · ")[1].split()[0] for line in lines] == [line.split(" · ")[-1] for line in lines]
    assert [line.split(" · ")[-1] for line in lines] == ["demo", "pong"]
    (line,) = Path("scores.jsonl").read_text().splitlines()
    assert json.loads(line)["checkpoint"] in ("demo", "pong")
    assert run_here([*command, "--json"]).code == 0


def test_saved_for_acting(tmp_path: Path) -> None:
    """A quarter of the size and the same values; it learns on with a new optimiser and a copy as target network."""
    agent = filled(AgentConfig(**SMALL, head="fqf", noisy=True))
    assert agent.replay is not None
    for _ in range(3):
        agent.learner.update(agent.replay.sample(8))
    agent.step = 70
    agent.save(tmp_path / "whole")
    agent.save(tmp_path / "acting", for_acting=True)
    assert {path.name for path in (tmp_path / "acting").iterdir()} == {"agent.json", "network.safetensors", CHECKSUMS}
    size = {name: sum(p.stat().st_size for p in (tmp_path / name).iterdir()) for name in ("whole", "acting")}
    assert size["acting"] < 0.35 * size["whole"]
    whole, acting = (DQN.load(tmp_path / name, "cpu") for name in ("whole", "acting"))
    obs = np.random.default_rng(0).integers(256, size=(5, 4, 44, 44), dtype=np.uint8)
    assert torch.equal(acting.q_values(obs), whole.q_values(obs))
    assert (acting.step, acting.rng.random()) == (70, whole.rng.random())
    assert all(map(torch.equal, acting.learner.target_network.parameters(), acting.network.parameters()))
    assert not all(map(torch.equal, whole.learner.target_network.parameters(), whole.network.parameters()))
    assert not any(optimizer.state_dict()["state"] for optimizer in acting.learner.optimizers.values())
    assert acting.learner.update(agent.replay.sample(8)).loss.isfinite()
    assert not torch.equal(acting.q_values(obs), whole.q_values(obs))
    acting.save(tmp_path / "acting")  # whole again, in the place of the other
    assert torch.equal(DQN.load(tmp_path / "acting", "cpu").q_values(obs), acting.q_values(obs))
    assert (tmp_path / "acting" / "learner.safetensors").exists()


def test_a_lost_learner_is_no_declared_one(tmp_path: Path) -> None:
    """Only a description with its checksum says that an agent has none, and only by the word that ``save`` writes."""
    agent = filled(AgentConfig(**SMALL))
    agent.save(tmp_path / "agent")
    (tmp_path / "agent" / "learner.safetensors").unlink()
    path = tmp_path / "agent" / "agent.json"
    state = json.loads(path.read_text())
    for changes, is_sealed, message in (
        ({}, True, r"learner\.safetensors"),
        ({FOR_ACTING: True}, False, r"agent\.json is not what was written"),
        ({FOR_ACTING: 1}, True, r"learner\.safetensors"),
        ({FOR_ACTING: "true"}, True, r"learner\.safetensors"),
        ({FOR_ACTING: False}, True, r"learner\.safetensors"),
        ({FOR_ACTING: True, "format": 2}, True, r"learner\.safetensors"),
    ):
        path.write_text(json.dumps(state | changes))
        if is_sealed:
            seal(tmp_path / "agent")
        with pytest.raises(InvalidCheckpoint, match=message):
            DQN.load(tmp_path / "agent", "cpu")
    path.write_text(json.dumps(state | {FOR_ACTING: True}))
    seal(tmp_path / "agent")
    assert read_checkpoint(tmp_path / "agent").learner is None
    assert DQN.load(tmp_path / "agent", "cpu").num_actions == 3


@pytest.mark.parametrize("name", ["network.safetensors", "agent.json", CHECKSUMS])
@pytest.mark.parametrize("damage", ["cut", "removed", "noise"])
def test_damaged_agents_for_acting_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    filled(AgentConfig(**SMALL)).save(tmp_path / "agent", for_acting=True)
    path = tmp_path / "agent" / name
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else bytes(range(256)) * 9)
    with pytest.raises(InvalidCheckpoint) as refusal:
        DQN.load(tmp_path / "agent", "cpu")
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "run"
    ended = run_here(["train", *words(TINY, steps=300, evaluate_every=150, out=out), "--agent.dueling"])
    assert ended.code == 0, ended.err
    return out


def test_a_policy_is_packed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "policies")
    command = ["--into", str(tmp_path / "policies"), "--episodes", "5", "--name"]
    pack.main(pack_flags.read([str(run), *command, "catch"]))
    (best,), (found,) = checkpoints_of(run, None), pretrained.pretrained_policies()
    assert (found.name, found.aliases, found.env, found.episodes) == ("catch", (), "pixelq/Catch-v0", 5)
    assert (pretrained.names(), found.steps, found.frames) == (["catch"], int(best.name[5:]), int(best.name[5:]))
    folder = tmp_path / "policies" / "catch"
    assert sorted((path.name for path in folder.iterdir()), key=str.lower) == NAMES
    config, figures = values_of(folder, "config.json"), values_of(folder, "evaluation.json")
    assert config == values_of(run, "config.json") | {"command": pack.command_of(config)}
    for name in NAMES[:-2]:
        assert str(tmp_path.parent) not in (folder / name).read_text()
    fresh = json.loads(run_here(["evaluate", "catch", "--episodes", "5", "--device", "cpu", "--json"]).out)
    assert fresh == figures
    obs = np.random.default_rng(0).integers(
        256, size=(3, *DQN.load(best, "cpu").observation_space.shape), dtype=np.uint8
    )
    assert torch.equal(DQN.load("catch", "cpu").q_values(obs), DQN.load(best, "cpu").q_values(obs))
    assert "unknown" in (folder / "README.md").read_text()
    before = (folder / "network.safetensors").read_bytes()
    pack.main(pack_flags.read([str(run), *command, "catch", "--which", "last"]))  # in its place
    assert values_of(folder, "evaluation.json")["step"] == 300
    assert (tmp_path / "policies" / ".catch.old").exists() is False
    assert len(before) == (folder / "network.safetensors").stat().st_size
    (folder / "evaluation.json").write_text("{}")
    assert "evaluation.json is not what was written" in run_here(["evaluate", "--list"]).err
    seal(folder)
    assert "evaluation.json is damaged ('ci95'); install pixelq again" in run_here(["evaluate", "--list"]).err


@pytest.mark.parametrize("name", ["demo", "../x", "Pong", ""])
def test_odd_names_are_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"--name must be|argument is empty"):
        pack_flags.read([str(run), "--name", name, "--into", str(tmp_path / "policies")])
    assert not (tmp_path / "policies").exists()


def test_the_command_is_that_of_the_run(run: Path) -> None:
    config = values_of(run, "config.json")
    command = pack.command_of(config)
    assert command.startswith("pixelq train --env pixelq/Catch-v0 --preset classic --steps 300 --num-envs ")
    assert "--agent.dueling" in command.split()
    arguments = command.split()[2:]
    args = train_flags.read(arguments)
    assert args.agent.to_dict() == config["agent"]
    for name in pack.FLAGS:
        if name not in ("protocol", "flicker"):  # Catch has its own rules
            assert (getattr(args, name) or None) == (config.get(name) or None)  # what is not given may be left out


def test_flags_of_all_kinds_are_written_as_they_are_read(run: Path) -> None:
    config = values_of(run, "config.json")
    other = dataclasses.replace(
        preset("rainbow"), noisy=False, epsilon_start=0.5, dueling=False, max_grad_norm=None, reward_clip=None
    )
    config |= {"preset": "rainbow", "agent": other.to_dict(), "full_action_space": True, "protocol": "nature"}
    config |= {"max_episode_steps": 9}
    arguments = pack.command_of(config).split()[2:]
    assert {"--agent.no-noisy", "--agent.no-dueling", "--full-action-space"} <= set(arguments)
    args = train_flags.read(arguments)
    assert (args.agent, args.full_action_space, args.protocol) == (other, True, "nature")
    assert args.max_episode_steps == 9


def test_the_command_gives_schedules_and_no_frame_size_twice(run: Path) -> None:
    epsilon = Piecewise((0, Linear(1.0, 0.1, 300)), (300, Linear(0.1, 0.01, 1_500)))
    agent = dataclasses.replace(preset("quick"), epsilon=epsilon)
    config = values_of(run, "config.json") | {"preset": "quick", "env": "ALE/Pong-v5", "protocol": "envpool"}
    config |= {"agent": agent.to_dict(), "env_arguments": {"frame_stack": 4, "frame_size": 42}}
    command = pack.command_of(config)
    assert "--frame-size" not in command
    assert train_flags.read(shlex.split(command)[2:]).agent == agent
    assert differences(config, preset("quick"), "envpool") == {"epsilon": epsilon.to_dict()}


@pytest.mark.parametrize("rules", [{"protocol": "nature+flicker=0.5"}, {"protocol": "nature", "flicker": 0.5}])
def test_the_command_gives_protocol_and_flicker(run: Path, rules: dict[str, Any]) -> None:
    """As configurations store them now, and as those of 0.1.0 do."""
    config = values_of(run, "config.json") | {"env": "ALE/Pong-v5"} | rules
    command = pack.command_of(config)
    assert "--protocol nature --flicker 0.5" in command
    arguments = command.split()[2:]
    args = train_flags.read(arguments)
    assert (args.protocol, args.flicker) == ("nature", 0.5)


def test_a_request_keeps_the_name() -> None:
    request = request_of(Path("demo"), 1, device="cpu")
    assert (str(request.checkpoint), request.env) == ("demo", "ALE/Pong-v5")
    assert request.weights == digest_of_file(pretrained.pretrained_folder("demo") / "network.safetensors")


def test_packing_imports_the_modules_that_it_is_given(tmp_path: Path) -> None:
    args = pack_flags.read([str(tmp_path), "--import", "no_such_module"])
    with pytest.raises(InvalidEnv, match="the module 'no_such_module' cannot be imported"):
        pack.main(args)
