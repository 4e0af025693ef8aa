"""The map of a policy's states: its last hidden layer in two dimensions, where like states lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import MissingExtra
from pixelq.agents.insight.activations import in_batches, last_hidden

PERPLEXITY = 30.0
LEAST_STATES = 4
SEED = 0  # of where it starts when the principal components are no start


@dataclass(frozen=True)
class StateMap:
    """N states on a plane."""

    positions: NDArray[np.float32]
    """[N, 2]; only what lies near what has a meaning, neither axes nor units."""
    values: NDArray[np.float32]
    """[N], max over actions of the q-values."""
    representatives: NDArray[np.int64]
    """[K], indices of states that lie far apart on the plane, for thumbnails."""


def map_states(
    policy: Policy, obs: NDArray[Any], memories: Sequence[Memory] | None = None, *, thumbnails: int = 16
) -> StateMap:
    """The map of observations [N, *observation], as Mnih et al. (2015), figure 4, have it; see ``embed``.

    Args:
        policy: whose last hidden layer and values are shown.
        obs: such as ``states_of`` gives; a thousand take some seconds.
        memories: [N], as ``states_of`` gives them too; see ``last_hidden``.
        thumbnails: K, at most; fewer where there are fewer states.

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: there are fewer than 4 observations, or they do not fit the observation space.
    """
    positions = embed(last_hidden(policy, obs, memories))
    q = torch.cat([policy.q_values(*batch) for batch in in_batches(obs, memories)])  # [N, A]
    values = q.amax(1).cpu().numpy()
    return StateMap(positions, values, spread(positions, thumbnails))


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """t-SNE of features [N, D] to positions [N, 2] (van der Maaten & Hinton 2008), by scikit-learn.

    Perplexity is 30, or a third of N − 1 if that is less; it starts from the principal components. It runs in one
    thread, as the sums of several have no fixed order: on one machine the same features give the same positions.

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: there are fewer than 4 rows.
    """
    if len(features) < LEAST_STATES:
        raise ValueError(f"a map needs at least {LEAST_STATES} states, but there are {len(features)}")
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("the map of states needs scikit-learn: pip install 'pixelq[report]'") from error
    with threadpool_limits(1):
        # Principal components are no start where there is but one, or where the states do not differ.
        is_flat = np.linalg.matrix_rank(features - features.mean(0)) < 2
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
            init="random" if is_flat else "pca",
            learning_rate="auto",
            random_state=SEED,
        )
        return np.asarray(tsne.fit_transform(features), np.float32)


def spread(positions: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Indices of at most ``count`` of the positions [N, 2], far apart: each next is the farthest from those before.

    The first is nearest to the mean (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance").
    No position lies farther from all chosen ones than these lie from each other. Where positions coincide, there are
    only as many as differ.
    """
    nearest = np.full(len(positions), np.inf)  # [N], distance to the chosen ones
    farthest = int(np.linalg.norm(positions - positions.mean(0), axis=1).argmin())
    chosen: list[int] = []
    while len(chosen) < count and nearest[farthest] > 0:
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.linalg.norm(positions - positions[farthest], axis=1))
        farthest = int(nearest.argmax())
    return np.array(chosen, np.int64)
