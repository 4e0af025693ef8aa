"""Learning curves: averages of training episodes and of evaluations over seeds, and which runs are one agent's."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.agents import InvalidRun
from pixelq.agents.results.curves import (
    BINS,
    bin_means,
    curves_by_env,
    evaluation_curve,
    matched_evaluations,
    training_curve,
)
from pixelq.agents.results.records import read_groups
from tests.support.report_runs import STEPS, level, recurrent_and_plain_runs, write_run


def test_one_run_follows_its_rows(tmp_path: Path) -> None:
    (group,) = read_groups([write_run(tmp_path / "run", mean=10.0)])
    curve = training_curve(group.runs, "return_mean", "frames")
    # A row of 10,000 steps has its middle at 5,000, 15,000, …; a bin is 2 million frames / 120 wide.
    assert len(curve.x) == 50
    assert curve.seeds.tolist() == [1] * 50
    assert np.isnan(curve.std).all()
    middles = [4 * (10_000 * row + 5_000) for row in range(50)]
    np.testing.assert_allclose(curve.x, middles, atol=4 * STEPS / BINS / 2 + 1)
    np.testing.assert_allclose(curve.mean, [level(10.0, 10_000 * row + 5_000) for row in range(50)])


@pytest.mark.parametrize(("axis", "end"), [("frames", 2e6), ("step", 5e5), ("hours", 5e3 / 3600)])
def test_axes(tmp_path: Path, axis: str, end: float) -> None:
    (group,) = read_groups([write_run(tmp_path / "run")])
    curve = training_curve(group.runs, "loss", axis)
    assert curve.x[-1] == pytest.approx(0.99 * end, abs=end / BINS / 2)  # the middle of the last row
    evaluations = evaluation_curve(group.runs, axis)
    np.testing.assert_allclose(evaluations.x, [end / 5, 2 * end / 5, 3 * end / 5, 4 * end / 5, end])
    np.testing.assert_allclose(evaluations.mean, [4, 8, 12, 16, 20])


def test_the_band_is_the_deviation_over_seeds(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), seed=seed, mean=mean) for seed, mean in enumerate((5.0, 10.0, 15.0))]
    (group,) = read_groups(paths)
    curve = training_curve(group.runs, "return_mean", "frames")
    np.testing.assert_allclose(curve.mean, [level(10.0, 10_000 * row + 5_000) for row in range(50)])
    np.testing.assert_allclose(curve.std, curve.mean / 2)  # 5, 10 and 15 deviate by 5
    assert curve.seeds.tolist() == [3] * 50
    np.testing.assert_allclose(evaluation_curve(group.runs, "step").std, [2, 4, 6, 8, 10])
    np.testing.assert_allclose(curve.low, curve.mean / 2)
    np.testing.assert_allclose(curve.high, 1.5 * curve.mean)


def test_evaluations_of_seeds_that_differ_by_a_few_steps_are_put_together(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), seed=seed, mean=mean) for seed, mean in enumerate((5.0, 15.0))]
    for path in paths:  # environments of seed 1 reset more often; both were evaluated once more at their end
        table, late = path / "evaluations.csv", 6 * int(path.name)
        rows = [row.split(",", 1) for row in table.read_text().splitlines()[1:]]
        moved = [f"{int(step) + late},{rest}" for step, rest in [*rows, [str(STEPS + 1), rows[-1][1]]]]
        table.write_text("\n".join([table.read_text().splitlines()[0], *moved]) + "\n")
    (group,) = read_groups(paths)
    curve = evaluation_curve(group.runs, "step")
    assert curve.x.tolist() == [100_003, 200_003, 300_003, 400_003, 500_003, 500_004]
    np.testing.assert_allclose(curve.mean, [4, 8, 12, 16, 20, 20])
    assert curve.seeds.tolist() == [2] * 6


def test_a_seed_that_is_evaluated_more_often_stands_alone_between_the_others() -> None:
    often, seldom = np.arange(50.0, 301.0, 50.0), np.array([104.0, 203.0, 301.0])
    assert matched_evaluations([often, seldom]).tolist() == [[0, 1, 2, 3, 4, 5], [-1, 0, -1, 1, -1, 2]]
    assert matched_evaluations([np.zeros(0), np.zeros(0)]).shape == (2, 0)


def test_the_mean_does_not_leap_between_seeds_whose_rows_lie_apart(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), seed=seed, mean=mean) for seed, mean in enumerate((0.0, 10.0))]
    table = paths[1] / "metrics.csv"  # of a run that took a tenth longer: in hours its rows lie between the other's
    header, *rows = [line.split(",") for line in table.read_text().splitlines()]
    for row in rows:
        row[header.index("wall_seconds")] = f"{float(row[header.index('wall_seconds')]) * 1.1:.1f}"
    table.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    (group,) = read_groups(paths)
    curve = training_curve(group.runs, "return_mean", "hours")
    end = STEPS / 100 / 3600  # of the first run; the second goes on alone
    together = curve.x < 0.98 * end
    assert curve.seeds[together][3:].tolist() == [2] * (together.sum() - 3)
    np.testing.assert_allclose(curve.mean[together][3:], 10 / 1.1 * curve.x[together][3:] / end, atol=0.2)


def test_rows_count_by_their_episodes() -> None:
    x, y, weight = np.array([1.0, 2.0, 4.0]), np.array([6.0, 12.0, 5.0]), np.array([1.0, 3.0, 2.0])
    np.testing.assert_allclose(bin_means(x, y, weight, np.array([0.0, 2.0, 4.0])), [10.5, 5.0])


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(-9, 9) | st.just(np.nan), st.integers(0, 3)), max_size=30),
    st.integers(1, 7),
)
def test_bins_keep_the_sum(rows: list[tuple[float, float, int]], bins: int) -> None:
    widths, y, weight = (np.array(column, float) for column in (zip(*rows, strict=True) if rows else ([], [], [])))
    ends = widths.cumsum()
    edges = np.linspace(0, ends[-1] if len(ends) else 1.0, bins + 1)
    found = bin_means(ends, y, weight, edges)
    middles = ends - widths / 2
    for b in range(bins):
        members = [
            i
            for i, middle in enumerate(middles)
            if (edges[b] <= middle < edges[b + 1] or (b == bins - 1 and middle >= edges[-1]))
            and weight[i] > 0
            and np.isfinite(y[i])
        ]
        total = sum(weight[i] for i in members)
        if not members:
            assert np.isnan(found[b])
        else:
            assert found[b] == pytest.approx(sum(weight[i] * y[i] for i in members) / total, abs=1e-6)


def test_curves_are_agents_over_their_seeds(tmp_path: Path) -> None:
    panels = curves_by_env(recurrent_and_plain_runs(tmp_path))
    assert list(panels) == ["CartPole-v1", "pixelq/TMaze-v0"]
    for with_lstm, without in panels.values():
        assert (with_lstm.name, with_lstm.seeds) == ("lstm 128", 2)
        assert (without.name, without.seeds) == ("lstm None", 1)
        assert with_lstm.curve.x.tolist() == [100_000, 200_000, 300_000, 400_000, 500_000]
        assert with_lstm.curve.seeds.tolist() == [2] * 5
        np.testing.assert_allclose(with_lstm.curve.low, np.arange(1, 6) * 2 * 4.0 / 5)
        np.testing.assert_allclose(with_lstm.curve.high, np.arange(1, 6) * 2 * 8.0 / 5)
        np.testing.assert_allclose(with_lstm.curve.mean, np.arange(1, 6) * 2 * 6.0 / 5)
        np.testing.assert_allclose(without.curve.mean, [0.4, 0.8, 1.2, 1.6, 2.0])


def test_a_run_that_has_not_come_as_far_ends_the_curve(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / str(seed), "dqn", "CartPole-v1", seed, 5.0) for seed in (0, 1))
    table = other / "evaluations.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]).replace("\n200000,", "\n200004,"))
    ((agent,),) = curves_by_env([one, other]).values()
    assert (agent.name, agent.seeds) == ("dqn", 2)
    assert agent.curve.x.tolist() == [100_000, 200_002]
    assert agent.curve.seeds.tolist() == [2, 2]


def test_games_played_otherwise_are_other_curves(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), "dqn", "ALE/Pong-v5", seed, 10.0 * (seed + 1)) for seed in range(3)]
    for folder, change in ((runs[1], {"flicker": 0.5}), (runs[2], {"protocol": "nature"})):
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
    (agents,) = curves_by_env(runs).values()
    found = {name: (seeds, curve.mean[4]) for name, seeds, curve in agents}
    assert found == {
        "dqn": (1, 20.0),
        "dqn, flicker 0.5": (1, 40.0),
        "dqn, protocol nature": (1, 60.0),
    }


def test_a_seed_twice_and_other_steps_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(place), "dqn", "CartPole-v1", seed) for place, seed in enumerate((0, 0, 1))]
    assert curves_by_env([runs[0], runs[0]])["CartPole-v1"][0].seeds == 1  # one folder, given twice
    with pytest.raises(InvalidRun, match="are both dqn on CartPole-v1 with seed 0"):
        curves_by_env(runs)
    table = runs[2] / "evaluations.csv"
    table.write_text(table.read_text().replace("\n200000,", "\n250000,").replace("\n300000,", "\n310000,"))
    with pytest.raises(InvalidRun, match="were evaluated at different steps; draw them one by one"):
        curves_by_env([runs[0], runs[2]])


def test_a_run_without_evaluations_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "new", "dqn", "CartPole-v1")
    (folder / "evaluations.csv").write_text((folder / "evaluations.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(InvalidRun, match="new has no evaluations yet"):
        curves_by_env([folder])


def test_agents_are_named_by_their_presets_where_these_differ(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, name, n_step=3) for name in ("dqn", "c51")]
    assert [agent.name for agent in curves_by_env(runs)["ALE/Pong-v5"]] == ["dqn", "c51"]
    runs.append(write_run(tmp_path / "other", "dqn", n_step=5))
    names = [agent.name for agent in curves_by_env([runs[0], runs[2]])["ALE/Pong-v5"]]
    assert names == ["n_step 3", "n_step 5"]


def test_single_evaluations_of_seeds_are_put_together() -> None:
    assert matched_evaluations([np.array([100.0]), np.array([104.0])]).tolist() == [[0], [0]]
