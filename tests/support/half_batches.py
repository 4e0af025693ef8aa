"""One of two learners: both learn from halves of batches, and the first compares with one that has whole batches.

It prints, for each kind of batch, how far the first gradient and the weights after 100 updates are from that learner's;
after 10 updates for all kinds but the first, which take longer.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pixelq.agents import AgentConfig, Batch, Ranks
from pixelq.agents.acting.network import make_network
from pixelq.agents.experience.batches import Segment, Sequences
from pixelq.agents.experience.rollout import Minibatch
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.rollout_learner import RolloutLearner
from pixelq.networks import LastStep

SIZE, ACTIONS = 8, 3
SMALL = AgentConfig(encoder="mlp", hidden=16, batch_size=SIZE, max_grad_norm=0.5, learning_rate=1e-3)
CONFIGS: dict[str, AgentConfig] = {
    "scalar": SMALL,
    "noisy categorical": AgentConfig(
        encoder="mlp", hidden=16, batch_size=SIZE, head="categorical", noisy=True, double=True, max_grad_norm=0.5
    ),
    "memory": AgentConfig(
        encoder="mlp", hidden=16, batch_size=SIZE, lstm=6, sequence_length=5, sequence_period=3, burn_in=2
    ),
    "pqn": AgentConfig.from_dict({"algorithm": "pqn", "encoder": "mlp", "hidden": 16, "learning_rate": 1e-3}),
}


def transitions(generator: torch.Generator) -> tuple[Any, Any]:
    """Returns a batch, and a function that takes some rows of it."""
    obs, next_obs = (torch.randn(SIZE, 4, generator=generator) for _ in range(2))
    reward, weight = torch.randn(SIZE, generator=generator), torch.rand(SIZE, generator=generator) + 0.1
    action = torch.randint(ACTIONS, (SIZE,), generator=generator)
    discount = 0.97 * (torch.rand(SIZE, generator=generator) < 0.8)
    batch = Batch(obs, action, reward, discount, next_obs, weight)
    return batch, lambda rows: Batch(*(None if field is None else field[rows] for field in batch))


def sequences(generator: torch.Generator) -> tuple[Any, Any]:
    """Returns sequences, of which some have fewer steps, and a function that takes some of them."""
    length, burn_in, width = 5, 2, 6
    obs = torch.randn(width, SIZE, 4, generator=generator)
    state = tuple(torch.randn(SIZE, 6, generator=generator) for _ in range(2))
    start = torch.rand(width, SIZE, generator=generator) < 0.3
    last = LastStep(torch.zeros(width, SIZE, dtype=torch.int64), torch.zeros(width, SIZE))
    learned = length - burn_in
    action = torch.randint(ACTIONS, (learned, SIZE), generator=generator)
    reward = torch.randn(learned, SIZE, generator=generator)
    is_step, weight = ~start[burn_in + 1 :], torch.rand(SIZE, generator=generator) + 0.1
    next_step = torch.arange(1, learned + 1)[:, None].expand(-1, SIZE)

    def of(rows: Tensor) -> Sequences:
        segment = Segment(
            obs[:, rows],
            (state[0][rows], state[1][rows]),
            start[:, rows],
            LastStep(last.action[:, rows], last.reward[:, rows]),
        )
        flat = [each[:, rows].flatten() for each in (action, reward)]
        discount = torch.full_like(flat[1], 0.97)
        return Sequences(segment, burn_in, *flat, discount, next_step[:, rows], is_step[:, rows], weight[rows])

    return of(torch.arange(SIZE)), of


def minibatches(generator: torch.Generator) -> tuple[Any, Any]:
    """Returns a minibatch in which some rows have no step, and a function that takes some of them."""
    batch = Minibatch(
        torch.randn(SIZE, 4, generator=generator),
        torch.randint(ACTIONS, (SIZE,), generator=generator),
        torch.randn(SIZE, generator=generator),
        torch.rand(SIZE, generator=generator) < 0.6,
    )
    return batch, lambda rows: Minibatch(*(field[rows] for field in batch))  # type: ignore[arg-type]


def batches(name: str, config: AgentConfig) -> Iterator[tuple[Any, Any]]:
    draw = {"memory": sequences, "pqn": minibatches}.get(name, transitions)
    generator = torch.Generator().manual_seed(3)
    for _ in range(100 if name == "scalar" else 10):
        yield draw(generator)


@torch.no_grad()
def difference(one: Any, other: Any) -> float:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def gradient_difference(one: Any, other: Any) -> float:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return max(float((a.grad - b.grad).abs().max()) for a, b in pairs if a.grad is not None)


def main() -> None:
    ranks = Ranks.join("cpu")
    assert ranks is not None
    found = {}
    with ranks.reporting():
        for name, config in CONFIGS.items():
            kind: Any = RolloutLearner if name == "pqn" else Learner
            whole = kind(make_network((4,), ACTIONS, config, 0, is_pixels=False), config, 7)
            half, begun = copy.deepcopy(whole), copy.deepcopy(whole)
            half.reduce = ranks.sum
            first, losses = None, [0.0]
            for batch, of in batches(name, config):
                mine = half.update(of(torch.arange(SIZE)[ranks.rank :: ranks.size]))
                if ranks.rank == 0:
                    alone = whole.update(batch)
                    losses.append(float((mine.loss - alone.loss).abs() + (mine.q_mean - alone.q_mean).abs()))
                    first = gradient_difference(half, whole) if first is None else first
            weights = torch.cat([weight.detach().flatten() for weight in half.network.parameters()])
            apart = float((ranks.least(-weights) + ranks.least(weights)).abs().max())
            figures = {"gradient": first, "weights": difference(half, whole), "moved": difference(half, begun)}
            found[name] = figures | {"loss": max(losses), "apart": apart}
    if ranks.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
