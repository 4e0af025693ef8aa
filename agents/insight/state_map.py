"""Map of a policy's states: t-SNE of its last hidden layer, which places similar states next to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import MissingExtra, how_to_install
from pixelq.agents.insight.activations import in_batches, last_hidden

PERPLEXITY = 30.0
"""Perplexity of t-SNE where there are enough states."""
LEAST_STATES = 4
"""Fewest states of a map."""
SEED = 0
"""Seed of the random start, which is used where principal components cannot serve."""


@dataclass(frozen=True)
class StateMap:
    """N states in the plane."""

    positions: NDArray[np.float32]
    """[N, 2]. Only which states are close to each other has a meaning; axes and units have none."""
    values: NDArray[np.float32]
    """[N], the greatest q-value of each state, of all actions: which are allowed is not known here."""
    representatives: NDArray[np.int64]
    """[K], indices of states that are far apart in the plane, for thumbnails."""


def map_states(
    policy: Policy, obs: NDArray[Any], memories: Sequence[Memory] | None = None, *, thumbnails: int = 16
) -> StateMap:
    """Return the map of observations, as in figure 4 of Mnih et al. (2015); see `embed`.

    Args:
        policy: The policy whose last hidden layer and values are shown.
        obs: Observations [N, *observation], as `states_of` returns them. A thousand take a few seconds.
        memories: LSTM states [N], as `states_of` returns them; see `last_hidden`.
        thumbnails: Greatest K.

    Raises:
        MissingExtra: If scikit-learn is not installed.
        ValueError: If there are fewer than 4 observations, or they do not fit the observation space.
    """
    positions = embed(last_hidden(policy, obs, memories))
    q = torch.cat([policy.q_values(*batch) for batch in in_batches(obs, memories)])  # [N, A]
    values = q.amax(1).cpu().numpy()
    return StateMap(positions, values, spread(positions, thumbnails))


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the positions [N, 2] that t-SNE (van der Maaten & Hinton 2008) gives to features [N, D].

    The perplexity is 30, or (N − 1) / 3 if that is less. t-SNE starts from the principal components. It runs in one
    thread, as sums over several have no fixed order; so on one machine the same features give the same positions.

    Raises:
        MissingExtra: If scikit-learn is not installed.
        ValueError: If there are fewer than 4 rows.
    """
    if len(features) < LEAST_STATES:
        raise ValueError(f"a map needs at least {LEAST_STATES} states, got {len(features)}")
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra(f"the map of states needs scikit-learn: {how_to_install('report')}") from error
    with threadpool_limits(1):
        # Two principal components exist only if the features vary in two directions.
        is_flat = np.linalg.matrix_rank(features - features.mean(0)) < 2
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
            init="random" if is_flat else "pca",
            learning_rate="auto",
            random_state=SEED,
        )
        return np.asarray(tsne.fit_transform(features), np.float32)


def spread(positions: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Return the indices of at most `count` positions that are far apart, out of positions [N, 2].

    The first is the one closest to the mean; each further one is the farthest from those already chosen (Gonzalez 1985,
    "Clustering to minimize the maximum intercluster distance"). So no position is farther from the chosen ones than
    these are from each other. Positions that coincide are chosen only once.
    """
    nearest = np.full(len(positions), np.inf)  # [N], distance to the nearest of the chosen positions
    farthest = int(np.linalg.norm(positions - positions.mean(0), axis=1).argmin())
    chosen: list[int] = []
    while len(chosen) < count and nearest[farthest] > 0:
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.linalg.norm(positions - positions[farthest], axis=1))
        farthest = int(nearest.argmax())
    return np.array(chosen, np.int64)
