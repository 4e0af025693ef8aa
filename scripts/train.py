"""`pixelq train`: a training, and an evaluation of the policy that it saved, in a run folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pixelq.agents import (
    DQN,
    PQN,
    ActorEnvs,
    AgentConfig,
    Callback,
    InvalidCheckpoint,
    InvalidRun,
    Ranks,
    RunUnwritable,
)
from pixelq.agents.config.agent_config import SPEED_ONLY
from pixelq.agents.config.device import resolve_device
from pixelq.agents.config.env_flags import env_arguments
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.config.torchrun import leave_it_to_the_first, place
from pixelq.agents.errors import RunFailed, UserError, one_line
from pixelq.agents.evaluation.film import FILM, FILM_SECONDS, as_gif, check_films
from pixelq.agents.evaluation.limits import evaluation_limit
from pixelq.agents.evaluation.scoring import Request, Score, checkpoints_of, film, request_of, score
from pixelq.agents.kinds import kind_of, load
from pixelq.agents.results.plots import plot_run
from pixelq.agents.runs.checkpoints import check_has_no_checkpoint_yet, newest_checkpoint
from pixelq.agents.runs.event_file import add_film, has_tensorboard
from pixelq.agents.runs.folder import settings_at
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.checkpoint import read_run_state
from pixelq.agents.storage.files import replace_file
from pixelq.agents.storage.pointers import CHECKPOINTS
from pixelq.agents.training.ranks import check_learners
from pixelq.envs import EnvironmentFailed, InvalidEnv, check_imported, is_atari, make_vec, with_flicker
from pixelq.envs.ids import check_id, short_name
from pixelq.scripts.callbacks import make_callbacks, parse_callbacks
from pixelq.scripts.evaluate import describe
from pixelq.scripts.flags.train import TrainArgs
from pixelq.scripts.main import run as run_verb
from pixelq.scripts.modules import import_modules
from pixelq.scripts.summary import summary
from pixelq.scripts.tracking import make_trackers, say_untracked

RUNS = Path("runs")
"""Folder of the runs that are given no other."""
LIMITS = ("max_episode_steps", "evaluation_episode_steps")
"""Flags that config.json has where they are given."""


def main(args: TrainArgs) -> None:
    """Train a new agent, or go on with a run, alone or as one of the learners that torchrun has started."""
    ranks = _join(args.device)
    if ranks is None:
        return _train(args, None)
    with ranks.reporting():
        _train(dataclasses.replace(args, device=str(ranks.device)), ranks)


def _join(device: str) -> Ranks | None:
    """Join the learners that torchrun has started; the first on each machine says what is wrong there."""
    found = place()
    try:
        return Ranks.join(device)
    except UserError:
        if found is not None and found.local_rank > 0:
            leave_it_to_the_first()
        raise


def _train(args: TrainArgs, ranks: Ranks | None) -> None:
    is_first = ranks is None or ranks.rank == 0
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning if is_first else _say_nothing
        if args.deterministic:
            _use_deterministic_algorithms(args)
        if args.film:
            check_films()
        import_modules(args.modules)  # --env and --wrappers name some too
        names = parse_callbacks(args.callbacks)
        args = dataclasses.replace(args, callbacks=tuple(map(str, names)))
        callbacks: list[Callback] = []
        if is_first:  # before a folder is made
            callbacks = [*make_callbacks(names), *make_trackers(args.track, args.track_project)]
        if args.resume:
            check_imported(args.env, {"wrappers": args.wrappers})
            _resume(args, callbacks, ranks)
        else:
            _start(args, callbacks, ranks)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"pixelq train: {message}", file=sys.stderr)


def _say_nothing(*_: Any, **__: Any) -> None:
    """Leave warnings to the first learner, which has the same."""


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


def _start(args: TrainArgs, callbacks: Sequence[Callback], ranks: Ranks | None) -> None:
    """Train a new agent."""
    args = dataclasses.replace(args, env=check_id(args.env))  # before it is part of a folder's name
    # Checked before so many environments are made
    if args.agent.algorithm == "dqn" and args.num_envs > args.agent.replay_capacity:
        raise UserError(
            f"--num-envs must be at most the {args.agent.replay_capacity:,} rows of the replay, got {args.num_envs:,}"
        )
    name = f"{short_name(args.env)}-{args.preset}-seed{args.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    is_named = args.out is not None or (ranks is not None and ranks.rank > 0)
    with nullcontext(args.out) if is_named else _new_folder(name) as out:
        args = dataclasses.replace(args, out=out if ranks is None else Path(ranks.from_first(str(out))))
        envs = _training_envs(args, args.seed, ranks)
        space, actions = envs.single_observation_space, envs.single_action_space
        agent = kind_of(args.agent)(space, actions, args.agent, device=args.device, seed=args.seed)
        _learn(agent, envs, args, callbacks, ranks)


@contextmanager
def _new_folder(name: str) -> Iterator[Path]:
    """Create a folder under runs/ that no other run has, also if it begins in the same second.

    It is removed if it is still empty afterwards, and runs/ too.
    """
    folder = RUNS / name
    try:
        for number in itertools.count(2):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                folder = RUNS / f"{name}-{number}"
    except OSError as error:
        raise InvalidRun(f"{folder} cannot be written ({error.strerror}); use another --out") from error
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()
            RUNS.rmdir()


def _resume(args: TrainArgs, callbacks: Sequence[Callback], ranks: Ranks | None) -> None:
    """Go on from the newest checkpoint of a run; a run that was stopped before its first checkpoint starts again."""
    assert args.out is not None
    check_learners(read_config(args.out), args.out, ranks)
    newest = _newest(args.out, ranks)
    if newest is None:
        check_has_no_checkpoint_yet(args.out)
        say_untracked(args.out, args.track)
        return _start(args, callbacks, ranks)
    agent = load(newest, args.device)
    protocol = with_flicker(args.protocol, args.flicker).rules if is_atari(args.env) else agent.protocol
    config = dataclasses.replace(agent.config, **{name: getattr(args.agent, name) for name in SPEED_ONLY})
    # Settings that a callback changed after the checkpoint are changed again by it.
    own = AgentConfig.from_dict(settings_at(read_config(args.out) | {"agent": args.agent.to_dict()}, agent.step))
    made = (agent.env_arguments.get("env_kwargs", {}), tuple(agent.env_arguments.get("wrappers", ())))
    if (agent.env_id, agent.protocol, agent.seed, config, *made) != (
        args.env,
        protocol,
        args.seed,
        own,
        args.env_kwargs,
        args.wrappers,
    ):
        raise InvalidCheckpoint(
            f"{newest} does not belong to the run that {args.out / 'config.json'} describes, but to {agent.env_id}, "
            f"seed {agent.seed}, or to other settings; restore the file that belongs to another run"
        )
    learners = 1 if ranks is None else ranks.size
    if (
        read_run_state(newest).get("num_envs") != args.num_envs / learners
    ):  # checked before so many environments are made
        raise InvalidCheckpoint(
            f"{newest} does not belong to a run of {args.num_envs:,} environments; restore its config.json"
        )
    agent.configure(config)
    if agent.step >= args.steps and os.path.exists(args.out / FINAL_EVALUATION):
        raise InvalidRun(
            f"{args.out} has taken {agent.step:,} of {args.steps:,} steps already; give more --steps, or evaluate it"
        )
    say_untracked(args.out, args.track)
    envs = _training_envs(args, derived_seed(args.seed, "resumed training", agent.step), ranks)
    _learn(agent, envs, args, callbacks, ranks)


def _newest(out: Path, ranks: Ranks | None) -> Path | None:
    """Return the newest checkpoint from which a run can go on; the first of several learners looks for it."""
    found = None
    if ranks is None or ranks.rank == 0:
        found = newest_checkpoint(out / CHECKPOINTS, _say_warning)
    if ranks is None:
        return found
    name = ranks.from_first("" if found is None else found.name)
    return out / CHECKPOINTS / name if name else None


def _training_envs(args: TrainArgs, seed: int, ranks: Ranks | None) -> Any:
    if ranks is not None:
        return _make_envs(args, args.num_envs, seed, ranks.make_vec)
    if args.actors is None:
        return _make_envs(args, args.num_envs, seed)
    own, gpus = args.actors, args.actor_gpus
    kind = partial(ActorEnvs, actors=own, address=args.ray_address, gpus=gpus, modules=args.modules)
    return _make_envs(args, args.num_envs, seed, kind)


def _make_envs(args: TrainArgs, num_envs: int, seed: int, make: Callable[..., Any] = make_vec) -> Any:
    return make(args.env, num_envs, seed, **env_arguments(args, args.agent, args.preset, is_game=is_atari(args.env)))


def _learn(agent: DQN | PQN, envs: Any, args: TrainArgs, callbacks: Sequence[Callback], ranks: Ranks | None) -> None:
    """Train up to the last step, evaluate the policy that was saved, and print where everything is."""
    assert args.out is not None
    is_first, evaluation_envs = ranks is None or ranks.rank == 0, None
    if is_first:
        few, seed = min(8, args.evaluation_episodes), derived_seed(args.seed, "choice of the best")
        cut = dataclasses.replace(args, max_episode_steps=evaluation_limit(vars(args)) or args.max_episode_steps)
        evaluation_envs = _make_envs(cut, few, seed)
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
        progress=args.progress,
        resume=args.resume,
        callbacks=callbacks,
        description={
            "preset": args.preset,
            "name": args.name,
            "full_action_space": args.full_action_space,
            "final_episodes": args.final_episodes,
            **{name: getattr(args, name) for name in LIMITS},
        },
        ranks=ranks,
    )
    if not is_first:
        return
    if args.actors is not None:
        envs.close()  # the evaluation needs no cluster
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
    film_path = _film(result.request, args.out / FILM) if args.film else None
    print("\n" + summary(args, result, curve, film_path))


def evaluate_saved(args: TrainArgs) -> Score:
    """Play the best policy of the run in games that neither the training nor the choice of the best has seen."""
    assert args.out is not None
    (best,) = checkpoints_of(args.out, None)
    limit = evaluation_limit(vars(args))
    return score(request_of(best, args.final_episodes, device=args.device, max_episode_steps=limit))[1]


def _film(request: Request, path: Path) -> Path | None:
    """Film a game that the evaluation did not play, and return the film; None, and a line on stderr, without one."""
    try:
        film(request, path, most_seconds=FILM_SECONDS)
    except (InvalidEnv, InvalidRun, RunFailed, EnvironmentFailed) as error:
        print(f"pixelq train: there is no film: {error}", file=sys.stderr)
        return None
    if has_tensorboard():
        try:
            add_film(path.parent, *as_gif(path), request.step)
        except (OSError, RuntimeError) as error:
            print(f"pixelq train: the film is not in TensorBoard: {one_line(error)}", file=sys.stderr)
    return path


if __name__ == "__main__":
    sys.exit(run_verb("train"))
