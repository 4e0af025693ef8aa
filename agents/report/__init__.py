"""Report of runs, one page that opens offline in any browser, and the live page of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.report.across import across_section
from pixelq.agents.report.curves import curves_section
from pixelq.agents.report.insight import insight_sections, no_episode
from pixelq.agents.report.page import Section, check_extra, render
from pixelq.agents.report.settings import machines_section, settings_section
from pixelq.agents.report.standing import standing_section, summary_section
from pixelq.agents.report.watch import Watching, watch_runs
from pixelq.agents.results.formatting import describe_rules, pluralize, shortened
from pixelq.agents.results.records import Group, Run, read_groups
from pixelq.agents.storage.files import replace_file
from pixelq.agents.storage.pointers import CHECKPOINTS

__all__ = ["ReportOptions", "Watching", "make_report", "watch_runs", "write_report"]


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report."""

    film: Path | None = None
    """Run, checkpoint or pretrained policy whose best episode is shown; None for the run with the best evaluation."""
    episodes: int = 10
    """Number of episodes that are played, of which the best is shown; 0 for no film."""
    seed: int = 0
    """Seed of these episodes."""
    device: str = "auto"
    """Device of the policy: `auto`, `cpu` or `cuda`."""
    price_per_hour: float | None = None
    """Price of the machine per hour, in any currency; None leaves the cost out."""
    name: str | None = None
    """Title of the page; None for the agent and the environment."""


MOST_NAMES = 6
"""Greatest number of names of runs below the title."""


def write_report(
    runs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: ReportOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the report of run folders to an HTML file; see `make_report`.

    Args:
        runs: The run folders.
        out: Path of the file.
        options: Options of the report; None for the defaults.
        tell: Function that is called with a line of text before a step that takes long, and if no episode is shown.

    Raises:
        OSError: If the file cannot be written.
        InvalidRun, InvalidCheckpoint, MissingExtra: As in `make_report`.
    """
    # Names of folders that are not UTF-8 are written with question marks.
    replace_file(Path(out), make_report(runs, options, tell).encode(errors="replace"))


def make_report(
    runs: Iterable[str | os.PathLike[str]],
    options: ReportOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Return the report of run folders as HTML: one page of about five megabytes, and a film, that needs no network.

    Args:
        runs: The run folders. Runs that differ only in their seed are grouped.
        options: Options of the report; None for the defaults.
        tell: Function that is called with a line of text before a step that takes long, and if no episode is shown.

    Raises:
        InvalidRun: If no run is given, or one cannot be read.
        InvalidCheckpoint: If the policy of `options.film` cannot be played.
        MissingExtra: If a library of the extra `report` is missing.
    """
    check_extra()  # before episodes are played for minutes
    groups, options = read_groups(runs), options or ReportOptions()
    sections = [
        summary_section(groups),
        curves_section(groups),
        standing_section(groups),
        across_section(groups),
        *_film_sections(groups, options, tell),
        settings_section(groups),
        machines_section(groups, options.price_per_hour),
    ]
    return render(
        options.name or _title(groups), _subtitle(groups), [section for section in sections if section is not None]
    )


def _film_sections(groups: Sequence[Group], options: ReportOptions, tell: Callable[[str], None]) -> list[Section]:
    """Return the sections about an episode; without a checkpoint that can be played, one that says so."""
    if options.episodes == 0:
        return []
    path = options.film or run_to_film(groups)
    if path is None:
        return no_episode("none of the runs' folders has a checkpoint", tell)
    try:
        return insight_sections(path, episodes=options.episodes, seed=options.seed, device=options.device, tell=tell)
    except InvalidCheckpoint as error:
        if options.film is not None:
            raise
        return no_episode(str(error), tell)


def run_to_film(groups: Sequence[Group]) -> Path | None:
    """Return the run with the best evaluation among those with checkpoints; None if no run has one.

    Only runs on the first environment that has such a run are compared. A run without an evaluation comes last.
    """

    def best_mean(run: Run) -> float:
        return float("-inf") if run.best is None or math.isnan(run.best.mean) else run.best.mean

    for env in dict.fromkeys(group.env for group in groups):
        runs = [run for group in groups if group.env == env for run in group.runs]
        playable = [run for run in runs if any((run.path / CHECKPOINTS).glob("step_*"))]
        if playable:
            return max(playable, key=best_mean).path
    return None


def _title(groups: Sequence[Group]) -> str:
    """Return the heading: the agent and the environment, or the number of them."""
    envs = list(dict.fromkeys(group.env for group in groups))
    agents = list(dict.fromkeys(group.label for group in groups))
    of_agents = agents[0] if len(agents) == 1 else f"{len(agents)} agents"
    return f"{of_agents} on {envs[0] if len(envs) == 1 else f'{len(envs)} environments'}"


def _subtitle(groups: Sequence[Group]) -> str:
    """Return the line below the heading: the names of the runs, their protocols, and today's date."""
    names = [shortened(run.name, 40) for group in groups for run in group.runs]
    shown = ", ".join(names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"])
    protocols = ", ".join(dict.fromkeys(describe_rules(group.protocol) for group in groups))
    today = datetime.now().astimezone()
    return f"{pluralize(len(names), 'run')}: {shown} · protocol {protocols} · {today.day} {today:%B %Y}"
