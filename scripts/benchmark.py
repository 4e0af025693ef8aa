"""`pixelq benchmark`: our training speed beside those of other libraries at the same work, and races to a score."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import RunFailed, UserError
from pixelq.envs.ids import check_id, is_atari
from pixelq.scripts.benchmarks.checkpoint_cost import checkpoint_costs, show_checkpoints
from pixelq.scripts.benchmarks.evaluation_cost import PARALLEL, evaluation_costs, show_evaluation
from pixelq.scripts.benchmarks.growth import growth
from pixelq.scripts.benchmarks.growth_points import ALL, why_no_cores
from pixelq.scripts.benchmarks.growth_shown import draw_growth, show_growth
from pixelq.scripts.benchmarks.peers import OURS
from pixelq.scripts.benchmarks.pqn_work import PQNWork
from pixelq.scripts.benchmarks.race import Raced, conditions_of, entries_of, figures_of, race
from pixelq.scripts.benchmarks.race_shown import draw_race, show_race
from pixelq.scripts.benchmarks.sampling_cost import sampling_costs, show_sampling
from pixelq.scripts.benchmarks.speed import check_entries, show, step_unit, summarize, take_turns, title
from pixelq.scripts.benchmarks.startup_cost import show_startup, startup_costs
from pixelq.scripts.benchmarks.step_cost import draw_steps
from pixelq.scripts.benchmarks.update_cost import presets_of, show_costs, update_costs
from pixelq.scripts.benchmarks.work import SMALL, Work
from pixelq.scripts.command_line import STDOUT, check_writable, write_json
from pixelq.scripts.flags.benchmark import BenchmarkArgs
from pixelq.scripts.main import run


def main(args: BenchmarkArgs) -> None:
    """Measure, and print the figures."""
    _check(args)
    device = resolve_device(args.device)
    console = Console(stderr=args.json == STDOUT, markup=False)
    num_envs, seconds = args.envs_of_each, args.seconds / args.turns
    if args.to_score is not None:
        figures = _race(args, args.to_score, device, console)
    elif args.growth is not None:
        figures = _growth(args, device, console)
    elif args.updates is not None:
        figures = update_costs(presets_of(args.updates), device, args.turns, seconds, _keeper(args))
        show_costs(figures, console)
    elif args.sampling is not None:
        figures = sampling_costs(args.sampling, num_envs, device, args.turns, seconds)
        show_sampling(figures, console)
    elif args.checkpoints is not None:
        figures = checkpoint_costs(args.env, args.checkpoints, num_envs, device)
        show_checkpoints(figures, console)
    elif args.evaluation:
        parallel = PARALLEL if args.num_envs is None else (args.num_envs,)
        figures = evaluation_costs(parallel, device, args.turns, seconds / (2 * len(parallel)))
        show_evaluation(figures, console)
    elif args.startup:
        figures = startup_costs(args.env, num_envs, device, args.turns)
        show_startup(figures, console)
    else:
        work = _work(args)
        names = [OURS, *check_entries(args.against, device, work)]
        keep = _keeper(args)
        measured = take_turns(
            names, work, device, args.turns, seconds, lambda measured: keep(summarize(measured, work, device))
        )
        figures = summarize(measured, work, device)
        show(figures, console)
        if figures["milliseconds_per_step"]:
            costs, unit = figures["milliseconds_per_step"], step_unit(figures["work"]["env"])
            _draw(args, lambda path: draw_steps(costs, title(figures), path, unit), console)
    if args.json is not None:
        write_json(figures, args.json, indent=2)
    if figures.get("failed"):
        raise RunFailed(f"{' and '.join(figures['failed'])} ended too early; the reason is printed above")


def _keeper(args: BenchmarkArgs) -> Callable[[dict[str, Any]], None]:
    """Return a function that writes figures so far to the file, if there is one."""

    def keep(figures: dict[str, Any]) -> None:
        if args.json is not None and args.json != STDOUT:
            write_json(figures, args.json, indent=2)

    return keep


def _work(args: BenchmarkArgs) -> Work | PQNWork:
    """Return the work of all entries."""
    if args.algorithm == "pqn":
        return PQNWork(args.env, args.envs_of_each)
    if args.small:
        return replace(SMALL, num_envs=args.envs_of_each, replay_capacity=args.replay_capacity)
    return Work(args.env, args.envs_of_each, args.replay_capacity)


def _race(args: BenchmarkArgs, to_score: float, device: torch.device, console: Console) -> dict[str, Any]:
    """Race, and show how it ended, also if it was stopped; return the figures."""
    entries = entries_of(args.presets, args.against, args.num_envs)
    conditions = conditions_of(entries, args.env, to_score, device)
    figures, write = figures_of([], conditions, args.seconds), _keeper(args)

    def keep(raced: Sequence[Raced]) -> None:
        figures.update(figures_of(raced, conditions, args.seconds))
        write(figures)

    try:
        race(entries, conditions, args.seeds_to_race, args.seconds, keep)
    finally:
        if figures["runs"]:
            show_race(figures, console)
            _draw(args, lambda path: draw_race(figures, path), console)
    return figures


def _growth(args: BenchmarkArgs, device: torch.device, console: Console) -> dict[str, Any]:
    """Measure how speed and memory grow, and show it, also if it was stopped; return the figures."""
    why = why_no_cores()
    if args.growth == ALL and why is not None:
        console.print(f"cores are left out: {why}")
    figures: dict[str, Any] = {}
    write = _keeper(args)

    def keep(found: dict[str, Any]) -> None:
        figures.update(found)
        write(figures)

    try:
        growth(args.series_to_measure, args.env, device, args.turns, args.seconds / args.turns, keep)
    finally:
        if figures:
            show_growth(figures, console)
            _draw(args, lambda path: draw_growth(figures, path), console)
    return figures


def _draw(args: BenchmarkArgs, draw: Callable[[Path], None], console: Console) -> None:
    """Draw the picture, if one is wanted."""
    if args.picture is None:
        return
    try:
        draw(args.picture)
    except OSError as error:
        raise RunFailed(f"the picture cannot be written to {args.picture} ({error.strerror})") from error
    console.print(f"picture in {args.picture}", markup=False)


def _check(args: BenchmarkArgs) -> None:
    """Check, before anything is measured, that it can be."""
    check_id(args.env)
    if not is_atari(args.env):
        raise UserError(f"--env must be an Atari game, such as ALE/Pong-v5, got {args.env}")
    for path, flag in ((args.json, "--json"), (args.picture, "--picture")):
        if path not in (None, STDOUT):
            check_writable(path, flag)


if __name__ == "__main__":
    sys.exit(run("benchmark"))
