"""`pixelq push`: a policy on the Hugging Face Hub, with its evaluation, its film and its card."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelq.agents import Agent
from pixelq.agents.errors import InvalidRun, MissingExtra
from pixelq.agents.evaluation.film import FILM_SECONDS, check_films
from pixelq.agents.evaluation.scoring import Request, checkpoints_of, film, request_of, score
from pixelq.agents.runs.tables import read_config
from pixelq.agents.sharing.hub import check_access, push, repository_files
from pixelq.agents.storage.environments import ARGUMENTS
from pixelq.agents.storage.pointers import run_of
from pixelq.agents.storage.pretrained import find_policy
from pixelq.envs import InvalidEnv, make_filmed
from pixelq.scripts.evaluate import describe
from pixelq.scripts.flags.push import PushArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules
from pixelq.scripts.pack import command_of
from pixelq.scripts.play_progress import PlayProgress


def main(args: PushArgs) -> None:
    """Play, film, write the repository, and print its address."""
    import_modules(args.modules)
    (checkpoint,) = checkpoints_of(args.checkpoint, args.which)
    options: dict[str, Any] = {"protocol": args.protocol, "seed": args.seed, "device": args.device}
    request = request_of(checkpoint, args.episodes, **options)
    agent = Agent.load(checkpoint, "cpu")
    check_access(args.repo)
    config = _config(checkpoint, agent)
    with PlayProgress("episodes", request.episodes) as progress:
        _, result = score(request, progress.advance, progress.step)
    print(describe(result))
    files = repository_files(
        args.repo,
        agent,
        config,
        result.to_json(),
        film=_film(request) if args.film else None,
        command=command_of(config) if "preset" in config else None,
    )
    address = push(args.repo, files, private=args.private)
    size = sum(map(len, files.values()))
    print(f"\n  repository  {address}   ({size / 1e6:.1f} MB)\n  load it     pixelq evaluate hf://{args.repo}")


def _config(checkpoint: Path, agent: Agent) -> dict[str, Any]:
    """Return how an agent was trained: its run's config.json, or what the checkpoint alone says."""
    folder = find_policy(checkpoint)  # which a packed policy's config.json lies in
    own = {"agent": agent.config.to_dict()}
    for place in (folder, run_of(folder)):
        with suppress(InvalidRun):
            if place is not None:
                return read_config(place) | own
    of_agent = {"env": agent.env_id, "protocol": agent.protocol, ARGUMENTS: agent.env_arguments, "seed": agent.seed}
    return of_agent | own


def _film(request: Request) -> bytes | None:
    """Film an episode that the evaluation does not play; None, and why, where that cannot be done."""
    try:
        check_films()
        make_filmed(request.env, **request.env_arguments).close()
    except (MissingExtra, InvalidEnv) as error:
        print(f"no film: {error}", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as folder, PlayProgress("films", 1) as progress:
        film(request, Path(folder) / "replay.mp4", progress.step, FILM_SECONDS)
        return (Path(folder) / "replay.mp4").read_bytes()


if __name__ == "__main__":
    sys.exit(run("push"))
