"""`pixelq acceptance`: the GPU tests, the benchmarks and trainings on Pong, in one command that no part can stop."""

from __future__ import annotations

import importlib.util
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import preset
from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import RunFailed, UserError, one_line
from pixelq.agents.results.formatting import pluralize
from pixelq.agents.results.plots import plot_run
from pixelq.agents.runs.machine import hardware
from pixelq.scripts.benchmarks import acceptance_figures as figures_of
from pixelq.scripts.benchmarks.acceptance_figures import Figures
from pixelq.scripts.benchmarks.peers import NOBODY, OURS_BFLOAT16, PEERS
from pixelq.scripts.benchmarks.pqn_work import PQN_ENVS
from pixelq.scripts.benchmarks.race import commit
from pixelq.scripts.benchmarks.speed import check_entries
from pixelq.scripts.benchmarks.supervised import PATIENCE, Ended, kill_all, supervise
from pixelq.scripts.benchmarks.update_cost import presets_of
from pixelq.scripts.command_line import make_folder, split_names, write_json
from pixelq.scripts.flags.acceptance import AcceptanceArgs
from pixelq.scripts.main import run as run_verb

SHARES = {"tests": 0.15, "speed": 0.16, "speed_pqn": 0.12, "updates": 0.15, "sampling": 0.06, "startup": 0.05}
"""Share of the time for each part; it may take twice as much if others have left that, and training has the rest."""
MEASURED = 1 / 3
"""Share of a benchmark's time in which it measures; the rest is for its preparation."""
GPU_MARK = re.compile(r"^\s*@?pytest\.mark\.gpu\b", re.MULTILINE)
"""What a file with tests that need a GPU has."""
LAST_CHECKPOINT = 20.0
"""Seconds in which a training that was stopped may write its last checkpoint."""


class Part(NamedTuple):
    """One thing that is run."""

    name: str
    """Name in `summary.json`."""
    run: Callable[[float], Ended]
    """Runs it for at most so many seconds."""
    read: Callable[[], Figures]
    """Returns the figures that it has left, also if it was stopped; raises an error if there are none."""
    share: float | None = None
    """Share of the time; None for a training, which has an equal part of what is left."""
    file: str | None = None
    """File with all its figures."""
    draw: Callable[[], object] | None = None
    """Draws a picture of what it has left."""


class Summary:
    """What is known so far, in `summary.json`, which is replaced as a whole whenever a part ends.

    Args:
        folder: Folder of the file.
        values: Values to begin with.
    """

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values | {"table": [], "failed": []}
        self.error: RunFailed | None = None  # of the last attempt to write

    def note(self, part: str, noted: dict[str, Any]) -> None:
        """Add what is known of a part, and write the file; a disk that is full now may not be so later."""
        self.values[part] = noted
        result = "passed" if noted["passed"] else noted.get("why", "failed")
        texts = [f"{label} {_shown(value)}" for label, value in noted["figures"].items()]
        row = {"part": part, "result": result, "seconds": noted["seconds"], "figures": texts}
        self.values["table"].append(row)
        if not noted["passed"]:
            self.values["failed"].append(part)
        print("; ".join([f"{part}, {noted['seconds']:.0f} s: {result}", *texts]), flush=True)
        self.write()

    def write(self) -> None:
        """Write the file."""
        try:
            write_json(self.values, self.folder / "summary.json", indent=2)
            self.error = None
        except RunFailed as error:
            self.error = error

    def show(self, console: Console) -> None:
        """Print a table."""
        machine = self.values["hardware"]
        caption = ", ".join(f"{name} {value}" for name, value in machine.items())
        table = Table(title=f"acceptance on {machine.get('device', self.values['device'])}", caption=caption)
        for column in ("part", "seconds", "result", "figures"):
            table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
        for row in self.values["table"]:
            cells = row["part"], f"{row['seconds']:.0f}", row["result"], "\n".join(row["figures"])
            table.add_row(*cells, end_section=True)
        console.print(table)


def main(args: AcceptanceArgs) -> None:
    """Run the parts one after another, and write `summary.json` after each.

    The exit code is 1 if a part has failed, no GPU test has run, or Pong has not reached the target in any run.
    """
    device = resolve_device(args.device)
    left_out = _check(args, device)
    make_folder(args.out, "--out")
    end = time.monotonic() + 60 * args.minutes
    conditions: dict[str, Any] = {
        "hardware": _hardware(device),
        "device": device.type,
        "minutes": args.minutes,
        "commit": commit(),
    }
    summary = Summary(args.out, conditions)
    if left_out:
        summary.values["left_out"] = left_out
    summary.write()
    console = Console(markup=False)
    parts = list(_parts(args, device.type, left_out))
    where = conditions["hardware"].get("device", device.type)
    print(f"{len(parts)} parts in {args.minutes:g} minutes on {where}; {args.out} keeps figures and logs", flush=True)
    if device.type == "cpu":
        print("without a GPU the tests that need one are skipped, which counts as failed", flush=True)
    for why in left_out.values():
        print(f"left out: {why}", flush=True)
    try:
        _run_all(parts, end, args, summary)
    except BaseException as error:
        is_signal = isinstance(error, KeyboardInterrupt | SystemExit)
        summary.values["stopped"] = "by a signal" if is_signal else f"by {error!r}"
        raise
    finally:
        kill_all()
        summary.write()
        summary.show(console)
        print(_verdict(summary, args.target), flush=True)
    if summary.error is not None:
        raise summary.error
    if summary.values["failed"]:
        sys.exit(1)


def _run_all(parts: Sequence[Part], end: float, args: AcceptanceArgs, summary: Summary) -> None:
    """Run all parts, each within its time."""
    deadline = time.monotonic()
    trainings = [part for part in parts if part.share is None]
    for part in parts:
        now = time.monotonic()
        if part.share is not None:
            own = 60 * args.minutes * part.share
            deadline += own
            until = min(deadline, now + 2 * own) - PATIENCE
        else:
            last = end - LAST_CHECKPOINT
            until = now + (last - now) / (len(trainings) - trainings.index(part))
        seconds = max(0.0, until - now)
        print(f"{part.name}, at most {seconds:.0f} s …", flush=True)
        try:
            noted = attempt(part, seconds, args.out)
        except BaseException:
            summary.note(part.name, _of_stopped(part, time.monotonic() - now))
            raise
        summary.note(part.name, noted)
    if not any("reached at step" in summary.values[part.name]["figures"] for part in trainings):
        summary.values["failed"].append("target")


def _verdict(summary: Summary, target: float) -> str:
    """Return in a sentence what has failed, and where to look."""
    names = {"target": f"target (no training has reached a mean return of {target:g})"}
    failed = [names.get(part, part) for part in summary.values["failed"]]
    stopped = f"stopped {summary.values['stopped']}; " if "stopped" in summary.values else ""
    return f"{stopped}{'failed: ' + ', '.join(failed) if failed else 'nothing failed'}; see {summary.folder}"


def attempt(part: Part, seconds: float, folder: Path) -> dict[str, Any]:
    """Run a part, and return what is to be noted of it; no error of its own or of ours ends this.

    Args:
        part: The part.
        seconds: Its time.
        folder: Folder for the traceback of an error of ours.
    """
    noted: dict[str, Any] = {"passed": False, "exit_code": None, "seconds": 0.0, "figures": {}}
    problems = []
    start = time.monotonic()
    try:
        ended = part.run(seconds)
        noted["exit_code"] = ended.exit_code
        problems += [ended.why] if ended.why else []
    except Exception as error:
        problems.append(_described(error, part, folder))
    noted["seconds"] = round(time.monotonic() - start, 1)
    if part.file is not None:
        noted["file"] = part.file
    try:
        noted["figures"] = part.read()
    except FileNotFoundError:
        problems.append("it left no figures")
    except RunFailed as error:
        problems.append(str(error))
    except Exception as error:
        problems.append(f"there are no figures ({type(error).__name__}: {one_line(error)})")
    if part.draw is not None and noted["figures"]:
        try:
            part.draw()
        except Exception as error:
            problems.append(_described(error, part, folder))
    return noted | ({"why": "; ".join(problems)} if problems else {"passed": True})


def _of_stopped(part: Part, seconds: float) -> dict[str, Any]:
    """Return what is to be noted of a part that a signal has stopped after so many seconds."""
    try:
        figures = part.read()
    except Exception:  # it has not come so far
        figures = {}
    return {"passed": False, "seconds": round(seconds, 1), "figures": figures, "why": "stopped by a signal"}


def _described(error: Exception, part: Part, folder: Path) -> str:
    """Return an error of ours as text; its traceback goes to a file."""
    try:
        with (folder / "errors.txt").open("a") as file:
            file.write(f"{part.name}\n{''.join(traceback.format_exception(error))}\n")
    except OSError:
        pass  # the sentence is in the summary
    return f"{type(error).__name__}: {one_line(error)}"


def _hardware(device: torch.device) -> dict[str, Any]:
    """Return the machine, or the error that its driver gives."""
    try:
        found = hardware(device)
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            found["gpu_memory_gb"] = round(properties.total_memory / 1e9, 1)
            found["compute_capability"] = f"{properties.major}.{properties.minor}"
            found["cuda"] = torch.version.cuda
            found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return {"device": device.type, "error": one_line(error)}
    return found


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 or value == int(value) else f"{value:.4g}"


def _check(args: AcceptanceArgs, device: torch.device) -> dict[str, str]:
    """Check what is asked for, and return the entries to compare with that cannot run here, with the reason."""
    if (args.out / "summary.json").exists():
        raise UserError(f"{args.out} holds an earlier acceptance; use another --out")
    presets_of(args.updates)
    left_out = {}
    for name in split_names(args.against):
        try:
            check_entries(name, device)
        except UserError as error:
            if name not in (*PEERS, OURS_BFLOAT16):
                raise
            left_out[name] = str(error)
    return left_out


def _parts(args: AcceptanceArgs, device: str, left_out: dict[str, str]) -> Iterator[Part]:
    """Yield the parts in order."""
    yield Part(
        "tests", partial(_run_tests, args), partial(_tests, args.out / "tests.xml"), SHARES["tests"], "tests.xml"
    )
    against = [name for name in split_names(args.against) if name not in left_out] or [NOBODY]
    num_envs = ["--num-envs", str(args.num_envs)]

    def benchmark(name: str, read: Callable[[Path], Figures], share: float, flags: list[str], entries: int = 0) -> Part:
        file = args.out / f"{name}.json"
        if entries:
            flags = [*flags, "--seconds", f"{60 * args.minutes * share * MEASURED / entries:g}"]
        command = command_of("benchmark", [*flags, "--device", device, "--json", str(file)])
        return Part(name, partial(supervise, command, args.out / f"{name}.txt"), partial(read, file), share, file.name)

    speed = ["--against", ",".join(against), *num_envs, "--replay-capacity", str(args.replay_capacity)]
    speed += ["--picture", str(args.out / "step.png")]
    yield benchmark("speed", figures_of.of_speed, SHARES["speed"], speed, 1 + len(against))
    speed = ["--algorithm", "pqn", "--num-envs", str(PQN_ENVS), "--picture", str(args.out / "step_pqn.png")]
    yield benchmark("speed_pqn", figures_of.of_speed, SHARES["speed_pqn"], speed, 2)
    presets = presets_of(args.updates)
    for name in presets:  # each in a process of its own, because an error of a GPU is the process's last
        flags = ["--updates", name]
        yield benchmark(f"update_{name}", figures_of.of_update, SHARES["updates"] / len(presets), flags, 1)
    sampling = ["--sampling", str(args.rows), *num_envs]
    yield benchmark("sampling", figures_of.of_sampling, SHARES["sampling"], sampling, 1)
    yield benchmark("startup", figures_of.of_startup, SHARES["startup"], ["--startup", "--turns", "1"])
    for name in split_names(args.presets):
        run = args.out / f"pong_{name}"
        read, draw = partial(figures_of.of_run, run, args.target), partial(plot_run, run)
        yield Part(run.name, partial(train, args, name, device), read, draw=draw)


def command_of(verb: str, flags: Sequence[str]) -> list[str]:
    """Return the command of a verb in a process of its own."""
    return [sys.executable, "-P", "-m", "pixelq.scripts.main", verb, *flags]


def _run_tests(args: AcceptanceArgs, seconds: float) -> Ended:
    """Run the tests that need a GPU, or say why not."""
    if importlib.util.find_spec("pytest") is None:
        return Ended(None, 0.0, False, "pytest is not installed")
    files = files_with_gpu_tests(args.tests)  # alone, so that no other file costs time or can fail to be imported
    if not files:
        return Ended(None, 0.0, False, f"there is no test that needs a GPU in the folder {args.tests}")
    flags = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", f"timeout={max(1, int(seconds / 2))}"]
    command = [sys.executable, "-m", "pytest", *flags, *map(str, files), f"--junitxml={args.out / 'tests.xml'}"]
    return supervise(command, args.out / "tests.txt", seconds, stop=signal.SIGINT)  # with which pytest sums up


def files_with_gpu_tests(folder: Path) -> list[Path]:
    """Return the files of tests in a folder that mark some as tests that need a GPU."""
    found = (file for file in folder.rglob("test_*.py") if GPU_MARK.search(file.read_text(errors="replace")))
    return sorted(found, key=lambda file: (len(file.parts), file))  # those of the folder itself first


def _tests(file: Path) -> Figures:
    figures = figures_of.of_tests(file)
    if figures["passed"] == 0:
        raise RunFailed(f"no test passed; {pluralize(int(figures['skipped']), 'test')} skipped")
    return figures


def train(args: AcceptanceArgs, name: str, device: str, seconds: float) -> Ended:
    """Train on Pong until the target is reached or the time is up, which is no failure.

    Args:
        args: The command line.
        name: Name of the preset.
        device: `cpu` or `cuda`.
        seconds: The time.
    """
    run = args.out / f"pong_{name}"
    flags = ["--preset", name, "--steps", str(10**9), "--out", str(run)]
    if preset(name).algorithm == "dqn":  # PQN learns from all environments together: their number is a setting
        flags += ["--num-envs", str(args.num_envs)]
    flags += ["--evaluate-every", str(args.evaluate_every), "--checkpoint-every", str(args.evaluate_every)]
    ended = supervise(
        command_of("train", [*flags, "--device", device]),
        args.out / f"{run.name}.txt",
        seconds,
        is_done=lambda: _has_reached(run, args.target),
        stop=signal.SIGTERM,  # it writes a checkpoint and ends; what a shell starts in the background ignores SIGINT
        patience=LAST_CHECKPOINT,
    )
    is_well = ended.was_stopped and ended.exit_code in (0, 128 + signal.SIGTERM)
    return ended._replace(why=None) if is_well else ended


def _has_reached(run: Path, target: float) -> bool:
    """Return whether a run has had an evaluation that reached the target."""
    try:
        return "reached at step" in figures_of.of_run(run, target)
    except (OSError, ValueError):  # not there yet
        return False


if __name__ == "__main__":
    sys.exit(run_verb("acceptance"))
