"""`pixelq train`: a training, and an evaluation of the policy that it saved, in a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_type_hints

import torch

from pixelq.agents import DQN, AgentConfig, InvalidCheckpoint, InvalidRun, RunUnwritable, preset
from pixelq.agents.config.device import resolve_device
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.evaluation.scoring import Score, checkpoints_of, request_of, score
from pixelq.agents.results.plots import plot_run
from pixelq.agents.runs.checkpoints import check_has_no_checkpoint_yet, newest_checkpoint
from pixelq.agents.runs.tables import FINAL_EVALUATION
from pixelq.agents.storage.checkpoint import MOST_JSON, one_line, read_run_state
from pixelq.agents.storage.files import read_regular, replace_file
from pixelq.agents.storage.rules import rules_of
from pixelq.agents.storage.validation import check_types
from pixelq.envs import PROTOCOLS, is_atari, make_vec, split_rules, with_flicker
from pixelq.scripts.command_line import check_least, parse
from pixelq.scripts.evaluate import describe
from pixelq.scripts.main import run as run_verb


@dataclass(frozen=True)
class TrainArgs:
    """Train an agent, and keep everything in a folder that evaluate, report, TensorBoard and --resume read."""

    env: str = "ALE/Pong-v5"
    """Gymnasium ID of the environment: ALE/*-v5, or any with Discrete actions and a Box observation."""
    preset: str = "quick"
    """Preset from which the agent's settings start; `pixelq presets` lists them."""
    steps: int = 1_000_000
    """Agent steps of the whole run, summed over environments; an Atari step is four frames."""
    num_envs: int = 8
    """Number of environments played at once."""
    seed: int = 0
    """Seed of the weights, the games and every random choice."""
    protocol: Literal["sticky", "nature", "100k"] = "sticky"
    """Rules of Atari games: Machado et al. 2018, Mnih et al. 2015, or the 100k benchmark (van Hasselt et al. 2019)."""
    device: str = "auto"
    """Device to learn on: auto (a GPU if there is one), cpu or cuda."""
    deterministic: bool = False
    """Use only algorithms of PyTorch that repeat their results exactly on a GPU; slower."""
    out: Path | None = None
    """Folder of the run; None for a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out up to --steps, with its own settings."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints; each evaluation writes one too."""
    keep: int = 3
    """Number of newest checkpoints to keep, besides the best."""
    evaluate_every: int = 100_000
    """Steps between evaluations."""
    evaluation_episodes: int = 10
    """Number of episodes in each evaluation during training."""
    final_episodes: int = 30
    """Number of episodes in the evaluation at the end."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    full_action_space: bool = False
    """Use all 18 joystick actions on every Atari game."""
    flicker: float = 0.0
    """Probability, in [0, 1), that a frame of an Atari game is black (Hausknecht & Stone 2015)."""
    max_episode_steps: int | None = None
    """Steps after which an episode is cut off; None for the environment's own limit."""
    agent: AgentConfig = field(default_factory=lambda: preset("quick"))
    """The agent's settings; they start from the preset's."""


COUNTS = "steps checkpoint_every keep evaluate_every evaluation_episodes final_episodes log_every".split()
CHANGEABLE = frozenset({*COUNTS, "device", "deterministic", "out", "resume", "agent.cuda_graph"})
"""Flags that may change when a run is resumed."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line and train."""
    defaults = _defaults(arguments)
    args = parse(TrainArgs, "train", arguments, defaults)
    check_least(*((f"--{name.replace('_', '-')}", getattr(args, name), 1) for name in COUNTS))
    check_least(("--max-episode-steps", args.max_episode_steps, 1))
    if args.deterministic:
        _use_deterministic_algorithms(args)
    if args.resume:
        _check_unchanged(args, defaults)
        _resume(args)
    else:
        _start(args)


def _use_deterministic_algorithms(args: TrainArgs) -> None:
    """Let PyTorch use deterministic algorithms only, for the rest of the process."""
    for lacking, what in (
        (args.agent.adaptive_pool is not None, "--agent.adaptive-pool"),
        (args.agent.head == "fqf", "--agent.head fqf"),  # whose fractions are a running sum
    ):
        if lacking and resolve_device(args.device).type == "cuda":
            raise UserError(f"PyTorch has no deterministic {what} on a GPU; leave out --deterministic or that")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its sums only with a fixed workspace
    torch.use_deterministic_algorithms(True)


def _check_unchanged(args: TrainArgs, saved: TrainArgs) -> None:
    """Check that a run is resumed with its own settings."""
    values, own = ({**vars(of), **{f"agent.{n}": v for n, v in vars(of.agent).items()}} for of in (args, saved))
    for name in sorted(values.keys() - CHANGEABLE - {"agent"}):
        if name == "protocol" and not is_atari(saved.env):
            continue
        if values[name] != own[name]:
            raise InvalidRun(
                f"--{name.replace('_', '-')} must be {own[name]} as in the run in {args.out}, got {values[name]}; "
                "leave the flag out, or start another run in another --out"
            )


def _defaults(arguments: Sequence[str]) -> TrainArgs:
    """Return the defaults of the flags: those of the preset, or the settings of the run to resume."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--preset", default="quick")
    chooser.add_argument("--resume", action="store_true")
    chooser.add_argument("--out", type=Path)
    try:
        chosen = chooser.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if not chosen.resume:
        return TrainArgs(preset=chosen.preset, agent=preset(chosen.preset))
    if chosen.out is None:
        raise InvalidRun("--resume needs --out, the folder of the run")
    try:
        saved = json.loads(read_regular(chosen.out / "config.json", MOST_JSON))
        kinds = get_type_hints(TrainArgs)
        missing = {"env", "protocol", "num_envs", "seed", "steps", "agent"} - saved.keys()
        if missing:
            raise KeyError(*missing)
        if saved["env"] is None:
            raise InvalidRun(f"{chosen.out} was trained in environments without an ID; resume it from Python")
        names = kinds.keys() & saved.keys() - {"agent", "device", "protocol", "flicker"}
        flags = {name: saved[name] for name in names}
        # A choice among names is text.
        check_types(flags, {name: kinds[name] if isinstance(kinds[name], type | UnionType) else str for name in names})
        flags["agent"] = AgentConfig.from_dict(saved["agent"])
        flags |= protocol_flags(rules_of(saved))
        return TrainArgs(**flags)
    except OSError as error:
        raise InvalidRun(f"no run in {chosen.out}; leave out --resume to start one") from error
    except InvalidRun:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRun(
            f"{chosen.out / 'config.json'} is damaged ({one_line(error)}); restore the file, or start another run"
        ) from error


def protocol_flags(rules: str | None) -> dict[str, Any]:
    """Return the values of `--protocol` and `--flicker` for the rules of a run; none outside Atari."""
    name, flicker = split_rules(rules or "")
    return {"protocol": name, "flicker": flicker} if name in PROTOCOLS else {}


def _start(args: TrainArgs) -> None:
    """Train a new agent."""
    if args.num_envs > args.agent.replay_capacity:  # checked before so many environments are made
        raise UserError(
            f"--num-envs must be at most the {args.agent.replay_capacity:,} rows of the replay, got {args.num_envs:,}"
        )
    name = f"{args.env.split('/')[-1]}-{args.preset}-seed{args.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    args = dataclasses.replace(args, out=args.out or Path("runs") / name)
    envs = _make_envs(args, args.num_envs, args.seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, args.agent, device=args.device, seed=args.seed)
    _learn(agent, envs, args)


def _resume(args: TrainArgs) -> None:
    """Go on from the newest checkpoint of a run; a run that was stopped before its first checkpoint starts again."""
    assert args.out is not None
    newest = newest_checkpoint(args.out / "checkpoints", lambda line: print(f"pixelq train: {line}", file=sys.stderr))
    if newest is None:
        check_has_no_checkpoint_yet(args.out)
        return _start(args)
    agent = DQN.load(newest, args.device)
    protocol = with_flicker(args.protocol, args.flicker).rules if is_atari(args.env) else agent.protocol
    config = dataclasses.replace(agent.config, cuda_graph=args.agent.cuda_graph)
    if (agent.env_id, agent.protocol, agent.seed, config) != (args.env, protocol, args.seed, args.agent):
        raise InvalidCheckpoint(
            f"{newest} does not belong to the run that {args.out / 'config.json'} describes, but to {agent.env_id}, "
            f"seed {agent.seed}, or to other settings; restore the file that belongs to another run"
        )
    if read_run_state(newest).get("num_envs") != args.num_envs:  # checked before so many environments are made
        raise InvalidCheckpoint(
            f"{newest} does not belong to a run of {args.num_envs:,} environments; restore its config.json"
        )
    agent.configure(config)
    if agent.step >= args.steps and (args.out / FINAL_EVALUATION).exists():
        raise InvalidRun(
            f"{args.out} has taken {agent.step:,} of {args.steps:,} steps already; give more --steps, or evaluate it"
        )
    envs = _make_envs(args, args.num_envs, derived_seed(args.seed, "resumed training", agent.step))
    _learn(agent, envs, args)


def _make_envs(args: TrainArgs, num_envs: int, seed: int) -> Any:
    return make_vec(
        args.env,
        num_envs,
        seed,
        args.protocol,
        full_action_space=args.full_action_space,
        frame_stack=args.agent.frame_stack,
        flicker=args.flicker,
        max_episode_steps=args.max_episode_steps,
    )


def _learn(agent: DQN, envs: Any, args: TrainArgs) -> None:
    """Train up to the last step, evaluate the policy that was saved, and print where everything is."""
    assert args.out is not None
    evaluation_envs = _make_envs(args, min(8, args.evaluation_episodes), derived_seed(args.seed, "choice of the best"))
    agent.learn(
        envs,
        max(0, args.steps - agent.step),
        args.out,
        evaluation_envs=evaluation_envs,
        evaluate_every=args.evaluate_every,
        evaluation_episodes=args.evaluation_episodes,
        checkpoint_every=args.checkpoint_every,
        keep=args.keep,
        log_every=args.log_every,
        progress=True,
        resume=args.resume,
        description={
            "preset": args.preset,
            "full_action_space": args.full_action_space,
            "final_episodes": args.final_episodes,
            **({} if args.max_episode_steps is None else {"max_episode_steps": args.max_episode_steps}),
        },
    )
    try:
        result = evaluate_saved(args)
        curve = plot_run(args.out)
        final = json.dumps(result.to_json()) + "\n"
        replace_file(args.out / FINAL_EVALUATION, final.encode())
    except OSError as error:
        raise RunUnwritable(args.out, error, "after the last step") from error
    except (InvalidCheckpoint, InvalidRun) as error:  # whoever gave the command is not to blame
        raise RunFailed(f"the run has taken its last step, but what it saved cannot be read: {error}") from error
    print(describe(result))
    print(
        f"\n  run       {args.out}\n"
        f"  policy    {result.request.checkpoint}   (figures in {args.out / FINAL_EVALUATION})\n"
        f"  curve     {curve}   (tensorboard --logdir {args.out} for all of them)\n"
        f"  evaluate  pixelq evaluate {args.out} --video {args.out / 'video'}\n"
        f"  go on     pixelq train --resume --out {args.out} --steps {2 * args.steps}"
    )


def evaluate_saved(args: TrainArgs) -> Score:
    """Play the best policy of the run in games that neither the training nor the choice of the best has seen."""
    assert args.out is not None
    (best,) = checkpoints_of(args.out, None)
    return score(request_of(best, args.final_episodes, device=args.device))[1]


if __name__ == "__main__":
    sys.exit(run_verb("train"))
