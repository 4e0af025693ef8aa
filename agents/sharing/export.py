"""Export: files from which other programs compute a policy's q-values, each checked before it is written."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import InvalidConfig, InvalidRun, MissingExtra, RunFailed, how_to_install, one_line
from pixelq.agents.sharing.acting_network import ActingNetwork, Inputs, random_inputs
from pixelq.agents.storage.files import replace_file, user_path

Format = Literal["onnx", "torchscript", "torch_export"]
MOST_DIFFERENCE = 1e-3
"""Greatest difference of a q-value that rounding may make, relative to the greatest q-value or to 1."""
Run = Callable[[tuple[Tensor, ...]], Sequence[NDArray[Any]]]
"""What an exported file computes."""


@dataclass(frozen=True)
class Difference:
    """How far an exported file is from the policy.

    Attributes:
        observations: Number of observations that both have read.
        q_value: Greatest absolute difference of a q-value.
        other_actions: Number of observations at which the greatest q-value is of another action.
        program: What ran the file, such as `onnxruntime 1.20`.
    """

    observations: int
    q_value: float
    other_actions: int
    program: str

    def __str__(self) -> str:
        count = self.other_actions
        others = f"{count} greedy actions differ" if count > 1 else f"{count or 'no'} greedy action differs"
        return (
            f"{self.program} computes q-values that differ by at most {self.q_value:.1e} on {self.observations:,} "
            f"observations; {others}"
        )


def export_onnx(
    agent: Policy, file: str | os.PathLike[str], inputs: Iterable[Inputs] | None = None
) -> Difference | None:
    """Write an agent's greedy network as an ONNX file, and return how far onnxruntime's q-values are from the agent's.

    The names of inputs and outputs are those of `ActingNetwork`; their first dimension, the batch, is dynamic. The
    file's metadata has the environment and the protocol. Noisy layers have no noise, distributions their means. Action
    masks are left to the program that plays.

    Args:
        agent: A `DQN`, a `PQN` or any other policy.
        file: Path of the file, which is replaced.
        inputs: What both read to be compared, as `played_inputs` yields it; None for random observations.

    Returns:
        The difference; None where onnxruntime is not installed.

    Raises:
        MissingExtra: If `onnx` or `onnxscript` is not installed.
        InvalidConfig: If a part of the network cannot be exported.
        InvalidRun: If the file cannot be written.
        RunFailed: If the exported network computes other values; then nothing is written.
    """
    return export(agent, "onnx", file, inputs)


def export(
    agent: Policy, to: Format, file: str | os.PathLike[str], inputs: Iterable[Inputs] | None = None
) -> Difference | None:
    """Write an agent's greedy network in a format, and return how far its q-values are from the agent's.

    Args:
        agent, file, inputs: See `export_onnx`.
        to: `onnx`; `torchscript`, for `torch.jit.load`; or `torch_export`, for `torch.export.load`. All have the same
            inputs and outputs in the same order.

    Raises:
        MissingExtra, InvalidConfig, InvalidRun, RunFailed: See `export_onnx`.
    """
    if to not in get_args(Format):
        raise InvalidConfig(f"format must be one of {', '.join(get_args(Format))}, got {to!r:.80}")
    network, path = ActingNetwork(agent), user_path(file)
    if to == "onnx":
        check_onnx()
    examples = [network.arguments(each, network.initial_state(2)) for each in random_inputs(agent, rows=2)]
    try:
        with _quiet(), torch.no_grad():
            data, run, program = _WRITERS[to](network, examples[0], _metadata(agent))
    except Exception as error:  # the exporters raise errors of many classes
        raise InvalidConfig(
            f"{to} cannot express this network ({type(error).__name__}: {one_line(error):.200}); try another format"
        ) from error
    found = None
    if run is not None:
        found = compare(network, run, program, random_inputs(agent) if inputs is None else inputs)
    try:
        replace_file(path, data)
    except OSError as error:
        raise InvalidRun(f"{path} cannot be written ({error.strerror}); give another file") from error
    return found


def compare(network: ActingNetwork, run: Run, program: str, inputs: Iterable[Inputs]) -> Difference:
    """Return the difference of an exported network, which reads the LSTM's states of the original.

    Raises:
        RunFailed: If it is more than rounding makes.
    """
    observations, worst, other, greatest = 0, 0.0, 0, 1.0
    state: tuple[Tensor, ...] = ()
    for each in inputs:
        rows = len(each.observation)
        if not state or len(state[0]) != rows:
            state = network.initial_state(rows)
        arguments = network.arguments(each, state)
        with torch.no_grad():
            q, *states = network(*arguments)
        try:
            theirs = run(arguments)
        except Exception as error:  # runtimes raise errors of many classes
            sentence = f"the exported network cannot be run by {program} ({one_line(error)}); nothing was written"
            raise RunFailed(sentence) from error
        for own, found in zip((q, *states), theirs, strict=True):
            gap = np.abs(own.numpy().astype(np.float64) - found)
            worst = max(worst, float(gap.max())) if np.isfinite(gap).all() else np.inf
        other += int((q.numpy().argmax(1) != np.asarray(theirs[0]).argmax(1)).sum())
        greatest, observations, state = max(greatest, float(q.abs().max())), observations + rows, tuple(states)
    difference = Difference(observations, worst, other, program)
    if not worst <= MOST_DIFFERENCE * greatest:
        raise RunFailed(f"the exported network is not the policy's: {difference}; nothing was written")
    return difference


def check_onnx() -> None:
    """Check that ONNX files can be made.

    Raises:
        MissingExtra: If `onnx` or `onnxscript` is not installed.
    """
    for name in ("onnx", "onnxscript"):
        if not _is_installed(name):
            raise MissingExtra(f"an ONNX file needs onnx and onnxscript: {how_to_install('onnx')}")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a stand-in without a specification
        return False


def _metadata(agent: Policy) -> dict[str, str]:
    """Return what a file says of its policy."""
    values = {"pixelq": version("pixelq"), "env": agent.env_id, "protocol": agent.protocol, "step": agent.step}
    values["env_arguments"] = json.dumps(dict(agent.env_arguments))
    return {name: str(value) for name, value in values.items() if value is not None}


def _dynamic(network: ActingNetwork) -> dict[str, Any]:
    """Return the dynamic dimensions of the inputs: the first of each, the batch."""
    batch = torch.export.Dim("batch", min=1)
    return {"inputs": tuple({0: batch} for _ in network.input_names)}


def _write_onnx(
    network: ActingNetwork, example: tuple[Tensor, ...], metadata: dict[str, str]
) -> tuple[bytes, Run | None, str]:
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        dynamic_shapes=_dynamic(network),
        input_names=network.input_names,
        output_names=network.output_names,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    data: bytes = model.SerializeToString()
    if not _is_installed("onnxruntime"):
        return data, None, ""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(arguments: tuple[Tensor, ...]) -> list[NDArray[Any]]:
        given = {name: value.numpy() for name, value in zip(network.input_names, arguments, strict=True)}
        found: list[NDArray[Any]] = session.run(network.output_names, given)
        return found

    return data, run, f"onnxruntime {onnxruntime.__version__}"


def _write_torchscript(
    network: ActingNetwork, example: tuple[Tensor, ...], metadata: dict[str, str]
) -> tuple[bytes, Run | None, str]:
    traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    torch.jit.save(traced, file, _extra_files={f"{key}.txt": value for key, value in metadata.items()})
    return file.getvalue(), lambda arguments: [each.numpy() for each in traced(*arguments)], "TorchScript"


def _write_torch_export(
    network: ActingNetwork, example: tuple[Tensor, ...], metadata: dict[str, str]
) -> tuple[bytes, Run | None, str]:
    program = torch.export.export(network, example, dynamic_shapes=_dynamic(network))
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={f"{key}.txt": value for key, value in metadata.items()})
    module = program.module()
    return file.getvalue(), lambda arguments: [each.numpy() for each in module(*arguments)], "torch.export"


_WRITERS = {"onnx": _write_onnx, "torchscript": _write_torchscript, "torch_export": _write_torch_export}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings about themselves off the terminal while the context lasts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
