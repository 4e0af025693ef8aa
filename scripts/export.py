"""`pixelq export`: a policy as a file for other programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gymnasium.vector import VectorEnv

from pixelq.agents import Policy, UserError
from pixelq.agents.evaluation.scoring import NUM_ENVS, checkpoints_of, request_of
from pixelq.agents.sharing.acting_network import ActingNetwork, played_inputs
from pixelq.agents.sharing.export import Difference, check_onnx, export
from pixelq.agents.sharing.sb3 import save_sb3
from pixelq.envs import InvalidEnv, make_vec
from pixelq.scripts.command_line import check_writable
from pixelq.scripts.flags.export import ExportArgs
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules


def main(args: ExportArgs) -> None:
    """Write the file, and print what it takes and returns and how far it is from the policy."""
    import_modules(args.modules)
    if args.format == "onnx":
        check_onnx()
    (checkpoint,) = checkpoints_of(args.checkpoint, args.which)
    policy = Policy.load(checkpoint, "cpu")
    check_writable(args.out, "--out")
    with _games(args, policy) as envs:
        played = None if envs is None else played_inputs(policy, envs, -(-args.frames // NUM_ENVS))
        if args.format == "sb3":
            space = None if envs is None else envs.single_observation_space
            difference: Difference | None = save_sb3(policy, args.out, space, played)
        else:
            difference = export(policy, args.format, args.out, played)
    print(f"{args.format}: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")
    if args.format != "sb3":
        print(_signature(policy))
    print(f"  {'not checked: onnxruntime is not installed' if difference is None else f'checked: {difference}'}")


@contextmanager
def _games(args: ExportArgs, policy: Policy) -> Iterator[VectorEnv | None]:
    """Make the environments in which a policy is evaluated while the context lasts; None if they are not wanted.

    Where they cannot be made, it is said why, and observations are random.
    """
    envs = None
    if args.frames:
        try:
            (checkpoint,) = checkpoints_of(args.checkpoint, args.which)
            request = request_of(checkpoint, 1, seed=args.seed)
            envs = make_vec(request.env, NUM_ENVS, args.seed, request.protocol, **request.env_arguments)
            if not policy.fits(envs):
                raise UserError(f"{request.env} has other observations or actions here")
        except (UserError, InvalidEnv) as error:
            print(f"compared on random observations: {error}", file=sys.stderr)
            if envs is not None:
                envs.close()
            envs = None
    try:
        yield envs
    finally:
        if envs is not None:
            envs.close()


def _signature(policy: Policy) -> str:
    """Return the inputs and outputs of an exported file as two lines of text."""
    network = ActingNetwork(policy)
    shape = ", ".join(map(str, ("batch", *policy.observation_space.shape)))
    state = "" if network.network.lstm is None else f"float32 [batch, {network.network.lstm.out_features}]"
    shapes = {
        "observation": f"{'uint8' if policy.observation_space.dtype == 'uint8' else 'float32'} [{shape}]",
        **dict.fromkeys(("hidden", "cell", "next_hidden", "next_cell"), state),
        "episode_start": "bool [batch]",
        "last_action": "int64 [batch]",
        "last_reward": "float32 [batch]",
        "q_values": f"float32 [batch, {policy.num_actions}]",
    }
    inputs, outputs = (
        ", ".join(f"{name} {shapes[name]}" for name in names) for names in (network.input_names, network.output_names)
    )
    return f"  inputs   {inputs}\n  outputs  {outputs}"


if __name__ == "__main__":
    sys.exit(run("export"))
