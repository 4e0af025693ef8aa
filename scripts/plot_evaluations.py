"""`python -m pixelq.scripts.plot_evaluations RUN … --out FILE`: a picture of the evaluations of several runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.results.plots import Line, plot_evaluations
from pixelq.scripts.command_line import check_writable, parse
from pixelq.scripts.main import run


@dataclass(frozen=True)
class PlotArgs:
    """Draw mean returns of evaluations: a panel for each environment, and a curve for each agent over its seeds."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs; runs with the same settings belong to one agent."""
    out: Path
    """The PNG file to write."""
    line: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Horizontal line to draw, as ENV=RETURN=NAME; may be repeated."""
    name: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Name of the agent of a run, as FOLDER=NAME; may be repeated. Other agents are named after their settings."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, draw the picture, and print its path."""
    args = parse(PlotArgs, "plot_evaluations", list(arguments))
    if not args.runs:
        raise UserError("no run is given; give the folder of one or more")
    check_writable(args.out, "--out")
    plot_evaluations(args.runs, args.out, [_line(text) for text in args.line], names=dict(map(_name, args.name)))
    print(args.out)


def _line(text: str) -> Line:
    env, _, rest = text.partition("=")
    value, _, name = rest.partition("=")
    try:
        return Line(env, float(value), name)
    except ValueError:
        raise UserError(f"--line must be ENV=RETURN=NAME, such as CartPole-v1=500=best, got {text!r:.80}") from None


def _name(text: str) -> tuple[str, str]:
    folder, _, name = text.partition("=")
    if not name:
        raise UserError(f"--name must be FOLDER=NAME, such as pong-1=without memory, got {text!r:.80}")
    return folder, name


if __name__ == "__main__":
    sys.exit(run("plot_evaluations"))
