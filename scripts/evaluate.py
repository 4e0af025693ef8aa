"""`pixelq evaluate`: scores of saved policies over full episodes."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import InvalidRun, UserError
from pixelq.agents.evaluation.film import check_films
from pixelq.agents.evaluation.limits import evaluation_limit, is_cut
from pixelq.agents.evaluation.players import score_all
from pixelq.agents.evaluation.scoring import (
    BEST,
    Request,
    Score,
    ScoreFile,
    checkpoints_of,
    film,
    mark_of,
    request_of,
    score,
)
from pixelq.agents.results.baselines import Baseline, baselines
from pixelq.agents.results.formatting import describe_rules, pluralize
from pixelq.agents.results.records import load_run
from pixelq.agents.results.suites import check_suite, describe_aggregates, over_games
from pixelq.agents.storage.checkpoint_files import AGENT
from pixelq.agents.storage.hub import written
from pixelq.agents.storage.pointers import CHECKPOINTS, run_of
from pixelq.agents.storage.pretrained import CONFIG, is_pretrained
from pixelq.envs import InvalidEnv, make_filmed
from pixelq.envs.ids import short_name
from pixelq.scripts.command_line import STDOUT, check_writable, make_folder, write_json
from pixelq.scripts.flags.evaluate import EvaluateArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules
from pixelq.scripts.play_progress import PlayProgress


def main(args: EvaluateArgs) -> None:
    """Evaluate, and print the figures."""
    import_modules(args.modules)
    requests = _requests(args)
    if args.video is not None:
        _check_folder(args.video)
        _check_film(requests[0])
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


def _requests(args: EvaluateArgs) -> list[Request]:
    """Return what to play, after checking that all of it exists."""
    names = ("protocol", "flicker", "seed", "device", "max_episode_steps")
    options: dict[str, Any] = {name: getattr(args, name) for name in names}
    checkpoints = [checkpoint for path in args.checkpoints for checkpoint in checkpoints_of(path, _which(path, args))]
    requests = [request_of(checkpoint, args.episodes, **options) for checkpoint in dict.fromkeys(checkpoints)]
    if args.suite is not None:
        check_suite(args.suite, requests)
    return requests


def _which(path: Path, args: EvaluateArgs) -> str | None:
    """Return which checkpoint of a path to play; those of a suite are aggregated, which maxima over runs cannot be."""
    is_last = args.which is None and args.suite is not None and os.path.isdir(path / CHECKPOINTS)
    return "last" if is_last else args.which


def _evaluate_one(request: Request, args: EvaluateArgs) -> dict[str, Any]:
    """Film one policy if asked for, play it, print its score, and return its figures."""
    if args.video is not None:
        _film(request, args.video)
    with PlayProgress("episodes", request.episodes) as progress:
        _, result = score(request, progress.advance, progress.step)
    if args.json != STDOUT:
        print(describe(result))
    return result.to_json()


def _evaluate_many(requests: list[Request], args: EvaluateArgs, file: ScoreFile | None) -> list[dict[str, Any]]:
    """Play the policies of which the file has no score, print a line for each policy, and return all figures."""
    scores = {} if file is None else dict(file.scores)
    missing = list({request.key: request for request in requests if request.key not in scores}.values())
    processes = args.processes or (1 if resolve_device(args.device).type == "cuda" else os.cpu_count() or 1)
    with PlayProgress("policies", len(requests), len(requests) - len(missing)) as progress:
        for result in score_all(missing, max(1, min(processes, len(missing))), args.modules):
            scores[result.request.key] = result.to_json()
            if file is not None:
                file.append(result)
            progress.advance()
    places = [{"checkpoint": written(request.checkpoint), "mark": mark_of(request.checkpoint)} for request in requests]
    figures = [scores[request.key] | place for request, place in zip(requests, places, strict=True)]
    if args.json != STDOUT:
        print("\n".join(map(_line, figures)))
    return figures


def _line(figures: dict[str, Any]) -> str:
    """Return a score as one line of text."""
    mean, low, high = (math.nan if value is None else value for value in (figures["mean"], *figures["ci95"]))
    human, cut = figures["human_normalized"], figures.get("cut", 0)
    parts = [
        figures["env"],
        f"{figures['mark']} checkpoint (step {figures['step']:,})",
        describe_rules(figures["protocol"]),
        pluralize(figures["episodes"], "episode") + (f", {cut} of them cut off" if cut else ""),
        f"mean return {mean:.1f} ({low:.1f} to {high:.1f})",
        *([] if human is None else [f"human-normalised {100 * human:.0f}%"]),
        figures["checkpoint"],
    ]
    return " · ".join(parts)


def describe(score: Score) -> str:
    """Return a score as a few lines of text, beside random play, a human, and agents published under the same rules.

    The best checkpoint of a run is a maximum over the run, so published agents are laid beside its last evaluation.
    """
    result = score.evaluation
    low, high = result.ci95
    lines = [
        f"{result.env} · {score.mark} checkpoint (step {score.request.step:,}) · "
        f"{describe_rules(score.protocol)} · {pluralize(result.episodes, 'episode')}",
        f"  mean return  {result.mean:.1f}   95% interval {low:.1f} to {high:.1f}",
        f"  median       {result.median:.1f}   standard deviation {result.std:.1f}",
        f"  mean length  {sum(result.lengths) / result.episodes:.0f} steps",
    ]
    if score.cut:
        lines.append(
            f"  {score.cut} of {pluralize(result.episodes, 'episode')} cut off after {score.limit:,} steps; "
            "--max-episode-steps sets another limit"
        )
    if result.human_normalized is not None:
        lines.append(f"  human-normalised {100 * result.human_normalized:.0f}% (0%: random play, 100%: a human player)")
    rows = baselines(result.published_env, result.mean, score.frames, score.protocol)
    lines += [_baseline_line(row, score.frames) for row in rows if row.std is None]
    return "\n".join([*lines, *_published_lines(score, [row for row in rows if row.std is not None])])


def _published_lines(score: Score, own: Sequence[Baseline]) -> list[str]:
    """Return a line for each published agent, under one for the last evaluation of the run of a best checkpoint.

    Args:
        score: A score.
        own: Published agents beside the score itself.
    """
    if is_pretrained(score.request.checkpoint):  # the best of a run that is not there
        return []
    if score.mark != BEST:
        return [_baseline_line(row, score.frames) for row in own] if score.request.max_episode_steps is None else []
    folder = run_of(score.request.checkpoint)
    if folder is None:
        return []
    try:
        run = load_run(folder)
    except InvalidRun:
        return []
    if run.last is None:
        return []
    frames, rules = round(run.last.step * run.frames_per_step), str(run.config["protocol"])
    under = "" if rules == score.protocol else f", under {describe_rules(rules)}"
    limit = evaluation_limit(run.config)
    under += "" if limit is None else f", with games cut off after {limit:,} steps"
    lines = [f"  last evaluation of the run (step {run.last.step:,}){under}: {run.last.mean:.1f}"]
    if not is_cut(run.config) and math.isfinite(run.last.mean):
        rows = baselines(score.evaluation.published_env, run.last.mean, frames, rules)
        lines += [_baseline_line(row, frames) for row in rows if row.std is not None]
    return lines


def _baseline_line(row: Baseline, frames: int) -> str:
    """Return a baseline at a number of frames as a line of text."""
    spread = "" if row.std is None else f" ± {row.std:.1f} at {frames / 1e6:.1f} million frames"
    ratio = "" if row.ratio is None else f"   this score: {row.ratio:.2f} times as far above random play"
    where = {None: "", True: ", inside the spread", False: ", outside the spread"}[row.is_inside]
    return f"  {row.name:<12} {row.mean:.1f}{spread}{ratio}{where}"


def _film(request: Request, folder: Path) -> None:
    """Film an episode that the evaluation does not play."""
    path = folder / f"{short_name(request.env)}-step{request.step}-seed{request.seed}.mp4"
    with PlayProgress("films", 1) as progress:
        total = film(request, path, progress.step)
    print(f"filmed an episode with return {total:g}: {path}", file=sys.stderr)


def _check_folder(folder: Path) -> None:
    """Check that no link in a run, which may be a stranger's, leads a film out of it.

    Raises:
        InvalidRun: If one does.
    """
    for path in (folder, *folder.parents):
        if path.is_symlink() and any(os.path.isfile(path.parent / name) for name in (CONFIG, AGENT)):
            raise InvalidRun(f"{path} must not be a link in a run; remove it, or use another --video folder")


def _check_film(request: Request) -> None:
    """Check that the environment draws pictures, and that they can be written.

    Raises:
        UserError: If not.
    """
    check_films()
    try:
        make_filmed(request.env, **request.env_arguments).close()
    except InvalidEnv as error:
        raise UserError(f"{error}; leave out --video") from error


if __name__ == "__main__":
    sys.exit(run("evaluate"))
