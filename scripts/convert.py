"""`pixelq convert`: a DQN of stable-baselines3 as a checkpoint."""

from __future__ import annotations

import sys
from typing import Any

from pixelq.agents.errors import InvalidCheckpoint, RunFailed
from pixelq.agents.sharing.sb3 import load_sb3
from pixelq.envs import make_vec
from pixelq.scripts.command_line import allow_working_folder
from pixelq.scripts.flags.convert import ConvertArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules


def main(args: ConvertArgs) -> None:
    """Read the zip, compare it with the environment, and write the checkpoint."""
    import_modules(args.modules)
    if args.wrappers or ":" in args.env:
        allow_working_folder()
    agent = load_sb3(args.file, "cpu")
    envs = make_vec(args.env, 1, 0, args.protocol, **args.env_arguments)
    envs.close()
    space, own = envs.single_observation_space, agent.observation_space
    options: dict[str, Any] = {"env": envs.env_id, "protocol": envs.protocol.rules, "env_arguments": envs.arguments}
    is_last = len(own.shape or ()) == 3 and space.shape == (*own.shape[1:], own.shape[0]) and space.shape != own.shape
    agent = load_sb3(args.file, "cpu", channels_last=is_last, **options)
    if not agent.fits(envs):
        raise InvalidCheckpoint(
            f"{args.file} has observations {[*own.shape]} of {own.dtype} and {agent.num_actions} actions, and "
            f"{args.env} has {[*(space.shape or ())]} of {space.dtype} and {envs.single_action_space}; give the "
            "environment of its training, with its arguments"
        )
    try:
        agent.save(args.out)
    except OSError as error:
        raise RunFailed(f"{args.out} cannot be written ({error.strerror})") from error
    print(f"checkpoint: {args.out}   (pixelq evaluate {args.out})")


if __name__ == "__main__":
    sys.exit(run("convert"))
