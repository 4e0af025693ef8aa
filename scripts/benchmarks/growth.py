"""How speed and memory grow with each size of a training, beside the work that the size calls for.

Each point is trained in a process of its own, and the points of a series take turns. Work is counted and not timed:
steps, updates, multiplications and bytes. A training whose parts each take time in proportion to their work cannot
become slower by more than the work that grows most; where it does, something grows faster than its work.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from pixelq.agents import DQN, PQN, AgentConfig, Replay, preset
from pixelq.agents.config.at_step import minibatches_at
from pixelq.agents.config.machine_limits import usable_cores
from pixelq.agents.config.presets import PRESET_PROTOCOLS
from pixelq.agents.errors import UserError
from pixelq.agents.experience.batches import Batch
from pixelq.agents.experience.rollout import Minibatch
from pixelq.agents.runs.machine import hardware
from pixelq.agents.training.threads import suitable_threads
from pixelq.envs import make_vec
from pixelq.scripts.benchmarks.growth_points import PRESET, Point, Series, series_of
from pixelq.scripts.benchmarks.peer_pixelq import config_of
from pixelq.scripts.benchmarks.peers import WARM_UP_SHARE, Turn, measure, peak_memory_mib
from pixelq.scripts.benchmarks.processes import process, receive
from pixelq.scripts.benchmarks.roofline import Cost, Traffic
from pixelq.scripts.benchmarks.sampling_cost import fill
from pixelq.scripts.benchmarks.work import Work

TOLERANCE = 1.05
"""Times the work by which time must have grown in every turn, or memory, to be called faster."""
WARM_UP_UPDATES = 4
"""Updates before any are timed."""
MIB = 2**20


class StepWork(NamedTuple):
    """Work of one agent step."""

    updates: float
    """Updates."""
    gflop: float
    """10⁹ multiplications and additions of acting and updates."""
    gigabytes: float
    """Gigabytes that the operations of acting and updates read and write, and the batches that are gathered."""


class Ready(NamedTuple):
    """What a point's process says before its first turn."""

    work: StepWork
    """Work of a step."""
    live_gigabytes: float
    """Gigabytes that one update and one choice of actions touch, which bounds what they hold at once."""
    store_mib: float
    """Memory of the replay or the rollout."""
    environments_mib: float
    """Memory by which the process grew when it made the environments."""
    threads: int
    """Threads with which PyTorch computes."""


class Grown:
    """Our agent at one point.

    Args:
        point: The point.
        env: ID of an Atari environment.
        device: `cpu` or `cuda`.

    Raises:
        UserError: If there is not enough memory.
    """

    def __init__(self, point: Point, env: str, device: str) -> None:
        protocol = Work.protocol if point.algorithm == "dqn" else PRESET_PROTOCOLS[PRESET]
        before = peak_memory_mib()
        self.envs = make_vec(
            env, point.num_envs, 0, protocol, frame_stack=point.frame_stack, frame_size=point.frame_size
        )
        self.environments_mib = peak_memory_mib() - before
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        self.agent = (DQN if point.algorithm == "dqn" else PQN)(*spaces, config_at(point), device=device, seed=0)
        self.store = self.agent.make_replay(point.num_envs, point.frame_stack)
        if isinstance(self.store, Replay):
            fill(self.store, self.agent.observation_space)
        self.block = block_of(self.agent.config, point.num_envs)

    def learn(self, steps: int) -> None:
        """Train without a run folder, so that nothing is written."""
        self.agent.learn(self.envs, steps)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of steps and updates."""
        return self.agent.step, self.agent.updates

    def warm_up(self) -> None:
        """Train until a few updates are made."""
        config, blocks = self.agent.config, WARM_UP_UPDATES
        if config.algorithm == "pqn":
            blocks += config.rollout_length
        else:
            blocks = -(-blocks * config.train_every // self.block)
        self.learn(blocks * self.block)

    def ready(self) -> Ready:
        """Return the work of a step, and what takes memory."""
        num_envs = self.envs.num_envs
        act, update = acting_cost(self.agent, num_envs), update_cost(self.agent, num_envs)
        updates = updates_per_step(self.agent.config, num_envs)
        work = StepWork(
            updates,
            updates * update.gflop + act.gflop / num_envs,
            updates * update.gigabytes + act.gigabytes / num_envs,
        )
        stored = self.store.nbytes if isinstance(self.store, Replay) else self.store.ring.nbytes
        with suitable_threads(self.agent, num_envs, None):
            threads = torch.get_num_threads()
        return Ready(work, update.gigabytes + act.gigabytes, stored / MIB, self.environments_mib, threads)


def config_at(point: Point) -> AgentConfig:
    """Return the configuration of the agent at a point; nearly all actions come from the network from the start on."""
    shape: dict[str, Any] = {"frame_stack": point.frame_stack, "frame_size": point.frame_size}
    if point.algorithm == "pqn":
        early: dict[str, Any] = {"past_rollouts": 0, "kept_rollouts": 0}  # as in a training of `make train`
        return replace(preset(PRESET), epsilon=Work.epsilon, **early, **shape)
    assert point.replay_capacity is not None
    assert point.batch_size is not None
    work = Work(num_envs=point.num_envs, replay_capacity=point.replay_capacity, batch_size=point.batch_size)
    return replace(config_of(work), learning_starts=1, epsilon_start=work.epsilon, **shape)


def block_of(config: AgentConfig, num_envs: int) -> int:
    """Return the fewest steps of all environments after which the number of updates is whole."""
    return num_envs if config.algorithm == "pqn" else math.lcm(num_envs, config.train_every)


def updates_per_step(config: AgentConfig, num_envs: int) -> float:
    """Return the number of updates that an agent step calls for."""
    if config.algorithm == "pqn":
        return minibatches_at(config, 0) / (config.rollout_length * num_envs)
    return config.gradient_steps / config.train_every


def acting_cost(agent: DQN | PQN, num_envs: int) -> Cost:
    """Return the demands of one choice of actions in N environments."""
    space = agent.observation_space
    obs = torch.zeros((num_envs, *space.shape), dtype=torch.uint8, device=agent.device)
    return _counted(lambda: agent.explore(obs))


def update_cost(agent: DQN | PQN, num_envs: int) -> Cost:
    """Return the demands of one update, with its batch, which is gathered once."""
    config, space, device = agent.config, agent.observation_space, agent.device
    is_pqn = config.algorithm == "pqn"
    rows = -(-config.rollout_length * num_envs // config.minibatches) if is_pqn else config.batch_size
    obs = torch.randint(256, (rows, *space.shape), dtype=torch.uint8, device=device)
    action = torch.zeros(rows, dtype=torch.int64, device=device)
    one = torch.ones(rows, device=device)
    batch = Minibatch(obs, action, one, one.bool()) if is_pqn else Batch(obs, action, one, one, obs.clone())
    cost = _counted(lambda: agent.learner.update(batch))  # type: ignore[arg-type]
    gathered = 2 * sum(part.nbytes for part in batch if isinstance(part, torch.Tensor))  # read and written
    return Cost(cost.gflop, cost.gigabytes + gathered / 1e9)


def _counted(call: Callable[[], object]) -> Cost:
    """Return the demands of a call after a first one, which may set something up."""
    call()
    with FlopCounterMode(display=False) as counter, Traffic() as traffic:
        call()
    return Cost(counter.get_total_flops() / 1e9, traffic.bytes / 1e9)


def serve(connection: Connection, point: Point, env: str, device: str) -> None:
    """Make a point ready, say so, then take a turn for each number of seconds received; the main function of a process.

    A point that cannot be measured sends the reason in place of `Ready`.

    Args:
        connection: Connection to the process that measures.
        point: The point.
        env: ID of an Atari environment.
        device: `cpu` or `cuda`.
    """
    os.dup2(2, 1)  # stdout belongs to the parent
    if point.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: point.cores])
    try:
        try:
            trainer = Grown(point, env, device)
        except UserError as error:
            return connection.send(str(error))
        trainer.warm_up()
        turn = measure(trainer, trainer.block, device)
        connection.send(trainer.ready())
        while True:
            seconds: float = connection.recv()
            for share in (WARM_UP_SHARE, 1.0):
                blocks = round(share * seconds * turn.steps / turn.seconds / trainer.block)
                turn = measure(trainer, trainer.block * max(1, blocks), device)
            connection.send(turn)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the parent has ended


class Measured(NamedTuple):
    """Measurements of a series."""

    series: Series
    """The series."""
    ready: dict[int, Ready]
    """What each point said before its first turn, by size."""
    runs: dict[int, list[Turn]]
    """Turns of each point that could be measured, by size."""
    left_out: dict[int, str]
    """Reasons why points could not be measured, by size."""


def growth(
    names: Sequence[str], env: str, device: torch.device, turns: int, seconds: float, keep: Callable[[Any], None]
) -> dict[str, Any]:
    """Return the figures of some series as JSON values.

    Args:
        names: Names of the series.
        env: ID of an Atari environment.
        device: Device to compute on.
        turns: Number of turns of each point.
        seconds: Approximate length of a turn.
        keep: Called with the figures so far after each round of turns.
    """
    figures: dict[str, Any] = {"hardware": hardware(device), "device": device.type, "env": env}
    figures |= {"turns": turns, "seconds_of_turn": seconds, "series": []}
    done: list[dict[str, Any]] = figures["series"]
    for place, series in enumerate(each for name in names for each in series_of(name, usable_cores())):
        for measured in rounds(series, env, device, turns, seconds):
            done[place:] = [series_figures(measured)]
            keep(figures)
    return figures


def rounds(series: Series, env: str, device: torch.device, turns: int, seconds: float) -> Iterator[Measured]:
    """Measure the points of a series in turn, and yield what has been measured after each round.

    A point whose process ends, as without memory, is left out from then on.

    Args:
        series: The series.
        env, device, turns, seconds: See `growth`.
    """
    found = Measured(series, {}, {}, {})
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        connections: dict[int, Connection] = {}

        def ask(size: int, seconds: float | None = None) -> Any:
            """Return what a point sends next, or None if it can no longer be measured."""
            try:
                if seconds is not None:
                    connections[size].send(seconds)
                return receive(f"{size:,} {series.name}", connections[size])
            except (RuntimeError, BrokenPipeError, ConnectionResetError) as error:
                found.left_out[size] = str(error)
                return None

        for size, point in series.points.items():
            status.update(f"{series.algorithm}, {series.name}: {size:,} gets ready")
            connections[size] = stack.enter_context(process(serve, point, env, device.type))
            match ask(size):
                case Ready() as ready:
                    found.ready[size], found.runs[size] = ready, []
                case str() as reason:
                    found.left_out[size] = reason
        for turn in range(turns):
            for size in found.ready:
                status.update(f"{series.algorithm}, {series.name}, turn {turn + 1} of {turns}: {size:,}")
                taken = None if size in found.left_out else ask(size, seconds)
                if taken is not None:
                    found.runs[size].append(taken)
            yield found


def series_figures(measured: Measured) -> dict[str, Any]:
    """Return the figures of a series as JSON values."""
    sizes = [size for size, runs in measured.runs.items() if runs]
    points = [point_figures(measured, sizes[: place + 1]) for place in range(len(sizes))]
    return {
        "name": measured.series.name,
        "algorithm": measured.series.algorithm,
        "points": points,
        "left_out": {str(size): reason for size, reason in measured.left_out.items()},
    }


def point_figures(measured: Measured, sizes: Sequence[int]) -> dict[str, Any]:
    """Return the figures of the last of some points as JSON values.

    Growth is relative to the first of them; what grows faster than its work does so since any of them.
    """
    *before, size = sizes
    ready, runs = measured.ready[size], measured.runs[size]
    grown = time_growth(measured, size, sizes[0])
    speeds = [turn.steps / turn.seconds for turn in runs]
    memory, rest = peak_and_rest(ready, runs)
    faster_since = {other: min(time_growth(measured, size, other)) for other in before}
    memory_since = {other: memory_growth(measured, size, other) for other in before}
    figures = {
        "size": size,
        "settings": asdict(measured.series.points[size]),
        "threads": ready.threads,
        "steps_per_second": median(speeds),
        "runs": speeds,
        "updates_per_second": median(turn.updates / turn.seconds for turn in runs),
        "steps": sum(turn.steps for turn in runs),
        "updates": sum(turn.updates for turn in runs),
        "seconds": sum(turn.seconds for turn in runs),
        "work_per_step": ready.work._asdict(),
        "relative_work": relative_work(ready.work, measured.ready[sizes[0]].work),
        "growth": median(grown),
        "growth_runs": grown,
        "faster_since": {str(other): found for other, found in faster_since.items() if found > TOLERANCE},
        "peak_memory_mib": memory,
        "store_mib": ready.store_mib,
        "environments_mib": ready.environments_mib,
        "rest_mib": rest,
        "memory_growth": memory_growth(measured, size, sizes[0]),
        "memory_faster_since": {str(other): found for other, found in memory_since.items() if found > TOLERANCE},
    }
    on_device = [turn.peak_device_memory_mib for turn in runs if turn.peak_device_memory_mib is not None]
    return figures | ({"peak_device_memory_mib": max(on_device)} if on_device else {})


def time_growth(measured: Measured, size: int, other: int) -> list[float]:
    """Return by how much more than the work the time of a step has grown from another point, turn by turn."""
    work = relative_work(measured.ready[size].work, measured.ready[other].work)
    pairs = zip(measured.runs[size], measured.runs[other], strict=False)  # an interrupted round has fewer turns of one
    return [turn.seconds / turn.steps / (before.seconds / before.steps) / work for turn, before in pairs]


def memory_growth(measured: Measured, size: int, other: int) -> float:
    """Return by how much more than what it touches the memory has grown from another point.

    Of the memory the store and the environments do not count, and of what is touched an update and a choice of actions.
    """
    (_, now), (_, before) = (peak_and_rest(measured.ready[each], measured.runs[each]) for each in (size, other))
    touched = measured.ready[size].live_gigabytes / measured.ready[other].live_gigabytes
    return now / before / max(1.0, touched)


def relative_work(work: StepWork, other: StepWork) -> float:
    """Return the work of a step relative to that at another point: that of the kind of work which grows most.

    One kind is the step itself, with its emulation, so the result is never less than 1.
    """
    return max(1.0, *(now / before for now, before in zip(work, other, strict=True)))


def peak_and_rest(ready: Ready, runs: Sequence[Turn]) -> tuple[float, float]:
    """Return the peak memory of a process in MiB, and what of it is neither the store nor the environments."""
    peak = max(turn.peak_memory_mib for turn in runs)
    return peak, peak - ready.store_mib - ready.environments_mib


def faster(figures: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each place where time or memory grows faster than the work."""
    sentences = []
    for series in figures["series"]:
        for key, what in (("faster_since", "time"), ("memory_faster_since", "memory")):
            for point in series["points"]:
                for size, times in list(point[key].items())[-1:]:  # since the nearest of them
                    span = f"from {int(size):,} to {point['size']:,}"
                    sentences.append(
                        f"{series['algorithm']}, {series['name']}: {what} grows faster than the work {span}, "
                        f"{times:.2f} times as much"
                    )
    return sentences
