"""Games with another mode, kind of observation or wrapper: published numbers are left out beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixelq.agents import DQN, AgentConfig, Evaluation, InvalidRun, evaluate
from pixelq.agents.report.curves import curves_section
from pixelq.agents.report.standing import standing_section, summary_section
from pixelq.agents.results.comparison import compare_run, published_beside
from pixelq.agents.results.records import read_groups
from pixelq.agents.results.scores import read_score, run_scores
from pixelq.agents.runs.tables import read_config
from pixelq.envs import make_vec
from pixelq.envs.games import published_id
from tests.support.report_runs import write_run

CHANGED: list[dict[str, Any]] = [
    {"env_kwargs": {"mode": 3}},
    {"env_kwargs": {"obs_type": "ram"}},
    {"wrappers": ["gymnasium.wrappers:ClipReward(min_reward=-1)"]},
]


def test_other_arguments_leave_scores_comparable() -> None:
    assert published_id("ALE/Pong-v5", {"full_action_space": True, "frame_stack": 2, "frame_size": 42}) == "ALE/Pong-v5"
    assert [published_id("ALE/Pong-v5", arguments) for arguments in CHANGED] == [""] * 3


@pytest.mark.parametrize("arguments", CHANGED, ids=str)
def test_no_section_of_a_report_lays_published_numbers_beside_a_changed_game(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    usual = write_run(tmp_path / "usual")
    changed = write_run(tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"env_arguments": arguments}))
    (own,) = groups = read_groups([changed])
    assert (own.published_env, own.has_published_rules, run_scores(own)) == ("", False, [])
    assert standing_section(groups) is None
    (table,) = summary_section(groups).values["tables"]
    assert [row["human"] for row in table["rows"]] == ["–"]
    (chart,) = curves_section(groups).data
    assert (chart["references"], chart["published"]) == ({}, [])
    assert published_beside(read_config(changed)) is None
    assert published_beside(read_config(usual)) is not None
    for path in (changed, changed / "final_evaluation.json"):
        with pytest.raises(InvalidRun, match="of ALE/Pong-v5 with other arguments or wrappers, which has no human"):
            read_score(path)
    with pytest.raises(InvalidRun, match="no curve is published"):
        compare_run(changed)
    # Beside one that is not changed, they are that one's.
    (table,) = summary_section(read_groups([usual, changed])).values["tables"]
    assert [row["human"] == "–" for row in table["rows"]] == [False, True, False, False]


def test_an_evaluation_of_a_changed_game_is_not_normalised() -> None:
    assert Evaluation("ALE/Pong-v5", (14.6,), (9,)).human_normalized == pytest.approx(1.0)
    assert Evaluation("ALE/Pong-v5", (14.6,), (9,), is_changed=True).human_normalized is None
    config = AgentConfig(hidden=8, replay_capacity=64, learning_starts=16, batch_size=4)
    for arguments, is_changed in (({}, False), ({"wrappers": ["gymnasium.wrappers:RecordEpisodeStatistics"]}, True)):
        envs = make_vec("pixelq/Catch-v0", 1, **arguments)  # type: ignore[arg-type]
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        assert evaluate(agent, envs, 1).is_changed is is_changed
