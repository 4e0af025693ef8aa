"""A report of runs: one page that opens offline in any browser."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pixelq.agents.files import replace_file
from pixelq.agents.report.across import across_section
from pixelq.agents.report.curves import curves_section
from pixelq.agents.report.page import Section, render
from pixelq.agents.report.records import Group, read_groups
from pixelq.agents.report.settings import machines_section, settings_section
from pixelq.agents.report.standing import standing_section, summary_section

__all__ = ["Group", "Section", "make_report", "read_groups", "write_report"]


def write_report(
    runs: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, price_per_hour: float | None = None
) -> None:
    """Writes the report of runs' folders to an HTML file; see ``make_report``.

    Raises:
        InvalidRun: no run is given, or one cannot be read.
        MissingExtra: a library of the extra ``report`` is not there.
        OSError: the file cannot be written.
    """
    replace_file(Path(out), make_report(runs, price_per_hour=price_per_hour).encode())


def make_report(runs: Iterable[str | os.PathLike[str]], *, price_per_hour: float | None = None) -> str:
    """The report of runs' folders as HTML: one file, some five megabytes, that needs no network.

    Args:
        runs: folders; those that differ in their seed alone are taken together.
        price_per_hour: of the machine, in any currency; None leaves the cost out.

    Raises:
        InvalidRun: no run is given, or one cannot be read.
        MissingExtra: a library of the extra ``report`` is not there.
    """
    groups = read_groups(runs)
    sections = [
        summary_section(groups),
        curves_section(groups),
        standing_section(groups),
        across_section(groups),
        settings_section(groups),
        machines_section(groups, price_per_hour),
    ]
    return render(_title(groups), _subtitle(groups), [section for section in sections if section is not None])


def _title(groups: list[Group]) -> str:
    envs = list(dict.fromkeys(group.env for group in groups))
    agents = list(dict.fromkeys(group.agent for group in groups))
    of_agents = agents[0] if len(agents) == 1 else f"{len(agents)} agents"
    return f"{of_agents} on {envs[0] if len(envs) == 1 else f'{len(envs)} environments'}"


def _subtitle(groups: list[Group]) -> str:
    count = sum(len(group.runs) for group in groups)
    protocols = ", ".join(dict.fromkeys(group.protocol for group in groups))
    return f"{count} run{'s' if count > 1 else ''} · protocol {protocols}"
