"""A report of runs: one page that opens offline in any browser."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.report.across import across_section
from pixelq.agents.report.curves import curves_section
from pixelq.agents.report.page import Section, render
from pixelq.agents.report.settings import machines_section, settings_section
from pixelq.agents.report.standing import standing_section, summary_section
from pixelq.agents.results.formatting import describe_rules, pluralize
from pixelq.agents.results.records import Group, Run, read_groups
from pixelq.agents.storage.files import replace_file

__all__ = ["ReportOptions", "make_report", "write_report"]


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows beside the runs' files."""

    film: Path | None = None
    """The run or checkpoint whose best episode is shown; None for the run with the best evaluation."""
    episodes: int = 10
    """Games that it plays, of which the best is shown; 0 for no film."""
    seed: int = 0
    """Of these games."""
    device: str = "auto"
    """On which it plays: ``auto``, ``cpu`` or ``cuda``."""
    price_per_hour: float | None = None
    """Of the machine, in any currency; None leaves the cost out."""


def write_report(
    runs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: ReportOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes the report of runs' folders to an HTML file; see ``make_report``.

    Raises:
        OSError: the file cannot be written; and whatever ``make_report`` raises.
    """
    # What is no text, such as a folder's name that is no UTF-8, becomes question marks.
    replace_file(Path(out), make_report(runs, options, tell).encode(errors="replace"))


def make_report(
    runs: Iterable[str | os.PathLike[str]],
    options: ReportOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """The report of runs' folders as HTML: one file, of five megabytes without a film, that needs no network.

    Args:
        runs: folders; those that differ in their seed alone are taken together.
        options: what else is shown.
        tell: is told what takes time, before it does.

    Raises:
        InvalidRun: no run is given, or one cannot be read.
        InvalidCheckpoint: what ``options.film`` names cannot be played.
        MissingExtra: a library of the extra ``report`` is not there.
    """
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
    return render(_title(groups), _subtitle(groups), [section for section in sections if section is not None])


def _film_sections(groups: Sequence[Group], options: ReportOptions, tell: Callable[[str], None]) -> list[Section]:
    """The sections of an episode; without a checkpoint that can be played, the one that says so."""
    from pixelq.agents.report.episode import no_episode_section
    from pixelq.agents.report.insight import insight_sections  # torch takes a second to import

    if options.episodes == 0:
        return []
    path = options.film or run_to_film(groups)
    if path is None:
        return [no_episode_section("none of the runs' folders has a checkpoint")]
    tell(f"playing {pluralize(options.episodes, 'episode')} with {path} ...")
    try:
        return insight_sections(path, episodes=options.episodes, seed=options.seed, device=options.device)
    except InvalidCheckpoint as error:
        if options.film is not None:
            raise
        return [no_episode_section(str(error))]


def run_to_film(groups: Sequence[Group]) -> Path | None:
    """Of the runs on the first environment that have checkpoints, the one with the best evaluation; None without any.

    A run without an evaluation comes last.
    """

    def standing(run: Run) -> float:
        return float("-inf") if run.best is None or math.isnan(run.best.mean) else run.best.mean

    for env in dict.fromkeys(group.env for group in groups):
        runs = [run for group in groups if group.env == env for run in group.runs]
        playable = [run for run in runs if any((run.path / "checkpoints").glob("step_*"))]
        if playable:
            return max(playable, key=standing).path
    return None


def _title(groups: Sequence[Group]) -> str:
    envs = list(dict.fromkeys(group.env for group in groups))
    agents = list(dict.fromkeys(group.agent for group in groups))
    of_agents = agents[0] if len(agents) == 1 else f"{len(agents)} agents"
    return f"{of_agents} on {envs[0] if len(envs) == 1 else f'{len(envs)} environments'}"


def _subtitle(groups: Sequence[Group]) -> str:
    count = sum(len(group.runs) for group in groups)
    protocols = ", ".join(dict.fromkeys(describe_rules(group.protocol) for group in groups))
    return f"{pluralize(count, 'run')} · protocol {protocols}"
