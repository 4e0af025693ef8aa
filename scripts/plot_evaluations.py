"""Draws evaluations of several runs into a picture: ``python -m pixelq.scripts.plot_evaluations RUN … --out FILE``."""

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


@dataclass(frozen=True)
class PlotArgs:
    """Draw mean returns of evaluations: a panel for each environment, a curve for each agent, over its seeds."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs; agents are told apart by their settings."""
    out: Path
    """The PNG."""
    line: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A level to draw, as ENV=RETURN=NAME; may be given again."""
    name: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What to call the agent of a run, as FOLDER=NAME; may be given again. Others are called after their settings."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and draws."""
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
        raise UserError(f"--line is {text!r:.80}; it must be ENV=RETURN=NAME, such as CartPole-v1=500=best") from None


def _name(text: str) -> tuple[str, str]:
    folder, _, name = text.partition("=")
    if not name:
        raise UserError(f"--name is {text!r:.80}; it must be FOLDER=NAME, such as pong-1=without memory")
    return folder, name


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("plot_evaluations"))
