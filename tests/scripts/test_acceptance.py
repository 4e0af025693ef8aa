"""`pixelq acceptance`: all its parts in one short run on a CPU, and sentences for what cannot be run."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixelq.scripts import acceptance
from pixelq.scripts.main import main

SMALL = ["--device", "cpu", "--num-envs", "2", "--rows", "10000", "--updates", "nature", "--against", "sb3"]
SMALL += ["--replay-capacity", "100"]


@pytest.mark.parametrize(("broken", "is_reached"), [(None, True), ("sampling", True), (None, False)])
def test_every_part_is_run_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str | None, is_reached: bool
) -> None:
    """The parts' bookkeeping, with commands that end at once."""
    commands: dict[str, list[str]] = {}

    def run(command: list[str], log: Path, seconds: float) -> dict[str, Any]:
        assert seconds >= 60.0
        commands[log.stem] = command
        log.write_text("1 passed in 0.1s\n")
        return {"exit_code": 3 if log.stem == broken else 0}

    monkeypatch.setattr(acceptance, "_run", run)
    monkeypatch.setattr(acceptance, "train_to_target", lambda *_: {"exit_code": 0, "reached": is_reached})
    failed = [broken] if broken else [] if is_reached else ["pong"]
    flags = ["--minutes", "0.1", "--tests", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["acceptance", *SMALL, *flags]) == (1 if failed else 0)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["failed"] == failed
    assert summary["tests"] == {"exit_code": 0, "result": "1 passed in 0.1s"}
    parts = ["speed", "updates", "sampling", "startup"]
    assert list(commands) == ["tests", *parts]
    for part in parts:
        assert {"benchmark", "--device", "cpu", str(tmp_path / "out" / f"{part}.json")} <= set(commands[part])
        assert summary[part] == {"exit_code": 3 if part == broken else 0, "file": f"{part}.json"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_leaves_figures_and_plots_of_every_part(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "_most", lambda *_: 300.0)  # other tests may keep the machine busy
    out, tests = tmp_path / "out", tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.gpu\ndef test_a(): pass\n\ndef test_b(): raise RuntimeError('not asked for')\n"
    )
    flags = ["--minutes", "0.1", "--tests", str(tests)]
    assert main(["acceptance", *SMALL, *flags, "--out", str(out)]) == 1  # Pong was not reached
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tests"]["exit_code"] == 0
    assert summary["tests"]["result"].startswith("1 passed, 1 deselected")
    speed = json.loads((out / "speed.json").read_text())
    assert [result["name"] for result in speed["results"]] == ["pixelq", "sb3"]
    assert speed["work"]["num_envs"] == 2
    assert (out / "step.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "updates.json").read_text())["updates"][0]["preset"] == "nature"
    assert json.loads((out / "sampling.json").read_text())["rows"] == 10_000
    assert json.loads((out / "startup.json").read_text())["seconds_to_first_step"] > 0
    assert [summary[part]["exit_code"] for part in ("speed", "updates", "sampling", "startup")] == [0] * 4
    assert summary["pong"]["reached"] is False  # no time was left; see the next test
    assert "pong.txt" in summary["pong"]["why"]
    assert summary["failed"] == ["pong"]
    assert "pong" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pong_ends_at_the_target(tmp_path: Path) -> None:
    args = acceptance.AcceptanceArgs(tmp_path, num_envs=2, target=-100.0, evaluate_every=200)
    found = acceptance.train_to_target(args, "cpu", end=float("inf"))
    assert found["reached"]
    assert found["step"] in (200, 201)
    assert -21 <= found["best_mean"] <= 21
    assert found["steps"] < 5_000  # of a billion
    assert (tmp_path / "pong" / "curve.png").exists()


@pytest.mark.slow
def test_tests_that_were_all_skipped_are_no_success(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text("import pytest\n\n@pytest.mark.gpu\n@pytest.mark.skip\ndef test_a(): pass\n")
    args = acceptance.AcceptanceArgs(tmp_path, tests=tests)
    assert acceptance._tests(args, 60)["why"] == "all were skipped"
    (tests / "test_it.py").write_text("import pytest\n\n@pytest.mark.gpu\ndef test_a(): assert False\n")
    assert acceptance._tests(args, 60)["exit_code"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minutes", "0"], "--minutes must be in [0.1, 1440], got 0.0"),
        (["--num-envs", "0"], "--num-envs must be at least 1, got 0"),
        (["--rows", "10"], "--rows must be at least 10000, got 10"),
        (["--updates", "natur"], "did you mean 'nature'"),
        (["--against", "nobody"], "got 'nobody'"),
        (["--preset", "nobody"], "nobody"),
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
