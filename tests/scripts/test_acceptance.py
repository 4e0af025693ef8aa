"""`pixelq acceptance`: whatever a part does, the others run and the summary is there; bad input is one line."""

import json
import shlex
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.scripts import acceptance
from pixelq.scripts.benchmarks import supervised
from pixelq.scripts.benchmarks.supervised import Ended
from pixelq.scripts.flags.acceptance import AcceptanceArgs
from pixelq.scripts.main import main

PARTS = [
    "tests",
    "speed",
    "speed_pqn",
    "update_nature",
    "update_pqn",
    "sampling",
    "startup",
    "pong_quick",
    "pong_quick_dqn",
    "pong_pqn",
]
TRAININGS = PARTS[-3:]
SPEED = {
    "results": [
        {"name": "pixelq", "steps_per_second": 9000.0, "share_of_bound": 0.5},
        {"name": "sb3", "steps_per_second": 1000.0},
    ],
    "ratios": {"sb3": 9.0},
}
UPDATE = {"updates": [{"milliseconds_per_update": 2.5, "gflop_per_update": 2.18, "gflop_per_second": 872.0}]}
SAMPLING = {"replay_gigabytes": 7.1, "milliseconds": {"32": {"batch, uniform": 0.25, "rows, uniform": 0.1}}}
LEFT: dict[str, Any] = {
    "speed": SPEED,
    "speed_pqn": SPEED,
    "update_nature": UPDATE,
    "update_pqn": UPDATE,
    "sampling": SAMPLING,
    "startup": {"seconds_to_first_step": 4.5},
}
"""What the parts leave in their files."""
RUN = Path("tests/data/run-0.1.0")
"""A run whose best evaluation has a mean of 1, at step 120."""
XML = '<testsuites><testsuite tests="9" failures="0" errors="0" skipped="2"/></testsuites>'


class Stage:
    """An acceptance whose parts are short scripts of the shell."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = out
        self.scripts = {
            name: f"echo {shlex.quote(json.dumps(left))} > {out}/{name}.json" for name, left in LEFT.items()
        }
        self.scripts["tests"] = f"echo {shlex.quote(XML)} > {out}/tests.xml"
        trained = "trap 'exit 130' INT; while true; do sleep 0.02; done"
        self.scripts |= {name: f"cp -r {RUN.absolute()} {out}/{name}; {trained}" for name in TRAININGS}
        self.flags: dict[str, list[str]] = {}
        monkeypatch.setattr(acceptance, "command_of", lambda verb, flags: self.command(flags))
        monkeypatch.setattr(acceptance, "_run_tests", lambda args, seconds: self.tests(seconds))
        monkeypatch.setattr(acceptance, "plot_run", lambda run: None)
        monkeypatch.setattr(acceptance, "PATIENCE", 0.0)
        monkeypatch.setattr(acceptance, "LAST_CHECKPOINT", 0.5)
        monkeypatch.setattr(supervised, "POLL", 0.02)
        monkeypatch.setattr(supervised, "ASKED_EVERY", 0.02)

    def command(self, flags: list[str]) -> list[str]:
        name = Path(flags[flags.index("--json" if "--json" in flags else "--out") + 1]).stem
        self.flags[name] = flags
        return ["sh", "-c", self.scripts[name]]

    def tests(self, seconds: float) -> Ended:
        return supervised.supervise(["sh", "-c", self.scripts["tests"]], self.out / "tests.txt", seconds)

    def run(self, *flags: str) -> tuple[int, dict[str, Any]]:
        """The exit code and the summary."""
        given = ["--device", "cpu", "--updates", "nature,pqn", "--minutes", "0.2", "--target", "1"]
        code = main(["acceptance", *given, "--out", str(self.out), *flags])
        assert supervised._marked() == []
        return code, json.loads((self.out / "summary.json").read_text())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path / "out", monkeypatch)


@pytest.mark.linux
def test_every_part_is_run_and_noted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def not_installed(name: str, device: object) -> list[str]:
        raise acceptance.UserError(f"{name} needs cv2: pip install it")

    monkeypatch.setattr(acceptance, "check_entries", not_installed)
    code, summary = stage.run("--against", "sb3")
    assert summary["left_out"] == {"sb3": "sb3 needs cv2: pip install it"}
    assert stage.flags["speed"][:2] == ["--against", "none"]
    assert (code, summary["failed"]) == (0, [])
    assert [row["part"] for row in summary["table"]] == PARTS
    assert {row["result"] for row in summary["table"]} == {"passed"}
    assert summary["tests"]["figures"] == {"passed": 7, "failed": 0, "skipped": 2}
    assert summary["speed"]["figures"] == {
        "pixelq, steps/s": 9000.0,
        "sb3, steps/s": 1000.0,
        "pixelq, share of the bound": 0.5,
        "pixelq over sb3": 9.0,
    }
    assert summary["update_pqn"]["figures"] == {"ms": 2.5, "GFLOP": 2.18, "GFLOP/s": 872.0}
    assert summary["sampling"]["figures"] == {"replay, GB": 7.1, "batch, uniform of 32, ms": 0.25}
    assert summary["startup"] == {
        "passed": True,
        "exit_code": 0,
        "seconds": summary["startup"]["seconds"],
        "figures": {"to the first step, s": 4.5},
        "file": "startup.json",
    }
    for name in TRAININGS:
        assert summary[name]["figures"]["best mean"] == 1
        assert summary[name]["figures"]["reached at step"] == 120
    assert summary["hardware"]["cores"] >= 1
    out = capfd.readouterr().out
    assert "reached at step 120" in out
    assert "left out: sb3 needs cv2" in out
    assert f"nothing failed; see {stage.out}" in out
    assert summary["hardware"]["torch"] in "".join(out.split())
    assert stage.flags["speed_pqn"][:2] == ["--algorithm", "pqn"]
    assert stage.flags["pong_pqn"][:2] == ["--preset", "pqn"]
    assert [name for name in TRAININGS if "--num-envs" in stage.flags[name]] == ["pong_quick_dqn"]
    # A third of a part's share of 12 seconds is measured: 0.16 by the entries, 0.15 by two presets.
    assert float(stage.flags["speed"][stage.flags["speed"].index("--seconds") + 1]) == pytest.approx(0.64 / 2)
    assert float(stage.flags["update_pqn"][3]) == pytest.approx(0.3)


@pytest.mark.linux
def test_no_failure_costs_the_others_anything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts, start = stage.scripts, time.monotonic()
    scripts["speed"] += "; kill -9 $$"  # as the system does it, after a first turn
    scripts["speed_pqn"] = f"echo '{{\"results\": [' > {stage.out}/speed_pqn.json"
    scripts["update_nature"] = f"yes | head -c 3000000; {scripts['update_nature']}; exit 3"
    scripts["update_pqn"] = f"setsid sleep 300 & {scripts['update_pqn']}"
    scripts["startup"] = "trap '' TERM; sleep 300; sleep 300"
    scripts["pong_quick_dqn"] = "exit 1"
    monkeypatch.setattr(supervised, "MOST_LOG", 10_000)
    monkeypatch.setattr(supervised, "PATIENCE", 0.2)
    monkeypatch.setattr(supervised.supervise, "__kwdefaults__", supervised.supervise.__kwdefaults__ | {"patience": 0.2})
    monkeypatch.setattr(acceptance.figures_of, "of_sampling", lambda file: 1 // 0)
    monkeypatch.setattr(acceptance, "plot_run", lambda run: 1 // 0)
    code, summary = stage.run()
    assert code == 1
    why = {name: summary[name].get("why") for name in PARTS}
    assert why.pop("speed") == "killed by SIGKILL, maybe for want of memory"
    assert summary["speed"]["figures"]["pixelq over sb3"] == 9.0  # which it wrote as it went
    assert why.pop("speed_pqn", "").startswith("there are no figures (JSONDecodeError: ")
    assert why.pop("update_nature") == "exit code 3; see update_nature.txt"
    assert (stage.out / "update_nature.txt").stat().st_size < 100_000
    assert why.pop("sampling", "").startswith("there are no figures (ZeroDivisionError: ")
    assert why.pop("startup", "").startswith("stopped after ")
    assert why.pop("pong_quick_dqn") == "exit code 1; see pong_quick_dqn.txt; it left no figures"
    for name in ("pong_quick", "pong_pqn"):
        assert why.pop(name, "").startswith("ZeroDivisionError: ")
    assert "in <lambda>" in (stage.out / "errors.txt").read_text()
    assert summary["pong_pqn"]["figures"]["reached at step"] == 120
    assert why == {"tests": None, "update_pqn": None}
    assert summary["failed"] == [name for name in PARTS if name not in why]
    assert time.monotonic() - start < 20


@pytest.mark.linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_valid_summary_and_no_process(stage: Stage, number: int, code: int) -> None:
    stage.scripts["speed"] += f"; setsid sleep 300 & kill -{number} $PPID; sleep 300"
    found, summary = stage.run()
    assert found == code
    assert summary["stopped"] == "by a signal"
    assert [row["result"] for row in summary["table"]] == ["passed", "stopped by a signal"]
    assert summary["speed"]["figures"]["pixelq over sb3"] == 9.0
    assert summary["failed"] == ["speed"]
    assert "speed_pqn" not in summary


class Clock:
    """A clock that only parts move on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@given(
    minutes=st.floats(5, 60),
    used=st.lists(st.floats(0, 1.5), min_size=7, max_size=7),
    is_reached=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_each_part_has_its_share_whatever_the_others_take(
    minutes: float, used: list[float], is_reached: list[bool]
) -> None:
    """`used` counts in what a part may take; one that hangs takes that and the time until it is killed."""
    clock, granted, shares = Clock(), [], [*acceptance.SHARES.values(), None, None]

    def takes(number: int, seconds: float) -> Ended:
        granted.append(seconds)
        patience = acceptance.PATIENCE if number < 6 else acceptance.LAST_CHECKPOINT
        share = used[min(number, 6)]
        clock.now += seconds * min(share, 1.0) + (patience if share > 1 else 0.0)
        return Ended(0, seconds, False, None)

    def read(number: int) -> dict[str, float]:
        return {"reached at step": 1.0} if number >= 6 and is_reached[number - 6] else {}

    parts = [
        acceptance.Part(str(number), partial(takes, number), partial(read, number), share)
        for number, share in enumerate(shares)
    ]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceptance, "time", clock)
        patch.setattr(acceptance, "print", lambda *_, **__: None, raising=False)
        patch.setattr(acceptance, "write_json", lambda *_, **__: None)
        args, summary = AcceptanceArgs(Path(folder), minutes=minutes), acceptance.Summary(Path(folder), {})
        acceptance._run_all(parts, 60 * minutes, args, summary)
    assert clock.now <= 60 * minutes + 1e-6
    for seconds, share in zip(granted[:6], shares, strict=False):
        own = 60 * minutes * share
        assert max(0, own - acceptance.PATIENCE) - 1e-6 <= seconds <= 2 * own
    rest = 60 * minutes * (1 - sum(acceptance.SHARES.values())) - acceptance.LAST_CHECKPOINT
    assert granted[6] >= max(0, rest) / 2 - 1e-6
    if used == [0] * 7:
        assert granted[6] == pytest.approx((60 * minutes - acceptance.LAST_CHECKPOINT) / 2)
        assert granted[7] == pytest.approx(60 * minutes - acceptance.LAST_CHECKPOINT)
    assert summary.values["failed"] == ([] if any(is_reached) else ["target"])


def test_a_summary_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise acceptance.RunFailed("the disk is full")

    part = acceptance.Part("pong", lambda seconds: Ended(0, 1.0, False, None), lambda: {"reached at step": 120})
    monkeypatch.setattr(acceptance, "_parts", lambda *_: [part])
    monkeypatch.setattr(acceptance, "write_json", full)
    assert main(["acceptance", "--device", "cpu", "--out", str(tmp_path / "out")]) == 1
    out, err = capfd.readouterr()
    assert "reached at step 120" in out
    assert err == "pixelq acceptance: the disk is full\n"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"failed": []}, "nothing failed"),
        ({"failed": ["speed", "target"]}, "failed: speed, target (no training has reached a mean return of 18)"),
        ({"failed": ["pong_pqn"], "stopped": "by a signal"}, "stopped by a signal; failed: pong_pqn"),
    ],
)
def test_the_last_line_says_what_failed(values: dict[str, Any], verdict: str, tmp_path: Path) -> None:
    summary = acceptance.Summary(tmp_path, {})
    summary.values |= values
    assert acceptance._verdict(summary, 18.0) == f"{verdict}; see {tmp_path}"


@pytest.mark.parametrize(("code", "is_well"), [(143, True), (0, True), (130, False), (1, False)])
def test_a_training_is_ended_by_a_signal_that_shells_leave_alone(
    code: int, is_well: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell lets what it starts in the background ignore SIGINT."""
    asked: list[signal.Signals] = []

    def supervise(*_: Any, stop: signal.Signals, **__: Any) -> Ended:
        asked.append(stop)
        return Ended(code, 9.0, True, "stopped after 9 s")

    monkeypatch.setattr(acceptance, "supervise", supervise)
    ended = acceptance.train(AcceptanceArgs(tmp_path), "quick", "cpu", 9.0)
    assert (asked, ended.why is None) == ([signal.SIGTERM], is_well)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_parts_as_they_are(tmp_path: Path) -> None:
    """All parts on a CPU, without stand-ins; only Pong cannot be learned."""
    out, tests = tmp_path / "out", tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.gpu\ndef test_a(): pass\n\ndef test_b(): raise RuntimeError('not asked for')\n"
    )
    flags = ["--device", "cpu", "--num-envs", "2", "--rows", "10000", "--updates", "nature,quick", "--against", "sb3"]
    flags += ["--replay-capacity", "100", "--minutes", "7", "--tests", str(tests), "--target", "-100"]
    flags += ["--evaluate-every", "500", "--presets", "quick_dqn,quick"]
    assert main(["acceptance", *flags, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["failed"] == []
    assert summary["tests"]["figures"] == {"passed": 1, "failed": 0, "skipped": 0}
    assert (out / "step.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "pong_quick" / "curve.png").exists()
    for part in ("speed", "speed_pqn", "update_quick", "sampling", "startup", "pong_quick_dqn", "pong_quick"):
        least = -21 if part.startswith("pong") else 0  # the worst mean return; all else is positive
        assert min(summary[part]["figures"].values()) >= least, part


@pytest.mark.slow
def test_tests_that_were_all_skipped_are_no_success(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text("import pytest\n\n@pytest.mark.gpu\n@pytest.mark.skip\ndef test_a(): pass\n")
    (tests / "test_other.py").write_text("raise RuntimeError('it needs no GPU, and so is not imported')\n")
    args = acceptance.AcceptanceArgs(tmp_path, tests=tests)
    part = next(acceptance._parts(args, "cpu", {}))
    assert "no test passed; 1 test skipped" in acceptance.attempt(part, 60.0, tmp_path)["why"]
    (tests / "test_it.py").write_text("import pytest\n\n@pytest.mark.gpu\ndef test_a(): assert False\n")
    assert acceptance.attempt(part, 60.0, tmp_path)["exit_code"] == 1


def test_only_files_with_tests_of_a_gpu_are_run(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    assert acceptance.files_with_gpu_tests(tests) == [tests / "test_gpu.py"]
    part = next(acceptance._parts(acceptance.AcceptanceArgs(tmp_path, tests=tests / "data"), "cpu", {}))
    assert "there is no test that needs a GPU in the folder" in acceptance.attempt(part, 60.0, tmp_path)["why"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minutes", "0"], "--minutes must be in [0.1, 1440], got 0.0"),
        (["--num-envs", "0"], "--num-envs must be at least 1, got 0"),
        (["--rows", "10"], "--rows must be at least 10000, got 10"),
        (["--updates", "natur"], "did you mean 'nature'"),
        (["--against", "nobody"], "got 'nobody'"),
        (["--presets", "quick,nobody"], "nobody"),
        (["--target", "nan"], "--target must be a finite number, got nan"),
    ],
)
def test_wrong_input_is_one_line_before_anything_runs(
    flags: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["acceptance", "--device", "cpu", "--out", str(tmp_path / "out"), *flags]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_earlier_acceptance_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.json").write_text("{}")
    assert main(["acceptance", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "holds an earlier acceptance; use another --out" in capfd.readouterr().err
