"""Where actors run: what is asked of an engine, and Ray as one."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any, Protocol, cast

from pixelq.agents.distributed.actor import Actor, Plan, Weights
from pixelq.agents.distributed.block import Block
from pixelq.agents.distributed.ray_address import check_answers, connect
from pixelq.agents.errors import ActorLost, MissingExtra, RunFailed, UserError, how_to_install, one_line
from pixelq.envs import EnvironmentFailed, InvalidEnv

LEAST_STORE = 80 * 2**20
"""Bytes of the smallest object store that Ray accepts, and some."""

Handle = Any
"""An actor, as its engine knows it."""
Ref = Any
"""A result that may not be there yet."""


class Engine(Protocol):
    """Starts actors and calls their methods."""

    def start(self, plan: Plan) -> Handle:
        """Start an actor, and return at once."""

    def put(self, weights: Weights) -> Ref:
        """Keep a version of the policy for all actors."""

    def begin(self, actor: Handle, weights: Ref, step: int) -> Ref:
        """Call `Actor.begin`, and return at once."""

    def play(self, actor: Handle, weights: Ref, step: int, time: int) -> Ref:
        """Call `Actor.play`, and return at once; calls of an actor are run one after another."""

    def ready(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        """Return the results that are there, or have failed, when all are or the time in seconds is over."""

    def get(self, ref: Ref) -> Block:
        """Return a result that is there.

        Raises:
            ActorLost: If its actor is gone.
            RunFailed, UserError, InvalidEnv, EnvironmentFailed: What the actor raised.
        """

    def stop(self, actor: Handle) -> None:
        """End an actor at once."""

    def close(self) -> None:
        """Leave the cluster."""


class RayEngine:
    """Actors on a Ray cluster, or on one that is started on this machine and ends with this process.

    Args:
        address: `HOST:PORT` of a cluster's head, or `auto` for the one that this machine is part of; None starts one.
        actors: Number of actors.
        gpus: GPUs of each actor, or a fraction of one.
        bytes_in_flight: Bytes of the blocks and weights that are kept at a time.

    Raises:
        MissingExtra: If Ray is not installed.
        UserError: If no cluster answers at the address, or it is too small for the actors.
    """

    def __init__(self, address: str | None, actors: int, gpus: float, bytes_in_flight: int) -> None:
        try:
            import ray
            import ray.exceptions
        except ImportError as error:
            raise MissingExtra(f"actors run on Ray, which is not installed: {how_to_install('ray')}") from error
        self.ray, self._is_own = ray, not ray.is_initialized()
        if self._is_own:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address is None:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                os.environ.setdefault("RAY_worker_niceness", "0")  # actors work as the learner does; Ray's own is 15
                store = max(LEAST_STORE, 2 * bytes_in_flight)
                sizes = {"num_cpus": actors, "num_gpus": math.ceil(actors * gpus), "object_store_memory": store}
                self._connect("local", include_dashboard=False, **sizes, **quiet)
            else:
                check_answers(address)
                self._connect(address, **quiet)
        try:
            self._check_size(actors, gpus)
        except BaseException:
            self.close()
            raise
        self._class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Actor)

    def _connect(self, address: str, **options: Any) -> None:
        try:
            connect(self.ray, address, **options)
        except Exception as error:  # of many kinds
            where = "on this machine" if address == "local" else f"at {address}"
            raise UserError(f"Ray cannot be used {where}: {one_line(error)}") from error

    def _check_size(self, actors: int, gpus: float) -> None:
        """Check that the actors fit into the cluster.

        Raises:
            UserError: If they do not.
        """
        there = self.ray.cluster_resources()  # type: ignore[no-untyped-call]
        for name, needed in (("CPU", float(actors)), ("GPU", actors * gpus)):
            if there.get(name, 0.0) < needed:
                raise UserError(
                    f"`actors` must fit into the Ray cluster, which has {there.get(name, 0.0):g} {name}s, "
                    f"but {actors} need {needed:g}"
                )

    def start(self, plan: Plan) -> Handle:
        """See `Engine`."""
        return self._class.remote(plan)

    def put(self, weights: Weights) -> Ref:
        """See `Engine`."""
        return self.ray.put(weights)

    def begin(self, actor: Handle, weights: Ref, step: int) -> Ref:
        """See `Engine`."""
        return actor.begin.remote(weights, step)

    def play(self, actor: Handle, weights: Ref, step: int, time: int) -> Ref:
        """See `Engine`."""
        return actor.play.remote(weights, step, time)

    def ready(self, refs: Sequence[Ref], timeout: float) -> list[Ref]:
        """See `Engine`."""
        there, _ = self.ray.wait(list(refs), num_returns=len(refs), timeout=timeout)
        return list(there)

    def get(self, ref: Ref) -> Block:
        """See `Engine`."""
        try:
            block = cast(Block, self.ray.get(ref))
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RunFailed | UserError | InvalidEnv | EnvironmentFailed):
                raise cause from None
            raise RunFailed(f"an actor failed: {type(cause).__name__}: {one_line(cause)}") from error
        except self.ray.exceptions.RayError as error:  # of the actor, its node or the object
            raise ActorLost(type(error).__name__) from error
        return block

    def stop(self, actor: Handle) -> None:
        """See `Engine`."""
        if self.ray.is_initialized():
            self.ray.kill(actor)

    def close(self) -> None:
        """See `Engine`."""
        if self._is_own and self.ray.is_initialized():
            self.ray.shutdown()
