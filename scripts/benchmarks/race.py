"""A race: agents of several libraries, each with the settings of its own source, learn one game in turns."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console

from pixelq.agents.config.presets import PRESET_PROTOCOLS, preset
from pixelq.agents.errors import UserError
from pixelq.agents.runs.machine import hardware
from pixelq.envs import reference_score
from pixelq.scripts.benchmarks.peers import ENTRIES, NOBODY
from pixelq.scripts.benchmarks.processes import process, receive
from pixelq.scripts.benchmarks.racing import GAMES, Conditions, Described, Entry, Refused, Report, race_on
from pixelq.scripts.benchmarks.speed import check_installed
from pixelq.scripts.command_line import split_names

SLICE = 10.0
"""Seconds of an entry's turn."""
LEAST_TURNS = 20
"""Fewest turns of an entry; short races have shorter ones."""
SAID_EVERY = 60.0
"""Seconds of each entry between lines of progress where there is no terminal."""
RACERS = {
    "sb3": Entry("sb3", "race_sb3", "StableBaselines3", "stable-baselines3"),
    "cleanrl": Entry("cleanrl", "race_cleanrl", "CleanRL"),
}
"""Entries of other libraries, by name."""
Point = tuple[float, int, float | None]
"""Seconds, agent steps and score."""


class Raced(NamedTuple):
    """How an entry has done with one seed."""

    seed: int
    """Seed."""
    entry: Entry
    """The entry."""
    described: Described
    """What its process says of it."""
    reports: list[Report]
    """Where it stood at the end of each slice, and when it reached the score."""

    @property
    def seconds(self) -> float:
        """Seconds for which it has trained."""
        return self.reports[-1].seconds if self.reports else 0.0

    @property
    def seconds_to_score(self) -> float | None:
        """Seconds after which it had the score; None if it has not reached it."""
        return self.reports[-1].seconds_to_score if self.reports else None

    def curve(self) -> list[Point]:
        """Return where it stood when."""
        rounded = (None if each.score is None else round(each.score, 3) for each in self.reports)
        return [(round(each.seconds, 3), each.steps, score) for each, score in zip(self.reports, rounded, strict=True)]


def entries_of(presets: str, against: str, num_envs: int | None) -> list[Entry]:
    """Return the entries of a race, ours first.

    Args:
        presets: Names of presets, with commas between them.
        against: Names of other entries, with commas between them; `none` for no others.
        num_envs: Number of environments of the presets; None for that of `pixelq train`.

    Raises:
        UserError: If a name is unknown, or an entry is not installed.
    """
    chosen = split_names(presets)
    for name in chosen:
        preset(name)  # which refuses an unknown one
    ours = [
        Entry(
            f"pixelq {name}",
            "race_pixelq",
            "Pixelq",
            "pixelq",
            options={"preset": name, "num_envs": num_envs},
            is_ours=True,
        )
        for name in chosen
    ]
    peers = split_names(against)
    if peers == [NOBODY]:
        return ours
    for name in peers:
        if name not in RACERS:
            raise UserError(f"--against must be names among {', '.join(RACERS)}, or {NOBODY}, in a race, got {name!r}")
        check_installed(name, ENTRIES[name])
    return [*ours, *(RACERS[name] for name in peers)]


def conditions_of(entries: Sequence[Entry], env: str, to_score: float, device: torch.device) -> Conditions:
    """Return what is the same for all: they play by the protocol of the first preset."""
    return Conditions(env, PRESET_PROTOCOLS[entries[0].options["preset"]], to_score, device.type)


def race(
    entries: Sequence[Entry],
    conditions: Conditions,
    seeds: Sequence[int],
    seconds: float,
    keep: Callable[[list[Raced]], None],
) -> list[Raced]:
    """Race once for each seed, and return how each entry has done.

    Args:
        entries: The entries, ours first.
        conditions: What is the same for all.
        seeds: Seeds of the races.
        seconds: Most seconds of each entry; a race ends before when all of ours have reached the score.
        keep: Called with all that is known after every round of turns.
    """
    raced: list[Raced] = []
    for seed in seeds:
        with ExitStack() as stack, Console(stderr=True).status("") as status:
            say = _Progress(status.console, status.update)
            connections = {}
            for entry in entries:
                say(f"seed {seed}: {entry.name} starts")
                connections[entry.name] = stack.enter_context(process(race_on, entry, conditions, seed))
                described = _received(entry, connections[entry.name])
                raced.append(Raced(seed, entry, described, []))
            _race(raced[-len(entries) :], connections, seconds, say, lambda: keep(raced))
    return raced


def _race(
    raced: Sequence[Raced],
    connections: Mapping[str, Connection],
    seconds: float,
    say: Callable[[str, float | None], None],
    keep: Callable[[], None],
) -> None:
    """Give slices of time in turn until the race is over.

    It ends for all at the same number of own seconds: at the last of ours to reach the score, or else at `seconds`.
    """
    end, until = seconds, 0.0
    while until < end:
        until = min(end, until + min(SLICE, seconds / LEAST_TURNS))
        for each in raced:  # ours come first, so that others train no longer than they
            say(_standing(each), each.seconds)
            while each.seconds < min(until, end):
                connections[each.entry.name].send(min(until, end))
                each.reports.append(_received(each.entry, connections[each.entry.name]))
                end = min(end, _end_of(raced) or end)
        keep()


def _end_of(raced: Sequence[Raced]) -> float | None:
    """Return the seconds after which all of ours had the score; None if one has not reached it."""
    found = [each.seconds_to_score for each in raced if each.entry.is_ours]
    return None if None in found else max(seconds for seconds in found if seconds is not None)


def _received(entry: Entry, connection: Connection) -> Any:
    """Return what an entry's process sends next.

    Raises:
        UserError: If it cannot race.
    """
    found = receive(entry.name, connection)
    if isinstance(found, Refused):
        raise UserError(f"{entry.name} cannot race: {found.why}")
    return found


def _standing(each: Raced) -> str:
    if not each.reports:
        return f"seed {each.seed}: {each.entry.name} begins"
    last = each.reports[-1]
    score = "no score yet" if last.score is None else f"score {last.score:.1f}"
    return f"seed {each.seed}: {each.entry.name}, {last.seconds / 60:.1f} min, {last.steps:,} steps, {score}"


class _Progress:
    """Says how a race stands: always on a terminal, and elsewhere about once a minute of each entry.

    Args:
        console: Console on stderr.
        show: Shows a text in its last line.
    """

    def __init__(self, console: Console, show: Callable[[str], None]) -> None:
        self.console, self.show = console, show

    def __call__(self, text: str, seconds: float | None = None) -> None:
        """Show a text; `seconds` is how long the entry has trained."""
        self.show(text)
        is_due = seconds is None or seconds % SAID_EVERY < SLICE
        if is_due and not self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False)


def figures_of(raced: Sequence[Raced], conditions: Conditions, seconds: float) -> dict[str, Any]:
    """Return the figures as JSON values.

    Args:
        raced: How each entry has done with each seed so far.
        conditions: What is the same for all.
        seconds: Most seconds of each entry.
    """
    device = torch.device(conditions.device)
    reference = reference_score(conditions.env)
    return {
        "hardware": hardware(device),
        "versions": {name: version(name) for name in ("pixelq", "torch", "numpy", "gymnasium", "ale-py")},
        "commit": commit(),
        **conditions._asdict(),
        "score": f"mean raw return of the last {GAMES} whole games of the training, exploration included",
        "games": GAMES,
        "most_seconds": seconds,
        "seconds_per_turn": min(SLICE, seconds / LEAST_TURNS),
        "random": None if reference is None else reference.random,
        "human": None if reference is None else reference.human,
        "entries": {
            each.entry.name: {"version": each.described.version, "settings": each.described.settings} for each in raced
        },
        "runs": [
            {
                "entry": each.entry.name,
                "seed": each.seed,
                "seconds_to_score": each.seconds_to_score,
                "seconds": each.seconds,
                "steps": last.steps,
                "games": last.games,
                "threads": last.threads,
                "curve": each.curve(),
            }
            for each in raced
            for last in each.reports[-1:]
        ],
        "arrivals": _arrivals(raced),
    }


def _arrivals(raced: Sequence[Raced]) -> list[dict[str, Any]]:
    """Return, for each time that one of ours reached the score, the scores of all after as many seconds of theirs."""
    return [
        {
            "entry": ours.entry.name,
            "seed": ours.seed,
            "seconds": ours.seconds_to_score,
            "scores": {
                each.entry.name: score_after(each.curve(), ours.seconds_to_score)
                for each in raced
                if each.seed == ours.seed
            },
        }
        for ours in raced
        if ours.entry.is_ours and ours.seconds_to_score is not None
    ]


def score_after(curve: Sequence[Point], seconds: float) -> float | None:
    """Return the score of a curve at its first point that is not earlier, or else at its last."""
    later = [score for at, _, score in curve if at >= round(seconds, 3)]
    return later[0] if later else curve[-1][2] if curve else None


@functools.cache  # it is that of the start, whatever changes during a race
def commit() -> str | None:
    """Return the commit of the working tree that this program is in, with `-dirty` after changes; None outside one."""
    folder, name = Path(__file__).resolve().parent, Path(__file__).name
    try:
        subprocess.run(["git", "ls-files", "--error-unmatch", name], cwd=folder, capture_output=True, check=True)
        described = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, cwd=folder, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def medians(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return figures of each entry over its seeds, by name.

    Returns:
        `to_score`: seconds to the score of the seeds that reached it; `seeds`: number of seeds; `steps_per_second`:
        median; `at_end`: median score at the end; `at_arrival`: median score when each of our presets arrived.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in figures["entries"]:
        runs = [run for run in figures["runs"] if run["entry"] == name]
        last = [run["curve"][-1][2] for run in runs if run["curve"][-1][2] is not None]
        arrivals: dict[str, list[float]] = {}
        for arrival in figures["arrivals"]:
            if arrival["scores"].get(name) is not None:
                arrivals.setdefault(arrival["entry"], []).append(arrival["scores"][name])
        found[name] = {
            "seeds": len(runs),
            "to_score": sorted(run["seconds_to_score"] for run in runs if run["seconds_to_score"] is not None),
            "steps_per_second": median(run["steps"] / run["seconds"] for run in runs) if runs else None,
            "at_end": median(last) if last else None,
            "at_arrival": {ours: median(scores) for ours, scores in arrivals.items()},
        }
    return found
