"""`python -m pixelq.scripts.plot_evaluations RUN … --out FILE`: a picture of the evaluations of several runs."""

from __future__ import annotations

import sys

from pixelq.agents.errors import UserError
from pixelq.agents.results.plots import Line, plot_evaluations
from pixelq.scripts.command_line import check_writable
from pixelq.scripts.flags.plot_evaluations import PlotArgs
from pixelq.scripts.main import run


def main(args: PlotArgs) -> None:
    """Draw the picture, and print its path."""
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
