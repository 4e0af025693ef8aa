"""Games of the Atari benchmark, its smaller suites, and the reference scores for normalising results.

Games are named after their ROM, as in `ms_pacman`; `pixelq.envs.id_of` returns the environment id.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium


class ReferenceScore(NamedTuple):
    """Mean game scores over episodes that start with 1 to 30 no-ops and last at most 30 minutes."""

    random: float
    """Score of a uniformly random policy."""
    human: float
    """Score of a professional games tester."""


REFERENCE_SCORES: dict[str, ReferenceScore] = {
    # Wang et al. 2016, "Dueling Network Architectures for Deep Reinforcement Learning", no-op starts;
    # read from DQN Zoo's atari_data.py (Quan and Ostrovski 2020).
    "alien": ReferenceScore(227.8, 7127.7),
    "amidar": ReferenceScore(5.8, 1719.5),
    "assault": ReferenceScore(222.4, 742.0),
    "asterix": ReferenceScore(210.0, 8503.3),
    "asteroids": ReferenceScore(719.1, 47388.7),
    "atlantis": ReferenceScore(12850.0, 29028.1),
    "bank_heist": ReferenceScore(14.2, 753.1),
    "battle_zone": ReferenceScore(2360.0, 37187.5),
    "beam_rider": ReferenceScore(363.9, 16926.5),
    "berzerk": ReferenceScore(123.7, 2630.4),
    "bowling": ReferenceScore(23.1, 160.7),
    "boxing": ReferenceScore(0.1, 12.1),
    "breakout": ReferenceScore(1.7, 30.5),
    "centipede": ReferenceScore(2090.9, 12017.0),
    "chopper_command": ReferenceScore(811.0, 7387.8),
    "crazy_climber": ReferenceScore(10780.5, 35829.4),
    "defender": ReferenceScore(2874.5, 18688.9),
    "demon_attack": ReferenceScore(152.1, 1971.0),
    "double_dunk": ReferenceScore(-18.6, -16.4),
    "enduro": ReferenceScore(0.0, 860.5),
    "fishing_derby": ReferenceScore(-91.7, -38.7),
    "freeway": ReferenceScore(0.0, 29.6),
    "frostbite": ReferenceScore(65.2, 4334.7),
    "gopher": ReferenceScore(257.6, 2412.5),
    "gravitar": ReferenceScore(173.0, 3351.4),
    "hero": ReferenceScore(1027.0, 30826.4),
    "ice_hockey": ReferenceScore(-11.2, 0.9),
    "jamesbond": ReferenceScore(29.0, 302.8),
    "kangaroo": ReferenceScore(52.0, 3035.0),
    "krull": ReferenceScore(1598.0, 2665.5),
    "kung_fu_master": ReferenceScore(258.5, 22736.3),
    "montezuma_revenge": ReferenceScore(0.0, 4753.3),
    "ms_pacman": ReferenceScore(307.3, 6951.6),
    "name_this_game": ReferenceScore(2292.3, 8049.0),
    "phoenix": ReferenceScore(761.4, 7242.6),
    "pitfall": ReferenceScore(-229.4, 6463.7),
    "pong": ReferenceScore(-20.7, 14.6),
    "private_eye": ReferenceScore(24.9, 69571.3),
    "qbert": ReferenceScore(163.9, 13455.0),
    "riverraid": ReferenceScore(1338.5, 17118.0),
    "road_runner": ReferenceScore(11.5, 7845.0),
    "robotank": ReferenceScore(2.2, 11.9),
    "seaquest": ReferenceScore(68.4, 42054.7),
    "skiing": ReferenceScore(-17098.1, -4336.9),
    "solaris": ReferenceScore(1236.3, 12326.7),
    "space_invaders": ReferenceScore(148.0, 1668.7),
    "star_gunner": ReferenceScore(664.0, 10250.0),
    "surround": ReferenceScore(-10.0, 6.5),
    "tennis": ReferenceScore(-23.8, -8.3),
    "time_pilot": ReferenceScore(3568.0, 5229.2),
    "tutankham": ReferenceScore(11.4, 167.6),
    "up_n_down": ReferenceScore(533.4, 11693.2),
    "venture": ReferenceScore(0.0, 1187.5),
    "video_pinball": ReferenceScore(16256.9, 17667.9),
    "wizard_of_wor": ReferenceScore(563.5, 4756.5),
    "yars_revenge": ReferenceScore(3092.9, 54576.9),
    "zaxxon": ReferenceScore(32.5, 9173.3),
}
"""Random and human scores of the 57 games by ROM name."""

ATARI57: tuple[str, ...] = tuple(REFERENCE_SCORES)
"""Games of the full benchmark."""

ATARI26: tuple[str, ...] = (
    "alien",
    "amidar",
    "assault",
    "asterix",
    "bank_heist",
    "battle_zone",
    "boxing",
    "breakout",
    "chopper_command",
    "crazy_climber",
    "demon_attack",
    "freeway",
    "frostbite",
    "gopher",
    "hero",
    "jamesbond",
    "kangaroo",
    "krull",
    "kung_fu_master",
    "ms_pacman",
    "pong",
    "private_eye",
    "qbert",
    "road_runner",
    "seaquest",
    "up_n_down",
)
"""Games of the 100k benchmark (Kaiser et al. 2020, "Model Based Reinforcement Learning for Atari")."""

ATARI5: tuple[str, ...] = ("battle_zone", "double_dunk", "name_this_game", "phoenix", "qbert")
"""Games whose scores predict the median over all 57 (Aitchison et al. 2023, "Atari-5")."""


_CHANGING = frozenset({"env_kwargs", "wrappers"})
"""Arguments of `make_vec` with which scores are not comparable with published ones."""


def published_id(env_id: str, arguments: Mapping[str, Any]) -> str:
    """Return the id by which published numbers are found; empty if environments are made in another way than theirs.

    Another mode, difficulty or kind of observation, or a wrapper, makes a game of its own. The size of frames does not,
    like their number in a stack: they are of the same game, whatever an agent makes of them.

    Args:
        env_id: Id of the environments.
        arguments: Arguments of `make_vec` that differ from their defaults.
    """
    return "" if _CHANGING & arguments.keys() else env_id


def game_of(env_id_or_game: str) -> str:
    """Return the ROM name of an Atari environment id; any other string is returned unchanged."""
    spec = gymnasium.registry.get(env_id_or_game)
    if spec is None or not str(spec.entry_point).startswith("ale_py"):  # MinAtar's are registered with names, too
        return env_id_or_game
    return str(spec.kwargs.get("game", env_id_or_game))


def reference_score(env_id_or_game: str) -> ReferenceScore | None:
    """Return the random and human scores of an environment id or a ROM name, or None for a game without them."""
    return REFERENCE_SCORES.get(game_of(env_id_or_game))


def human_normalized_score(env_id_or_game: str, score: float) -> float | None:
    """Return a score on the scale where random play has 0 and the human 1, or None for a game without references."""
    reference = reference_score(env_id_or_game)
    return (score - reference.random) / (reference.human - reference.random) if reference else None
