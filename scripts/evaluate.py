"""``pixelq evaluate``: plays full episodes with saved policies and says how good they are."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixelq.agents import Policy
from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import UserError
from pixelq.agents.evaluation.episode import evaluation_game, film_episode
from pixelq.agents.evaluation.players import score_all
from pixelq.agents.evaluation.scoring import Request, Score, ScoreFile, checkpoints_of, mark_of, request_of, score
from pixelq.agents.results.baselines import baselines
from pixelq.agents.results.formatting import describe_rules, pluralize
from pixelq.agents.results.suites import check_suite, describe_aggregates, over_games
from pixelq.agents.storage.pretrained import PretrainedPolicy, pretrained_policies
from pixelq.envs import InvalidEnv, make_filmed
from pixelq.scripts.command_line import (
    STDOUT,
    check_least,
    check_writable,
    make_folder,
    optional_value,
    parse,
    write_json,
)


@dataclass(frozen=True)
class EvaluateArgs:
    """Evaluate saved policies over full episodes in fresh games."""

    checkpoints: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN_OR_CHECKPOINT [RUN_OR_CHECKPOINT ...]", help_behavior_hint="(required)"),
    ]
    """Runs' folders (of each its best checkpoint, or else its latest), single checkpoints, or names that --list has."""
    list: bool = False
    """List the policies that come with the package, and play nothing; with --json as JSON."""
    which: Literal["best", "last", "both"] | None = None
    """Which checkpoint of a run; None for the best."""
    episodes: int = 30
    """Full episodes to play with each."""
    protocol: Literal["sticky", "nature", "100k"] | None = None
    """Atari rules and ε: sticky (Machado et al. 2018, ε 0.001), nature (Mnih et al. 2015, ε 0.05) or 100k (van Hasselt
    et al. 2019, ε 0.001; 100 episodes of the last checkpoint); None for those of the training."""
    flicker: float | None = None
    """Probability, in [0, 1), that a frame is black, Atari only; None for that of the training."""
    seed: int = 0
    """Of the games and of the random actions."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    processes: int | None = None
    """Policies played at once; None for one a core on a CPU."""
    suite: Literal["atari5", "atari26", "atari57"] | None = None
    """The policies are an agent's, or several agents', on all games of this suite: aggregates over games and seeds."""
    results: Path | None = None
    """A file to which scores are appended as they come, a line of JSON each; what it holds is not played again."""
    json: Path | None = None
    """Write the figures as JSON to this file, or to stdout if no file is given: a list, unless one path is given
    without --results and --which both."""
    video: Path | None = None
    """Folder for an mp4 of one more episode."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints."""
    args = parse(EvaluateArgs, "evaluate", optional_value(list(arguments), "--json"))
    if args.list:
        return _list(args)
    check_least(("--episodes", args.episodes, 1), ("--seed", args.seed, 0), ("--processes", args.processes, 1))
    requests = _requests(args)
    if args.video is not None:
        if not _is_single(args):
            raise UserError("--video films one policy; name one checkpoint, without --results and --which both")
        _check_film(requests[0].env)
    if args.json is not None and args.json == args.results:
        raise UserError(f"--json and --results are both {args.json}; give two files")
    if args.json not in (None, STDOUT):
        check_writable(args.json, "--json")
    if args.video is not None:
        make_folder(args.video, "--video")
    file = ScoreFile(args.results) if args.results is not None else None
    figures: Any = _evaluate_one(requests[0], args) if _is_single(args) else _evaluate_many(requests, args, file)
    if args.suite is not None:
        figures = {"suite": args.suite, "evaluations": figures, "aggregates": over_games(figures)}
        if args.json != STDOUT:
            print(describe_aggregates(figures["aggregates"]))
    if args.json is not None:
        write_json(figures, args.json)


def _list(args: EvaluateArgs) -> None:
    """Prints what comes with the package."""
    if dataclasses.replace(args, list=False, json=None) != EvaluateArgs(()):
        raise UserError("--list plays nothing; give nothing else with it but --json, or leave it out")
    found = pretrained_policies()
    if args.json is not None:
        if args.json != STDOUT:
            check_writable(args.json, "--json")
        write_json([dataclasses.asdict(each) for each in found], args.json)
    if args.json != STDOUT:
        print(describe_pretrained(found))


def describe_pretrained(found: Sequence[PretrainedPolicy]) -> str:
    """Return a table of the pretrained policies for people, with a line on how to use one."""
    rows = [("name", "environment", "steps", "frames", "mean return (95% interval)", "played", "size")]
    for each in found:
        low, high = each.ci95
        rows.append(
            (
                ", ".join((each.name, *each.aliases)),
                each.env,
                f"{each.steps:,}",
                f"{each.frames:,}",
                f"{each.mean:.1f} ({low:.1f} to {high:.1f})",
                f"{pluralize(each.episodes, 'episode')}, {each.protocol}",
                f"{each.size / 1e6:.1f} MB",
            )
        )
    if not found:
        return "no policy comes with this pixelq"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    name = (*found[0].aliases, found[0].name)[0]
    return "\n".join([*table, "", f'pixelq evaluate {name} --video out   or, in Python, DQN.load("{name}")'])


def _is_single(args: EvaluateArgs) -> bool:
    """Whether one policy is meant, which is told of in full."""
    return len(args.checkpoints) == 1 and args.which != "both" and args.results is None


def _requests(args: EvaluateArgs) -> list[Request]:
    """What is to be played, all of it seen to be there before anything is."""
    if not args.checkpoints:
        raise UserError(
            "no RUN_OR_CHECKPOINT is given; give a run's folder or a checkpoint, or demo, which comes with pixelq"
        )
    options: dict[str, Any] = {name: getattr(args, name) for name in ("protocol", "flicker", "seed", "device")}
    checkpoints = [checkpoint for path in args.checkpoints for checkpoint in checkpoints_of(path, args.which)]
    requests = [request_of(checkpoint, args.episodes, **options) for checkpoint in dict.fromkeys(checkpoints)]
    if args.suite is not None:
        check_suite(args.suite, requests)
    return requests


def _evaluate_one(request: Request, args: EvaluateArgs) -> dict[str, Any]:
    """Plays one policy, with a bar that counts its episodes, and films it where that is asked for."""
    with _bar("episodes", request.episodes) as bar:
        policy, result = score(request, played=lambda: bar.advance(bar.task_ids[0]))
    if args.json != STDOUT:
        print(describe(result))
    if args.video is not None:
        _film(policy, result, args.video, args.seed)
    return result.to_json()


def _evaluate_many(requests: list[Request], args: EvaluateArgs, file: ScoreFile | None) -> list[dict[str, Any]]:
    """Plays those policies of which the file has no score, and prints a line for each of all."""
    scores = {} if file is None else dict(file.scores)
    missing = list({request.key: request for request in requests if request.key not in scores}.values())
    processes = args.processes or (1 if resolve_device(args.device).type == "cuda" else os.cpu_count() or 1)
    with _bar("policies", len(requests), len(requests) - len(missing)) as bar:
        for result in score_all(missing, max(1, min(processes, len(missing)))):
            scores[result.request.key] = result.to_json()
            if file is not None:
                file.append(result)
            bar.advance(bar.task_ids[0])
    places = [{"checkpoint": str(request.checkpoint), "mark": mark_of(request.checkpoint)} for request in requests]
    figures = [scores[request.key] | place for request, place in zip(requests, places, strict=True)]
    if args.json != STDOUT:
        print("\n".join(map(_line, figures)))
    return figures


def _line(figures: dict[str, Any]) -> str:
    """A score in a line for people."""
    low, high = figures["ci95"]
    human = figures["human_normalized"]
    parts = [
        figures["env"],
        f"{figures['mark']} checkpoint (step {figures['step']:,})",
        describe_rules(figures["protocol"]),
        pluralize(figures["episodes"], "episode"),
        f"mean return {figures['mean']:.1f} ({low:.1f} to {high:.1f})",
        *([] if human is None else [f"human-normalised {100 * human:.0f}%"]),
        figures["checkpoint"],
    ]
    return " · ".join(parts)


def describe(score: Score) -> str:
    """The figures in a few lines for people, beside random play and a person, and published agents by their rules."""
    result = score.evaluation
    low, high = result.ci95
    lines = [
        f"{result.env} · {score.mark} checkpoint (step {score.request.step:,}) · "
        f"{describe_rules(score.protocol)} · {pluralize(result.episodes, 'episode')}",
        f"  mean return  {result.mean:.1f}   95% interval {low:.1f} to {high:.1f}",
        f"  median       {result.median:.1f}   standard deviation {result.std:.1f}",
        f"  mean length  {sum(result.lengths) / result.episodes:.0f} steps",
    ]
    if result.human_normalized is not None:
        lines.append(f"  human-normalised {100 * result.human_normalized:.0f}% (0% is random play, 100% a person)")
    for row in baselines(result.env, result.mean, score.frames, score.protocol):
        spread = "" if row.std is None else f" ± {row.std:.1f} at {score.frames / 1e6:.1f} million frames"
        ratio = "" if row.ratio is None else f"   {row.ratio:.2f} times as far above random play"
        where = {None: "", True: ", inside the spread", False: ", outside the spread"}[row.is_inside]
        lines.append(f"  {row.name:<12} {row.mean:.1f}{spread}{ratio}{where}")
    return "\n".join(lines)


def _film(policy: Policy, result: Score, folder: Path, seed: int) -> None:
    """Films one more episode."""
    name = f"{result.request.env.split('/')[-1]}-step{result.request.step}-seed{seed}.mp4"
    request = result.request
    game = evaluation_game(policy, request.env, request.protocol, None, seed)
    total = film_episode(policy, game, folder / name)
    print(f"filmed an episode of return {total:g}: {folder / name}", file=sys.stderr)


def _check_film(env_id: str) -> None:
    """Sees that an environment draws pictures.

    Raises:
        UserError: it does not.
    """
    try:
        make_filmed(env_id).close()
    except InvalidEnv as error:
        raise UserError(f"{error}; leave out --video") from error


def _bar(what: str, total: int, done: int = 0) -> Progress:
    """A progress bar on a terminal's stderr, and none elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task(what, total=total, completed=done)
    return bar


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("evaluate"))
