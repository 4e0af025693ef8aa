"""`pixelq evaluate`: scores of saved policies over full episodes."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from pixelq.scripts.command_line import STDOUT, check_writable, make_folder, write_json
from pixelq.scripts.flags.evaluate import EvaluateArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules


def main(args: EvaluateArgs) -> None:
    """Evaluate, and print the figures."""
    if args.list:
        return _list(args)
    import_modules(args.modules)
    requests = _requests(args)
    if args.video is not None:
        _check_film(requests[0].env)
    if args.json not in (None, STDOUT):
        check_writable(args.json, "--json")
    if args.video is not None:
        make_folder(args.video, "--video")
    file = ScoreFile(args.results) if args.results is not None else None
    figures: Any = _evaluate_one(requests[0], args) if args.is_single else _evaluate_many(requests, args, file)
    if args.suite is not None:
        figures = {"suite": args.suite, "evaluations": figures, "aggregates": over_games(figures)}
        if args.json != STDOUT:
            print(describe_aggregates(figures["aggregates"]))
    if args.json is not None:
        write_json(figures, args.json)


def _list(args: EvaluateArgs) -> None:
    """Print the pretrained policies."""
    found = pretrained_policies()
    if args.json is not None:
        if args.json != STDOUT:
            check_writable(args.json, "--json")
        write_json([dataclasses.asdict(each) for each in found], args.json)
    if args.json != STDOUT:
        print(describe_pretrained(found))


def describe_pretrained(found: Sequence[PretrainedPolicy]) -> str:
    """Return the pretrained policies as a table, with a line on how to use one."""
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
                f"{pluralize(each.episodes, 'episode')}, {describe_rules(each.protocol)}",
                f"{each.size / 1e6:.1f} MB",
            )
        )
    if not found:
        return "no policy comes with this pixelq"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    name = (*found[0].aliases, found[0].name)[0]
    return "\n".join([*table, "", f'pixelq evaluate {name} --video out   or, in Python, DQN.load("{name}")'])


def _requests(args: EvaluateArgs) -> list[Request]:
    """Return what to play, after checking that all of it exists."""
    options: dict[str, Any] = {name: getattr(args, name) for name in ("protocol", "flicker", "seed", "device")}
    checkpoints = [checkpoint for path in args.checkpoints for checkpoint in checkpoints_of(path, args.which)]
    requests = [request_of(checkpoint, args.episodes, **options) for checkpoint in dict.fromkeys(checkpoints)]
    if args.suite is not None:
        check_suite(args.suite, requests)
    return requests


def _evaluate_one(request: Request, args: EvaluateArgs) -> dict[str, Any]:
    """Play one policy with a progress bar of its episodes, film it if asked for, and return its figures."""
    with _bar("episodes", request.episodes) as bar:
        policy, result = score(request, played=lambda: bar.advance(bar.task_ids[0]))
    if args.json != STDOUT:
        print(describe(result))
    if args.video is not None:
        _film(policy, result, args.video, args.seed)
    return result.to_json()


def _evaluate_many(requests: list[Request], args: EvaluateArgs, file: ScoreFile | None) -> list[dict[str, Any]]:
    """Play the policies of which the file has no score, print a line for each policy, and return all figures."""
    scores = {} if file is None else dict(file.scores)
    missing = list({request.key: request for request in requests if request.key not in scores}.values())
    processes = args.processes or (1 if resolve_device(args.device).type == "cuda" else os.cpu_count() or 1)
    with _bar("policies", len(requests), len(requests) - len(missing)) as bar:
        for result in score_all(missing, max(1, min(processes, len(missing))), args.modules):
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
    """Return a score as one line of text."""
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
    """Return a score as a few lines of text, beside random play, a human, and agents published under the same rules."""
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
    """Film one more episode."""
    name = f"{result.request.env.split('/')[-1]}-step{result.request.step}-seed{seed}.mp4"
    request = result.request
    game = evaluation_game(policy, request.env, request.protocol, None, seed)
    total = film_episode(policy, game, folder / name)
    print(f"filmed an episode of return {total:g}: {folder / name}", file=sys.stderr)


def _check_film(env_id: str) -> None:
    """Check that an environment draws pictures.

    Raises:
        UserError: If it does not.
    """
    try:
        make_filmed(env_id).close()
    except InvalidEnv as error:
        raise UserError(f"{error}; leave out --video") from error


def _bar(what: str, total: int, done: int = 0) -> Progress:
    """Return a progress bar on stderr, which shows only on a terminal."""
    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task(what, total=total, completed=done)
    return bar


if __name__ == "__main__":
    sys.exit(run("evaluate"))
