"""An engine that runs actors in this process, when their results are asked for, and lets them die."""

from collections.abc import Callable, Sequence
from typing import Any

from pixelq.agents.distributed.actor import Actor, Plan, Weights
from pixelq.agents.distributed.actor_envs import ActorEnvs
from pixelq.agents.distributed.block import Block
from pixelq.agents.distributed.engine import Engine
from pixelq.agents.errors import ActorLost


class Call:
    """A call of an actor's method, which is run with those before it."""

    def __init__(self, engine: "DirectEngine", actor: "Direct", run: Callable[[], Block]) -> None:
        self.engine, self.actor, self.run = engine, actor, run
        self.result: Block | ActorLost | None = None


class Direct:
    """An actor and its calls that have not been run."""

    def __init__(self, plan: Plan) -> None:
        self.actor, self.is_dead = Actor(plan), False
        self.waiting: list[Call] = []


class DirectEngine:
    """Runs each call when it is asked for; `dies` is asked before each, with the number of calls run so far."""

    def __init__(self, dies: Callable[[int], bool] = lambda call: False) -> None:
        self.dies, self.calls = dies, 0
        self.actors: list[Direct] = []

    def start(self, plan: Plan) -> Direct:
        self.actors.append(Direct(plan))
        return self.actors[-1]

    def put(self, weights: Weights) -> Weights:
        return weights

    def _call(self, actor: Direct, run: Callable[[], Block]) -> Call:
        actor.waiting.append(Call(self, actor, run))
        return actor.waiting[-1]

    def begin(self, actor: Direct, weights: Any, step: int) -> Call:
        return self._call(actor, lambda: actor.actor.begin(weights, step))

    def play(self, actor: Direct, weights: Any, step: int, time: int) -> Call:
        return self._call(actor, lambda: actor.actor.play(weights, step, time))

    def ready(self, refs: Sequence[Call], timeout: float) -> list[Call]:
        return list(refs)

    def get(self, ref: Call) -> Block:
        while ref.result is None:
            call = ref.actor.waiting.pop(0)
            self.calls += 1
            ref.actor.is_dead |= self.dies(self.calls)
            call.result = ActorLost("died") if ref.actor.is_dead else call.run()
        if isinstance(ref.result, ActorLost):
            raise ref.result
        return ref.result

    def stop(self, actor: Direct) -> None:
        actor.is_dead = True

    def close(self) -> None:
        pass


class DirectEnvs(ActorEnvs):
    """Environments whose actors are in this process."""

    def __init__(self, *args: Any, engine: Engine | None = None, **kwargs: Any) -> None:
        self._given = engine or DirectEngine()
        super().__init__(*args, **kwargs)

    def _make_engine(self, address: str | None) -> Engine:
        return self._given
