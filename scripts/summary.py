"""The last lines of `pixelq train`: where the files are, and which commands to run next."""

from __future__ import annotations

import shlex
from pathlib import Path

from pixelq.agents.config.torchrun import place
from pixelq.agents.errors import how_to_install, printable
from pixelq.agents.evaluation.scoring import Score
from pixelq.agents.runs.event_file import has_tensorboard
from pixelq.agents.runs.status import Stop, stop_of
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.envs.named import modules_to_trust
from pixelq.scripts.flags.train import TrainArgs


def summary(args: TrainArgs, result: Score, curve: Path, film: Path | None = None) -> str:
    """Return the lines about a run that has ended.

    Args:
        args: Its flags.
        result: The evaluation of its policy.
        curve: The picture of its curve.
        film: The film of a game, if there is one.
    """
    assert args.out is not None
    out, config = args.out, read_config(args.out)
    stop, steps = stop_of(config), config.get("steps", args.steps)
    all_curves = f"all curves: {_command('tensorboard', '--logdir', out)}"
    if not has_tensorboard():
        all_curves = f"all curves in TensorBoard: {how_to_install('tensorboard')}"
    needed = dict.fromkeys([*args.modules, *modules_to_trust([args.env, *args.wrappers])])
    imports = [word for module in needed for word in ("--import", module)]
    again = _again(args, stop, steps)
    lines = {
        "run": out,
        "policy": f"{result.request.checkpoint}   (evaluation in {out / FINAL_EVALUATION})",
        "curve": f"{curve}   ({all_curves})",
        **({} if film is None else {"film": f"{film}   (open it in a browser or a player to watch the policy)"}),
        "report": _command("pixelq", "report", out, "--out", out / "report.html", *imports),
        "evaluate": _command("pixelq", "evaluate", out, "--video", out / "video", *imports),
        "continue": _command(*_train_command(), "train", "--resume", "--out", out, *again, *imports),
    }
    if stop is not None:
        by = "" if stop.callback is None else f" by the callback {stop.callback}"
        lines = {"stopped": printable(f"at step {stop.step:,} of {steps:,}{by}: {stop.why}")} | lines
    return "\n".join(f"  {name:<8}  {text}" for name, text in lines.items())


def _train_command() -> list[str]:
    """Return the command of `pixelq`, or for several learners that of torchrun."""
    found = place()
    if found is None:
        return ["pixelq"]
    words = ["torchrun", "--nproc-per-node", str(found.local_size)]
    if found.size > found.local_size:
        words += [
            "--nnodes",
            str(found.size // found.local_size),
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "HEAD:29500",
        ]
    return [*words, "-m", "pixelq.scripts.main"]


def _again(args: TrainArgs, stop: Stop | None, steps: int) -> list[str]:
    """Return the flags that let the run go on, which its folder does not choose: to its end, or twice as far."""
    has_steps_left = stop is not None and stop.step < steps
    words = ["--steps", str(steps if has_steps_left else 2 * args.steps)]
    for flag, values in (("--callback", args.callbacks), ("--track", args.track)):
        words += [word for value in values for word in (flag, value)]
    return words


def _command(*words: object) -> str:
    """Return a command as a shell reads it."""
    return shlex.join(map(str, words))
