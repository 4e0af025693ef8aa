"""The launcher `ray`: tasks on a Ray cluster whose machines share the sweep's folder."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pixelq.agents.distributed.needs import Need
from pixelq.agents.distributed.process import Job, Outcome, run_cell
from pixelq.agents.distributed.ray_address import check_answers, connect
from pixelq.agents.errors import MissingExtra, RunFailed, UserError, how_to_install, one_line

LOST = 10
"""Times that a task is started anew because its machine or its process was lost; Ray counts them."""


class RayLauncher:
    """Runs cells as tasks of Ray, which starts them anew on another machine when theirs is lost.

    Args:
        jobs: The cells that may come.
        needs: What each needs, by name.
        most: Most cells at once; None for as many as the cluster has room for.
        cpus: Cores of a cell.
        gpu_share: Share of a GPU of a cell; None for a whole one where the cluster has some and cells may use them.
        address: Address of the cluster; None for the one that Ray finds, or else a new one on this machine.

    Raises:
        MissingExtra: If Ray is not installed.
        UserError: If the address does not answer, or no machine of the cluster has what a cell needs.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        needs: Mapping[str, Need],
        most: int | None,
        cpus: int,
        gpu_share: float | None,
        address: str | None,
    ) -> None:
        self.ray = _connected(address)
        self.most, self.cpus, self.gpu_share = most, cpus, gpu_share
        self.needs, self.gpus = dict[str, Need](), dict[str, float]()
        self.refs: dict[Any, str] = {}
        try:
            self.has_gpus = bool(self.ray.cluster_resources().get("GPU")) and gpu_share != 0
            self.expect(jobs, needs)
        except BaseException:
            self.ray.shutdown()
            raise

    def expect(self, jobs: Sequence[Job], needs: Mapping[str, Need]) -> None:
        """Check that some more cells can run.

        Raises:
            UserError: If no machine of the cluster has what one needs.
        """
        self.needs |= needs
        for job in jobs:
            uses_gpu = self.has_gpus and job.cell.flags.device != "cpu"
            self.gpus[job.cell.name] = (self.gpu_share or 1.0) if uses_gpu else 0.0
            self._check_fits(job)

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Hand cells to Ray, all of them unless there is a limit, and return them."""
        taken = list(jobs if self.most is None else jobs[: max(0, self.most - len(self.refs))])
        for job in taken:
            options = self._resources(job) | {"max_retries": LOST, "name": job.cell.name}
            ref = self.ray.remote(run_cell).options(**options).remote(dataclasses.replace(job, threads=self.cpus))
            self.refs[ref] = job.cell.name
        return taken

    def ended(self) -> list[tuple[str, Outcome]]:
        """Return the cells that have ended since this was asked last, and how."""
        if not self.refs:
            return []
        ready, _ = self.ray.wait(list(self.refs), num_returns=len(self.refs), timeout=0)
        return [(self.refs.pop(ref), self._outcome(ref)) for ref in ready]

    def stop(self) -> None:
        """Ask all cells to stop with a checkpoint, and wait for them."""
        waiting = list(self.refs)
        self.refs.clear()  # so that a second signal does not wait for them again
        for ref in waiting:
            self.ray.cancel(ref)
        while waiting:  # a second signal is heeded in between
            _, waiting = self.ray.wait(waiting, num_returns=len(waiting), timeout=0.2)

    def close(self) -> None:
        """Stop what still runs, and leave the cluster."""
        self.stop()
        self.ray.shutdown()

    def _outcome(self, ref: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(ref)
        except (self.ray.exceptions.RayError, OSError) as error:
            return Outcome(1, one_line(error))
        return outcome

    def _resources(self, job: Job) -> dict[str, Any]:
        need, gpus = self.needs[job.cell.name], self.gpus[job.cell.name]
        return {"num_cpus": self.cpus, "num_gpus": gpus, "memory": need.process + (0 if gpus else need.learning)}

    def _check_fits(self, job: Job) -> None:
        """Check that some machine has what a cell needs, for which Ray would wait for ever."""
        wanted = self._resources(job)
        amounts = {"CPU": wanted["num_cpus"], "GPU": wanted["num_gpus"], "memory": wanted["memory"]}
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(all(amount <= machine.get(name, 0) for name, amount in amounts.items()) for machine in machines):
            return
        gpus = f", {amounts['GPU']:g} GPUs" if amounts["GPU"] else ""
        raise UserError(
            f"no machine of the Ray cluster has what {job.cell.name} needs: {amounts['CPU']} cores{gpus} and "
            f"{amounts['memory'] / 1e9:.1f} GB of memory; add one, or lower replay_capacity or `cpus`"
        )


def _connected(address: str | None) -> Any:
    """Return Ray, connected to a cluster.

    Raises:
        MissingExtra: If Ray is not installed.
        UserError: If the address does not answer.
        RunFailed: If Ray cannot be started.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra(f"`launcher=ray` needs Ray: {how_to_install('ray')}") from error
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    else:
        check_answers(address, takes_clients=True)
    try:
        connect(ray, address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except Exception as error:  # of many kinds
        if address is None:
            raise RunFailed(f"Ray cannot be started: {one_line(error)}") from error
        raise UserError(f"no Ray cluster at `ray_address` {address}: {one_line(error)}") from error
    return ray
