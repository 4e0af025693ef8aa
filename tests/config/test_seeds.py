"""Seeds that are derived from an agent's: no two processes, and no two parts of a training, have the same."""

from pixelq.agents.config.seeds import actor_seed, learner_seed


def test_learners_and_actors_have_seeds_of_their_own() -> None:
    seeds = [learner_seed(3, rank) for rank in range(1, 6)]
    seeds += [actor_seed(3, k, starts, step) for k in range(3) for starts in range(3) for step in (0, 100)]
    assert len(set(seeds)) == len(seeds) == 23
