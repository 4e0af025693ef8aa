"""`pixelq acceptance`: the GPU tests, the benchmark and a Pong run up to a score, in one command."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import UserError
from pixelq.agents.results.plots import plot_run
from pixelq.agents.runs.machine import hardware
from pixelq.agents.runs.tables import read_run
from pixelq.scripts.benchmarks.speed import check_entries
from pixelq.scripts.benchmarks.update_cost import presets_of
from pixelq.scripts.command_line import make_folder, write_json
from pixelq.scripts.flags.acceptance import AcceptanceArgs
from pixelq.scripts.main import run as run_verb

POLL = 1.0
"""Seconds between two looks at a training run."""
SHARES = {"tests": 0.15, "speed": 0.2, "updates": 0.08, "sampling": 0.08, "startup": 0.04}
"""Largest share of the time for each part, which has at least a minute; training has the rest."""


def main(args: AcceptanceArgs) -> None:
    """Run the parts one after another, and write `summary.json` after each.

    The exit code is 1 if a part has failed, no GPU test has run, or Pong has not reached the target.
    """
    device = resolve_device(args.device)
    _check(args, device)
    make_folder(args.out, "--out")
    seconds = 60 * args.minutes
    end = time.monotonic() + seconds
    summary: dict[str, Any] = {"hardware": hardware(device), "device": device.type, "minutes": args.minutes}

    def note(part: str, figures: Any) -> None:
        summary[part] = figures
        write_json(summary, args.out / "summary.json", indent=2)
        print(f"{part}: {json.dumps(figures)}", flush=True)

    note("tests", _tests(args, _most(seconds, "tests")))
    for part, flags in _benchmarks(args, seconds).items():
        file = args.out / f"{part}.json"
        command = _command("benchmark", [*flags, "--device", device.type, "--json", str(file)])
        note(part, _run(command, args.out / f"{part}.txt", _most(seconds, part)) | {"file": file.name})
    note("pong", train_to_target(args, device.type, end))
    failed = [part for part in SHARES if summary[part]["exit_code"] != 0]
    failed += [] if summary["pong"]["reached"] else ["pong"]
    note("failed", failed)
    if failed:
        sys.exit(1)


def _most(seconds: float, part: str) -> float:
    """Return the seconds that a part may take."""
    return max(60.0, seconds * SHARES[part])


def _check(args: AcceptanceArgs, device: Any) -> None:
    if (args.out / "summary.json").exists():
        raise UserError(f"{args.out} holds an earlier acceptance; use another --out")
    presets_of(args.updates)
    check_entries(args.against, device)


def _benchmarks(args: AcceptanceArgs, seconds: float) -> dict[str, list[str]]:
    """Return the flags of each call of the benchmark; half of a part's time is left for its preparation."""
    each = seconds / 2
    entries, presets = 1 + len(args.against.split(",")), len(presets_of(args.updates))
    num_envs = ["--num-envs", str(args.num_envs)]
    speed = ["--against", args.against, *num_envs, "--replay-capacity", str(args.replay_capacity)]
    speed += ["--picture", str(args.out / "step.png"), "--seconds", f"{each * SHARES['speed'] / entries:g}"]
    return {
        "speed": speed,
        "updates": ["--updates", args.updates, "--seconds", f"{each * SHARES['updates'] / presets:g}"],
        "sampling": ["--sampling", str(args.rows), *num_envs, "--seconds", f"{each * SHARES['sampling']:g}"],
        "startup": ["--startup", "--turns", "3"],
    }


def _run(command: Sequence[str], log: Path, seconds: float) -> dict[str, Any]:
    """Run a command whose output goes to a file; the exit code is None if it took too long."""
    with log.open("w") as file:
        try:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"exit_code": None, "why": f"stopped after {seconds:.0f} s"}
    return {"exit_code": done.returncode}


def _command(verb: str, flags: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "pixelq.scripts.main", verb, *flags]


def _tests(args: AcceptanceArgs, seconds: float) -> dict[str, Any]:
    """Run the tests that need a GPU, or say why not; it counts as a failure if all were skipped."""
    if importlib.util.find_spec("pytest") is None or not args.tests.is_dir():
        return {"exit_code": None, "why": f"pytest is not installed, or there is no folder {args.tests}"}
    flags = ["-q", "-m", "gpu", "-p", "no:cacheprovider", str(args.tests), f"--junitxml={args.out / 'tests.xml'}"]
    log = args.out / "tests.txt"
    figures = _run([sys.executable, "-m", "pytest", *flags], log, seconds)
    result = (log.read_text().strip().splitlines() or [""])[-1]
    if figures["exit_code"] == 0 and "passed" not in result:
        figures = {"exit_code": None, "why": "all were skipped"}
    return figures | {"result": result}


def train_to_target(args: AcceptanceArgs, device: str, end: float) -> dict[str, Any]:
    """Train on Pong until the target is reached or the time is up, draw the curve, and return the figures.

    Args:
        args: The command line.
        device: `cpu` or `cuda`.
        end: Moment of `time.monotonic` at which the time is up.
    """
    run = args.out / "pong"
    flags = ["--preset", args.preset, "--num-envs", str(args.num_envs), "--steps", str(10**9), "--out", str(run)]
    flags += ["--evaluate-every", str(args.evaluate_every), "--checkpoint-every", str(args.evaluate_every)]
    start = time.monotonic()
    with (args.out / "pong.txt").open("w") as log:
        training = subprocess.Popen(
            [*_command("train", flags), "--device", device], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while training.poll() is None and time.monotonic() < end and _best_mean(run) < args.target:
                time.sleep(POLL)
        finally:
            took = time.monotonic() - start
            if training.poll() is None:
                os.kill(training.pid, signal.SIGINT)  # it writes a checkpoint and ends
            code = training.wait()
    if not (run / "metrics.csv").exists():
        return {"exit_code": code, "reached": False, "why": "no step was logged; see pong.txt"}
    plot_run(run)
    _, metrics, evaluations = read_run(run)
    reached = [row for row in evaluations if float(row["mean"]) >= args.target]
    speeds = [float(row["steps_per_second"]) for row in metrics if row["loss"]]
    return {
        "exit_code": code,
        "reached": bool(reached),
        "step": int(reached[0]["step"]) if reached else None,
        "seconds": took,
        "best_mean": _best_mean(run) if evaluations else None,
        "steps": int(metrics[-1]["step"]) if metrics else 0,
        "steps_per_second": median(speeds) if speeds else None,
    }


def _best_mean(run: Path) -> float:
    """Return the best mean return of an evaluation so far; −∞ if there is none."""
    try:
        evaluations = read_run(run)[2]
    except (OSError, ValueError):  # not there yet
        evaluations = []
    return max((float(row["mean"]) for row in evaluations), default=float("-inf"))


if __name__ == "__main__":
    sys.exit(run_verb("acceptance"))
