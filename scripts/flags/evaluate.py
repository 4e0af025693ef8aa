"""The flags of `pixelq evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelq.agents.errors import UserError
from pixelq.agents.storage.pretrained import find_policy
from pixelq.scripts.command_line import Modules, check_least, optional_value, parse, split_modules


@dataclass(frozen=True)
class EvaluateArgs:
    """Evaluate saved policies over full episodes in new games."""

    checkpoints: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN_OR_CHECKPOINT [RUN_OR_CHECKPOINT ...]", help_behavior_hint="(required)"),
    ]
    """Folders of runs (the best checkpoint of each, or else its latest), checkpoints, names that --list shows, or
    hf://ORG/NAME for policies on the Hugging Face Hub."""
    list: bool = False
    """List the pretrained policies instead; with --json as JSON."""
    which: Literal["best", "last", "both"] | None = None
    """Checkpoint of a run to play; None for the best, or else the latest; with --suite, None for the last."""
    episodes: int = 30
    """Number of full episodes to play with each policy."""
    protocol: Literal["sticky", "nature", "100k", "envpool"] | None = None
    """Rules of Atari games: sticky (Machado et al. 2018), nature (Mnih et al. 2015), 100k (van Hasselt et al. 2019;
    meant for 100 episodes of the last checkpoint) or envpool (PQN, Gallici et al. 2025); None for those of the
    training. The ε of the agent's configuration takes precedence over the protocol's 0.001, 0.05, 0.001 or 0."""
    flicker: float | None = None
    """Probability, in [0, 1), that a frame of an Atari game is black; None for that of the training."""
    max_episode_steps: int | None = None
    """Steps after which an episode is cut off; None for the limit of the training or of the environment, or 27,000 if
    there is none."""
    seed: int = 0
    """Seed of the games and of the random actions."""
    device: str = "auto"
    """Device to play on: auto (a GPU if there is one), cpu or cuda."""
    processes: int | None = None
    """Number of policies played at once; None for one per core on a CPU, and 1 on a GPU."""
    suite: Literal["atari5", "atari26", "atari57"] | None = None
    """Suite whose games the policies play, to print aggregates over games and seeds; each agent needs a policy for
    every game."""
    results: Path | None = None
    """File to which each score is appended as a line of JSON; scores that it contains are not measured again."""
    json: Path | None = None
    """File for the results as JSON; without a value, print them on stdout; None writes none. They are a list, unless
    one path is given without --results and --which both."""
    video: Path | None = None
    """Folder for an mp4 of an additional episode, which is played first; None for no film."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register environments; a run's folder alone imports
    nothing."""

    @property
    def script(self) -> str:
        """Name of the module in `pixelq.scripts` that does what is asked."""
        return "pretrained" if self.list else "evaluate"

    @property
    def is_single(self) -> bool:
        """Whether a single policy is evaluated, whose figures are printed in full."""
        return len(self.checkpoints) == 1 and self.which != "both" and self.results is None


def read(arguments: Sequence[str]) -> EvaluateArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit, or a checkpoint does not exist.
    """
    args = parse(EvaluateArgs, "evaluate", optional_value(arguments, "--json"))
    args = replace(args, modules=split_modules(args.modules))
    if args.list:
        if replace(args, list=False, json=None) != EvaluateArgs(()):
            raise UserError("--list plays nothing; give no other flag with it than --json")
        return args
    check_least(
        ("--episodes", args.episodes, 1),
        ("--seed", args.seed, 0),
        ("--processes", args.processes, 1),
        ("--max-episode-steps", args.max_episode_steps, 1),
    )
    if not args.checkpoints:
        raise UserError(
            "no RUN_OR_CHECKPOINT is given; give the folder of a run or a checkpoint, or demo, a pretrained policy"
        )
    if args.video is not None and not args.is_single:
        raise UserError("--video films one policy; name one checkpoint, without --results and --which both")
    if args.json is not None and args.json == args.results:
        raise UserError(f"--json and --results must be two files, got {args.json} for both")
    for path in () if args.modules else args.checkpoints:  # modules are imported before anything is read
        find_policy(path)
    return args
