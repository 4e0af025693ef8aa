"""Damaged files before every reader: only our own errors come out, memory stays bounded, and nothing hangs.

`PIXELQ_FUZZ=100000 pytest tests/faults/test_fuzz.py` sets the number of inputs in all, `PIXELQ_FUZZ_SEED` their seed,
and `PIXELQ_FUZZ_ONLY=reader:7` repeats a single one.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelq.agents import DQN, AgentConfig, InvalidCheckpoint, InvalidConfig, InvalidRun
from pixelq.agents.errors import UserError
from pixelq.agents.results.comparison import returns_by_million
from pixelq.agents.runs.checkpoints import RunCheckpoints, newest_checkpoint
from pixelq.agents.runs.folder import RunFolder
from pixelq.agents.runs.replay_files import pack, unpack
from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.checkpoint import unpack_tensors
from pixelq.agents.storage.checkpoint_files import find_checkpoint, unpack_json
from pixelq.agents.storage.files import CHECKSUMS, read_checksums
from pixelq.agents.storage.pointers import checkpoint_folder
from pixelq.agents.training.loop import open_run
from pixelq.agents.training.options import LearnOptions
from pixelq.agents.training.resume import restore_run
from pixelq.envs import InvalidEnv, make_vec
from pixelq.scripts import train
from pixelq.scripts.flags import train as train_flags
from tests.support.fuzzing import JUNK, any_json, damaged
from tests.support.small_agents import seal

INPUTS = int(os.environ.get("PIXELQ_FUZZ", "400"))
SEED = int(os.environ.get("PIXELQ_FUZZ_SEED", "0"))
ONLY = os.environ.get("PIXELQ_FUZZ_ONLY", "")
SHARES = {"agent": 0.37, "run": 0.35, "config": 0.08, "settings": 0.05, "tables": 0.12, "folder": 0.03}
OURS = (InvalidCheckpoint, InvalidConfig, InvalidRun, InvalidEnv, UserError)
LONGEST = 10.0
"""Seconds that one input may take."""
LARGEST = 300 * 2**20
"""Bytes by which memory may grow, over all inputs and within each."""
LONGEST_SENTENCE = 500
TIMES = ("wall_seconds", "interval_started", "steps_per_second")

SMALL: dict[str, Any] = {
    "hidden": 4,
    "encoder": "mlp",
    "batch_size": 4,
    "learning_starts": 20,
    "replay_capacity": 40,
    "train_every": 2,
}
CONFIGS = {
    "plain": AgentConfig(**SMALL, optimizer="rmsprop"),
    "prioritized": AgentConfig(
        **SMALL, head="fqf", quantiles=3, cosines=4, noisy=True, dueling=True, prioritized=True, n_step=3
    ),
}


pytestmark = [pytest.mark.timeout(0), pytest.mark.linux]  # the alarm is ours


class Hang(BaseException):
    """An input took too long; nothing of ours catches it."""


def hang(*_: Any) -> None:
    raise Hang


@contextmanager
def alarm() -> Iterator[None]:
    """Raises ``Hang`` where the block takes longer than one input may."""
    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def memory(name: str) -> int:
    """Bytes that the process holds (``VmRSS``), or held at most since ``forget_peak`` (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Victim:
    """A run of 60 steps whose files are damaged, and what reads them."""

    def __init__(self, out: Path, config: AgentConfig) -> None:
        self.out = out
        self.envs = make_vec("pixelq/Catch-v0", 2, 0)
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        agent = DQN(*spaces, config, device="cpu", seed=3)
        evaluation_envs = make_vec("pixelq/Catch-v0", 2, 1)
        options: dict[str, Any] = {
            "checkpoint_every": 25,
            "evaluate_every": 50,
            "evaluation_episodes": 2,
            "log_every": 10,
        }
        description = {"preset": "classic", "full_action_space": False, "final_episodes": 2}
        agent.learn(self.envs, 60, out, evaluation_envs=evaluation_envs, description=description, **options)
        evaluation_envs.close()
        (out / ".lock").unlink(missing_ok=True)
        for path in out.glob("events*"):
            path.unlink()
        self.checkpoint = checkpoint_folder(out / "checkpoints" / "latest")
        self.forget_times()
        self.agent = DQN.load(self.checkpoint, "cpu")
        self.is_exact = True  # whether the last resume was
        self.weights = {name: tensor.clone() for name, tensor in self.agent.network.state_dict().items()}
        self.parts = open_run(self.agent, self.envs, LearnOptions(), 0, [])
        self.checkpoints = RunCheckpoints(out / "checkpoints", self.parts.collector.replay, 3)

    def forget_times(self) -> None:
        """Puts 1.5 in the place of each time, so that the files, and what a seed makes of them, are the same again."""
        for checkpoint in self.checkpoint.parent.glob("step_*"):
            state = json.loads((checkpoint / "run.json").read_text())
            (checkpoint / "run.json").write_text(json.dumps(state | dict.fromkeys(TIMES, 1.5), indent=1))
            seal(checkpoint)
        table = self.out / "metrics.csv"
        header, *rows = (line.split(",") for line in table.read_text().splitlines())
        cells = [["1.5" if name in TIMES else cell for name, cell in zip(header, row, strict=True)] for row in rows]
        table.write_text("".join(f"{','.join(row)}\n" for row in [header, *cells]))

    def load(self) -> None:
        """Loads the agent and lets it act."""
        agent = DQN.load(self.checkpoint, "cpu")
        obs = np.zeros((2, *agent.observation_space.shape), agent.observation_space.dtype)
        agent.predict(obs)
        agent.predict(obs, deterministic=False)

    def resume(self) -> None:
        """Puts the run back, and goes on with it for an update."""
        self.agent.network.load_state_dict(self.weights)  # as before the update of the last time
        self.is_exact = restore_run(self.checkpoints, *self.parts, say=lambda _: None)["exact"]
        agent, replay = self.agent, self.parts.collector.replay
        agent.explore(np.zeros((2, *agent.observation_space.shape), agent.observation_space.dtype))
        if len(replay):
            batch = replay.sample(4)
            replay.update_priorities(batch.row, agent.learner.update(batch).priority)

    def load_and_resume(self) -> None:
        self.load()
        self.resume()

    def configure(self) -> None:
        """Reads what ``--resume`` takes from config.json, up to where it would learn."""
        train.main(train_flags.read(["--resume", "--out", str(self.out), "--device", "cpu", "--steps", "80"]))

    def configure_and_open(self) -> None:
        self.configure()
        RunFolder(self.out, resume=True).close()

    def read_tables(self) -> None:
        """Reads the tables as resuming, comparing and drawing do."""
        _, metrics, evaluations = read_run(self.out)
        returns_by_million(metrics)
        log = RunFolder(self.out, resume=True)
        try:
            log.best()
            log.has_evaluation(60)
            for row in evaluations:
                for name in ("mean", "ci95_low", "ci95_high"):
                    float(row[name])  # which raises an error if it is no number
        finally:
            log.close()

    def look(self) -> None:
        """Finds the checkpoint from which the run goes on, and loads what there is."""
        told: list[str] = []
        newest_checkpoint(self.out / "checkpoints", told.append)
        assert not any("\n" in line for line in told)
        find_checkpoint(self.out)
        DQN.load(self.out, "cpu")


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Victim]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2000)  # blocks of a few steps
        patch.setattr(train, "_learn", lambda *_: None)
        folder = tmp_path_factory.mktemp("fuzz")
        found = [Victim(folder / name, config) for name, config in CONFIGS.items()]
        for victim in found:
            assert list((victim.out / "checkpoints" / "replay").iterdir())
            for read in (victim.load, victim.resume, victim.configure, victim.read_tables, victim.look):
                read()  # what is whole is read
        yield found
        for victim in found:
            victim.envs.close()


def blocks_of(victim: Victim) -> list[str]:
    return [name for name in read_checksums(victim.checkpoint) if name.startswith("../")]


class Fuzz:
    """Inputs in turn, each drawn from a seed of its own, and what went wrong with them."""

    def __init__(self, reader: str, victims: list[Victim], check_unsealed: bool = True) -> None:
        self.reader, self.victims, self.check_unsealed = reader, victims, check_unsealed
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, str] = {}

    def run(self, one: Callable[[random.Random, Victim], str | None]) -> None:
        """Runs ``one`` for each input; it damages, reads and mends, and says what went wrong."""
        count = max(1, round(INPUTS * SHARES[self.reader]))
        chosen = range(count)
        if ONLY:
            reader, _, index = ONLY.partition(":")
            chosen = range(int(index), int(index) + 1) if reader == self.reader else range(0)
        start, begun = memory("VmRSS"), time.monotonic()
        peak = start
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index in chosen:
                rng = random.Random(f"{SEED}:{self.reader}:{index}")
                before = memory("VmRSS")
                forget_peak()
                problem = one(rng, self.victims[index % len(self.victims)])
                highest = memory("VmHWM")
                peak = max(peak, highest)
                if highest - before > LARGEST:
                    problem = problem or f"memory grew by {(highest - before) / 2**20:.0f} MiB"
                if problem:
                    where = f"PIXELQ_FUZZ_SEED={SEED} PIXELQ_FUZZ_ONLY={self.reader}:{index}"
                    self.problems.setdefault(problem, where)
        self.seconds, self.grown, self.count = time.monotonic() - begun, peak - start, len(chosen)

    def read(self, read: Callable[[], Any]) -> str | None:
        """Reads; returns what is wrong with how that ended."""
        try:
            with alarm():
                read()
        except OURS as error:
            self.outcomes[type(error).__name__] += 1
            sentence = str(error)
            if not sentence or not sentence.isprintable() or len(sentence) > LONGEST_SENTENCE:
                return f"no sentence: {type(error).__name__}: {sentence[:200]!r} of {len(sentence)} characters"
            return None
        except (Exception, Hang) as error:
            self.outcomes["problem"] += 1
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "pixelq" in frame.filename]
            lines = "\n".join(f"    {Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames[-4:])
            return f"{type(error).__name__}: {str(error)[:150]!r}\n{lines}"
        self.outcomes["read"] += 1
        return None

    def report(self, record: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> None:
        line = (
            f"fuzz {self.reader}: {self.count:,} inputs, seed {SEED}, {self.seconds:.0f} s, memory grew by at most "
            f"{self.grown / 2**20:.0f} MiB, {dict(self.outcomes.most_common())}"
        )
        record("fuzz", line)
        with capsys.disabled():
            print(f"\n{line}")
        lines = "\n".join(f"{where}\n  {problem}" for problem, where in list(self.problems.items())[:20])
        assert not self.problems, f"{len(self.problems)} problems:\n{lines}"
        assert self.grown < LARGEST, line


Report = Callable[[Fuzz], None]


@pytest.fixture
def report(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> Callable[[Fuzz], None]:
    return lambda fuzz: fuzz.report(record_property, capsys)


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    """The file holds ``data`` for as long as the block runs."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def read_damaged(
    fuzz: Fuzz, rng: random.Random, victim: Victim, names: list[str], read: Callable[[], Any]
) -> str | None:
    """Damages one of a checkpoint's files or two, most often with checksums that fit, and reads."""
    checkpoint = victim.checkpoint
    name = rng.choice(names)
    data = (checkpoint / name).read_bytes()
    new = damaged(rng, name, data)
    sums = (checkpoint / CHECKSUMS).read_bytes()
    is_sealed = name != CHECKSUMS and rng.random() < 0.85
    with changed(checkpoint / name, new), changed(checkpoint / CHECKSUMS, new if name == CHECKSUMS else sums):
        if is_sealed:
            seal(checkpoint)
        refused = fuzz.outcomes["InvalidCheckpoint"]
        problem = fuzz.read(read)
        was_read = problem is None and fuzz.outcomes["InvalidCheckpoint"] == refused
        is_lost = name.startswith("..") and not victim.is_exact  # of the replay, without which a run can go on
        if was_read and name != CHECKSUMS and not is_sealed and new != data and not is_lost:
            return f"{name} is not what was written, and was read"
        return problem


def test_agents(victims: list[Victim], report: Report) -> None:
    fuzz = Fuzz("agent", victims)
    names = ["agent.json", "agent.json", "network.safetensors", "learner.safetensors", CHECKSUMS]
    fuzz.run(lambda rng, victim: read_damaged(fuzz, rng, victim, names, victim.load))
    report(fuzz)


def test_runs(victims: list[Victim], report: Report) -> None:
    fuzz = Fuzz("run", victims)
    names = ["run.json", "run.safetensors", "run.safetensors", "rows.zst", CHECKSUMS]

    def one(rng: random.Random, victim: Victim) -> str | None:
        block = rng.choice(blocks_of(victim))
        return read_damaged(fuzz, rng, victim, [*names, block], victim.resume)

    fuzz.run(one)
    report(fuzz)


def test_configurations(victims: list[Victim], report: Report) -> None:
    fuzz = Fuzz("config", victims)

    def one(rng: random.Random, victim: Victim) -> str | None:
        path = victim.out / "config.json"
        with changed(path, damaged(rng, "config.json", path.read_bytes())):
            return fuzz.read(victim.configure_and_open)

    fuzz.run(one)
    report(fuzz)


def test_settings(victims: list[Victim], report: Report) -> None:
    fuzz = Fuzz("settings", victims)

    def one(rng: random.Random, victim: Victim) -> str | None:
        values = victim.agent.config.to_dict()
        for _ in range(rng.choice([1, 2, 4])):
            values[rng.choice(list(values))] = rng.choice(JUNK)
        return fuzz.read(lambda: AgentConfig.from_dict(values))

    fuzz.run(one)
    report(fuzz)


def test_tables(victims: list[Victim], report: Report) -> None:
    fuzz = Fuzz("tables", victims)

    def one(rng: random.Random, victim: Victim) -> str | None:
        path = victim.out / rng.choice(["metrics.csv", "evaluations.csv"])
        with changed(path, damaged(rng, path.name, path.read_bytes())):
            return fuzz.read(victim.read_tables)

    fuzz.run(one)
    report(fuzz)


def shuffle_files(rng: random.Random, out: Path) -> None:
    """Files and folders of a run gone, mixed up, or something else than they should be."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        path = rng.choice(sorted(out.rglob("*")))
        other = rng.choice([other for other in sorted(out.rglob("*")) if other.is_file()])
        kind = rng.randrange(9)
        if kind == 8:
            (path if path.is_dir() else path.parent).joinpath(f"step_{rng.choice(['0' * 10, '9' * 20, 'x'])}").mkdir(
                exist_ok=True
            )
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        match kind:
            case 0 if other.exists():
                shutil.copy(other, path)
            case 1:
                path.mkdir()
            case 2:
                os.mkfifo(path)
            case 3:
                path.symlink_to(rng.choice([path.name, "nowhere", "/dev/zero", "..", other.name]))
            case 4:
                path.write_bytes(b"")
            case 5:
                path.write_bytes(rng.randbytes(50))


def test_folders(victims: list[Victim], report: Report, tmp_path: Path) -> None:
    fuzz = Fuzz("folder", victims)

    def one(rng: random.Random, victim: Victim) -> str | None:
        out = victim.out
        kept = Path(shutil.copytree(out, tmp_path / "kept", symlinks=True))
        try:
            shuffle_files(rng, out)
            return fuzz.read(victim.look) or fuzz.read(victim.read_tables) or fuzz.read(victim.configure)
        finally:
            shutil.rmtree(out)
            kept.rename(out)

    fuzz.run(one)
    report(fuzz)


class Unprinted(InvalidRun):
    """An error whose message is printed as it is."""

    def __str__(self) -> str:
        return str(self.args[0])


def test_the_fuzz_sees_what_it_is_for(victims: list[Victim], tmp_path: Path) -> None:
    fuzz = Fuzz("agent", victims)

    def raise_(error: BaseException) -> None:
        raise error

    assert fuzz.read(lambda: None) is None
    assert fuzz.read(lambda: raise_(InvalidRun("no"))) is None
    for odd in ("two\nlines", "\x1b[2J", "", "x" * 501):
        assert "no sentence" in (fuzz.read(lambda odd=odd: raise_(Unprinted(odd))) or "")
        assert odd == "" or fuzz.read(lambda odd=odd: raise_(InvalidRun(odd))) is None
    assert "KeyError" in (fuzz.read(lambda: raise_(KeyError("x"))) or "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.faults.test_fuzz.LONGEST", 0.05)
        assert "Hang" in (fuzz.read(lambda: time.sleep(5)) or "")
    before = memory("VmRSS")
    forget_peak()
    bytearray(2**26).count(b"1")
    assert memory("VmHWM") - before > 2**25


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_checksums_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / CHECKSUMS).write_bytes(data)
    assert is_read_or_refused(lambda: read_checksums(folder), ValueError)


@settings(deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_json_of_any_bytes(data: bytes) -> None:
    assert is_read_or_refused(lambda: unpack_json(Path("agent.json"), data), InvalidCheckpoint)


HEADERS = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "U8", "BOOL", "BF16", "F4", "?"]),
            "shape": st.lists(st.integers(-1, 4) | st.sampled_from([2**62, 2**63, 2**64]), max_size=4),
            "data_offsets": st.tuples(st.integers(0, 40), st.integers(0, 2**64)),
        }
    ),
    max_size=3,
)


def is_read_or_refused(read: Callable[[], Any], refusal: type[Exception]) -> bool:
    try:
        return isinstance(read(), dict)
    except refusal as error:
        return "\n" not in str(error)


def as_file(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@settings(deadline=None)
@given(st.binary(max_size=300) | st.builds(as_file, HEADERS, st.binary(max_size=40)))
def test_tensors_of_any_bytes(data: bytes) -> None:
    assert is_read_or_refused(lambda: unpack_tensors(Path("network.safetensors"), data), InvalidCheckpoint)


def test_rows_of_any_bytes(victims: list[Victim]) -> None:
    ring = victims[0].parts.collector.replay.ring
    magic = bytes.fromhex("28b52ffd")

    @settings(deadline=None)
    @given(st.binary(max_size=300) | st.binary(max_size=100).map(magic.__add__))
    def check(data: bytes) -> None:
        assert is_read_or_refused(lambda: unpack(Path("rows.zst"), data, ring), InvalidCheckpoint)

    check()


def test_the_same_seed_is_the_same_damage(victims: list[Victim]) -> None:
    data = (victims[0].checkpoint / "agent.json").read_bytes()
    first, second = ([damaged(random.Random(f"0:{i}"), "agent.json", data) for i in range(50)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 40
    assert any_json(random.Random(1), data) != data


HUGE: list[dict[str, Any]] = [
    {"config": {"hidden": 10**9}},
    {"config": {"hidden": 10**6}},
    {"config": {"hidden": 10**12}},
    {"config": {"head": "categorical", "atoms": 10**10}},
    {"config": {"head": "implicit", "cosines": 10**9}},
    {"config": {"encoder": "impala", "adaptive_pool": 1, "encoder_width": 10**6}},
    {"num_actions": 10**9},
    {"observation_space": {"shape": [10**5, 10**5], "dtype": "uint8"}},
    {"observation_space": {"shape": [10**18] * 3, "dtype": "float64"}},
    {"observation_space": {"shape": [1] * 1000, "dtype": "float64"}},
    {"observation_space": {"shape": [50, 10**4, 10**4], "dtype": "uint8"}, "config": {"encoder": "minatar"}},
]


@pytest.mark.parametrize("changes", HUGE, ids=lambda changes: json.dumps(changes)[:60])
def test_sizes_are_checked_before_memory_is_taken(victims: list[Victim], changes: dict[str, Any]) -> None:
    path = victims[0].checkpoint / "agent.json"
    state = json.loads(path.read_text())
    state |= changes | {"config": state["config"] | changes.get("config", {})}
    with changed(path, json.dumps(state).encode()), changed(path.with_name(CHECKSUMS), b""):
        names = ("agent.json", "network.safetensors", "learner.safetensors")
        path.with_name(CHECKSUMS).write_text("".join(f"{'0' * 64}  {name}\n" for name in names))
        seal(victims[0].checkpoint)
        before = memory("VmRSS")
        forget_peak()
        with pytest.raises(InvalidCheckpoint, match="does not describe an agent of this version"):
            DQN.load(victims[0].checkpoint, "cpu")
        assert memory("VmHWM") - before < 50 * 2**20


def of_json(file: str, **values: Any) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        path = checkpoint / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def of_tensors(file: str, change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        tensors = unpack_tensors(checkpoint / file, (checkpoint / file).read_bytes())
        change(tensors)
        (checkpoint / file).write_bytes(safetensors.torch.save(tensors))

    return apply


def of_rows(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(checkpoint: Path) -> None:
        packed = zstandard.ZstdDecompressor().decompress((checkpoint / "rows.zst").read_bytes())
        rows = unpack_tensors(checkpoint, packed)
        change(rows)
        (checkpoint / "rows.zst").write_bytes(pack(rows))

    return apply


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "updates for a year": (
        of_json("run.json", steps_owed=10**15),
        "steps_owed must be at most ",
    ),
    "seconds beyond floats": (
        of_json("run.json", wall_seconds=10**400),
        "wall_seconds must be at most 4,611",
    ),
    "seconds before the beginning": (
        of_json("run.json", interval_started=-1),
        "interval_started must be a number",
    ),
    "observations of another type": (
        of_tensors("run.safetensors", lambda t: t.update(obs=t["obs"].double())),
        "obs is float64",
    ),
    "games of a type that numpy lacks": (
        of_tensors("run.safetensors", lambda t: t.update({"games.crcs": t["obs"].bfloat16()})),
        "BFloat16",
    ),
    "an endless time": (
        of_tensors("run.safetensors", lambda t: t.update({"replay.time": torch.tensor(math.inf)})),
        "does not fit this run",
    ),
    "an action that there is not": (
        of_rows(lambda rows: rows["action"].fill_(3)),
        "actions that the environments do",
    ),
    "neither True nor False": (
        of_rows(lambda rows: rows["is_start"].view(torch.uint8).fill_(2)),
        "is_start holds bytes",
    ),
    "priorities of nothing": (
        of_tensors("run.safetensors", lambda t: t["replay.sampler.level.0"][0, -1].fill_(1.0)),
        "priorities are not those",
    ),
    "a greatest priority that is none": (
        of_tensors("run.safetensors", lambda t: t["replay.sampler.max_priority"].fill_(math.nan)),
        "max_priority must be a finite number of at least 0, got nan",
    ),
    "half a moment": (
        of_tensors("learner.safetensors", lambda t: t.pop("optimizer.0.square")),
        "moments of parameter 0",
    ),
    "moments of a parameter too many": (
        of_tensors("learner.safetensors", lambda t: t.update({"optimizer.99.mean": torch.zeros(())})),
        "moments of parameter 99",
    ),
    "weights of another type": (
        of_tensors("network.safetensors", lambda t: t.update({name: v.double() for name, v in t.items()})),
        "got torch.float64",
    ),
    "no actions": (of_json("agent.json", num_actions=0), "num_actions must be at least 1, got 0"),
    "half a pixel": (
        of_json("agent.json", observation_space={"shape": [1.5], "dtype": "uint8"}),
        "shape of the observations must be a list of positive integers",
    ),
    "a type that is none": (
        of_json("agent.json", observation_space={"shape": [50], "dtype": "object"}),
        "dtype of the observations must be a NumPy type, got 'object'",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_does_not_fit_is_refused(victims: list[Victim], what: str) -> None:
    damage, words = UNFIT[what]
    victim = victims["priorit" in what]
    names = ["agent.json", "network.safetensors", "learner.safetensors", "run.json", "run.safetensors", "rows.zst"]
    kept = {name: (victim.checkpoint / name).read_bytes() for name in [*names, CHECKSUMS]}
    try:
        damage(victim.checkpoint)
        seal(victim.checkpoint)
        with pytest.raises(InvalidCheckpoint, match=words):
            victim.load_and_resume()
    finally:
        for name, data in kept.items():
            (victim.checkpoint / name).write_bytes(data)


def test_a_configuration_beyond_floats_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"v_min must be within ±1e\+38, got one of 1329 bits"):
        AgentConfig.from_dict({"v_min": -(10**400)})


@pytest.mark.parametrize("changes", [{"resumed": 5}, {"num_envs": 30}])
def test_a_description_that_does_not_fit_is_refused(victims: list[Victim], changes: dict[str, Any]) -> None:
    path = victims[0].out / "config.json"
    words = "does not describe a run|does not belong to a run of 30"
    new = json.dumps(json.loads(path.read_text()) | changes).encode()
    with changed(path, new), pytest.raises((InvalidRun, InvalidCheckpoint), match=words):
        victims[0].configure_and_open()
