"""Seeds of games, so that those played for one purpose are not played for another."""

from __future__ import annotations

from typing import Literal

import numpy as np

PURPOSES = ("training", "resumed training", "choice of the best", "evaluation")
Purpose = Literal["resumed training", "choice of the best", "evaluation"]


def derived_seed(seed: int, purpose: Purpose, part: int = 0) -> int:
    """A seed for another purpose than training, which takes ``seed`` itself; ``part`` tells several apart."""
    return int(np.random.SeedSequence([seed, PURPOSES.index(purpose), part]).generate_state(1, np.uint32)[0])
