"""Speed and memory of the benchmark's entries: their turns, the figures of these, and how they are printed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents.errors import UserError
from pixelq.agents.learning.gradient import has_bfloat16
from pixelq.agents.runs.machine import hardware
from pixelq.envs import is_atari
from pixelq.scripts.benchmarks.peers import NOBODY, OURS, OURS_BFLOAT16, OWN, Entry, Turn, entries_of, serve
from pixelq.scripts.benchmarks.pqn_cost import pqn_cost
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.processes import process, receive
from pixelq.scripts.benchmarks.roofline import measure_peaks, update_cost
from pixelq.scripts.benchmarks.work import ATARI, Work
from pixelq.scripts.command_line import split_names


class Measured(NamedTuple):
    """Measurements of all turns."""

    runs: dict[str, list[Turn]]
    """Turns of each entry."""
    parts: dict[str, dict[str, float]]
    """Milliseconds per step in each part of the loop, of our own entries."""
    peaks: dict[str, float]
    """Limits of the machine; see `measure_peaks`."""
    failed: list[str]
    """Entries whose processes have ended too early."""


def check_entries(against: str, device: torch.device, work: Work | PQNWork = ATARI) -> list[str]:
    """Return the entries that a text names, if each of these libraries is installed.

    Args:
        against: Names with commas between them, or `none`.
        device: Device of the benchmark.
        work: The work of each entry.

    Raises:
        UserError: If one is unknown or not installed, or the device does not compute in its precision.
    """
    peers = [] if against == NOBODY else split_names(against)
    entries = entries_of(work)
    known = [name for name in entries if name != OURS]
    for name in peers:
        if name not in known:
            among = known[0] if len(known) == 1 else f"names among {', '.join(known)}"
            raise UserError(f"--against must be {among}, got {name!r}")
        if name == OURS_BFLOAT16 and not has_bfloat16(device):
            raise UserError(f"--against has {name}, but this {device.type} does not compute in bfloat16; leave it out")
        check_installed(name, entries[name])
    return peers


def check_installed(name: str, entry: Entry) -> None:
    """Check that what an entry needs is installed.

    Raises:
        UserError: If a module is not.
    """
    for module, requirement in entry.needs.items():
        try:
            importlib.import_module(module)
        except ImportError:
            raise UserError(f"{name} needs {module}: pip install {requirement}") from None


def take_turns(
    names: Sequence[str],
    work: Work | PQNWork,
    device: torch.device,
    turns: int,
    seconds: float,
    keep: Callable[[Measured], None] = lambda measured: None,
) -> Measured:
    """Measure entries in turn; while one is measured, the others wait. One whose process ends costs the others nothing.

    Args:
        names: Names of the entries.
        work: The work of each.
        device: Device to compute on.
        turns: Number of turns of each entry.
        seconds: Approximate length of a turn.
        keep: Told the measurements after each turn of all entries.
    """
    measured = Measured({name: [] for name in names}, {}, {}, [])
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        connections = {}
        for name in names:
            status.update(f"{name} warms up with {work.replay_capacity:,} steps")
            connections[name] = stack.enter_context(process(serve, name, work, device.type))
            _answer(name, connections, measured)
        for turn in range(turns):
            for name in list(connections):
                status.update(f"turn {turn + 1} of {turns}: {name}, {seconds:.0f} s")
                measured.runs[name] += _answer(name, connections, measured, seconds)
            for name, peak in measure_peaks(device).items():
                measured.peaks[name] = max(peak, measured.peaks.get(name, 0.0))
            keep(measured)
        for name in (name for name in list(connections) if name in OWN):
            status.update(f"{name}, part by part, {seconds:.0f} s")
            for parts in _answer(name, connections, measured, None):
                measured.parts[name] = parts
    return measured


def _answer(name: str, connections: dict[str, Connection], measured: Measured, *question: float | None) -> list[Any]:
    """Return what an entry's process answers; [] if it has ended, which is noted.

    Args:
        name: Name of the entry.
        connections: Connections to the processes, from which that of a process that has ended is removed.
        measured: The measurements.
        question: What the process is asked, if it does not speak by itself.
    """
    try:
        for each in question:
            connections[name].send(each)
        return [receive(name, connections[name])]
    except (RuntimeError, BrokenPipeError):
        del connections[name]
        measured.failed.append(name)
        return []


def summarize(measured: Measured, work: Work | PQNWork, device: torch.device) -> dict[str, Any]:
    """Return the figures as JSON values; a ratio is our median of steps per second over the peer's.

    Args:
        measured: The measurements.
        work: The work of each entry.
        device: Device that was computed on.
    """
    # Speed and memory
    results: list[dict[str, Any]] = []
    for name, turns in measured.runs.items():
        if not turns:  # its process has ended
            continue
        speeds = [turn.steps / turn.seconds for turn in turns]
        result: dict[str, Any] = {
            "name": name,
            "version": entries_of(work)[name].version(),
            "steps_per_second": median(speeds),
            "updates_per_second": median(turn.updates / turn.seconds for turn in turns),
            "peak_memory_mib": max(turn.peak_memory_mib for turn in turns),
            "runs": speeds,
            "steps": sum(turn.steps for turn in turns),
            "updates": sum(turn.updates for turn in turns),
            "seconds": sum(turn.seconds for turn in turns),
        }
        if device.type == "cuda":
            result["peak_device_memory_mib"] = max(turn.peak_device_memory_mib or 0.0 for turn in turns)
        results.append(result)
    # Bounds of our own entries
    cost = pqn_cost(work, device) if isinstance(work, PQNWork) else update_cost(work, device)
    own = [result for result in results if result["name"] in OWN]
    for result in own:
        precision = "bfloat16" if result["name"] == OURS_BFLOAT16 else "float32"
        bound = measured.peaks[f"gflop_per_second_{precision}"] / cost.gflop
        result["precision"], result["updates_per_second_bound"] = precision, bound
        result["share_of_bound"] = result["updates_per_second"] / bound
    # Ratios
    ours = [result for result in results if result["name"] == OURS]
    peers = [result for result in results if result["name"] != OURS]
    figures = {
        "hardware": hardware(device),
        "device": device.type,
        "work": asdict(work),
        "results": results,
        "ratios": {peer["name"]: one["steps_per_second"] / peer["steps_per_second"] for one in ours for peer in peers},
        "ratio_runs": {
            one["name"]: {
                peer["name"]: [a / b for a, b in zip(one["runs"], peer["runs"], strict=False)]
                for peer in peers
                if peer["name"] not in OWN
            }
            for one in own
        },
        "update": asdict(cost),
        "peaks": measured.peaks,
        "milliseconds_per_step": measured.parts,
    }
    return figures | {"failed": measured.failed} if measured.failed else figures


def title(figures: dict[str, Any]) -> str:
    """Return the work as one line."""
    work = figures["work"]
    return (
        f"{work['env']} · {work['num_envs']} environments · batch {work['batch_size']} · an update per "
        f"{work['train_every']} steps · {figures['device']}"
    )


def step_unit(env: str) -> str:
    """Return what a step of an environment is."""
    return "agent step (four frames)" if is_atari(env) else "agent step"


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures of `summarize`: a table, the bounds, and the parts of a step."""
    stored = "a rollout" if "rollout_length" in figures["work"] else "replay"
    frames = "; a step is four frames" if is_atari(figures["work"]["env"]) else ""
    table = Table(
        title=title(figures),
        caption=f"steps/s: median (min–max) over turns{frames}. Peak MiB: memory of the process with "
        f"{figures['work']['replay_capacity']:,} rows of {stored}.",
    )
    table.add_column("name")
    for heading in ("version", "steps/s", "updates/s", "peak MiB"):
        table.add_column(heading, justify="right")
    for result in figures["results"]:
        runs = result["runs"]
        table.add_row(
            result["name"],
            result["version"],
            f"{result['steps_per_second']:,.0f} ({min(runs):,.0f}–{max(runs):,.0f})",
            f"{result['updates_per_second']:,.0f}",
            f"{result['peak_memory_mib']:,.0f}",
        )
    console.print(table)
    # Ratios
    speeds = {result["name"]: result["steps_per_second"] for result in figures["results"]}
    for one, peers in figures["ratio_runs"].items():
        for peer, over_turns in peers.items():
            spread = f"({min(over_turns):.2f}–{max(over_turns):.2f} over turns)"
            console.print(f"{one} over {peer}: {speeds[one] / speeds[peer]:.2f} {spread}")
    # Bounds
    update, peaks, hardware_ = figures["update"], figures["peaks"], figures["hardware"]
    console.print(f"an update: {update['gflop']:.2f} GFLOP; its operations read and write {update['gigabytes']:.2f} GB")
    for result in figures["results"]:
        if "share_of_bound" in result:
            precision = result["precision"]
            console.print(
                f"{result['name']}: {result['share_of_bound']:.0%} of the {result['updates_per_second_bound']:,.0f} "
                f"updates/s that arithmetic alone would allow "
                f"({peaks['gflop_per_second_' + precision]:,.0f} GFLOP/s {precision} measured)"
            )
    # Parts of a step
    for name, parts in figures["milliseconds_per_step"].items():
        console.print(f"{name}, ms a step: " + ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items()))
    console.print(
        f"{hardware_['cpu']}, {hardware_['cores']} cores, {hardware_['device']}; memory copies "
        f"{peaks['gigabytes_per_second']:.0f} GB/s",
        style="dim",
    )
