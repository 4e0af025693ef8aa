"""Reading a checkpoint with and without its learner."""

from pathlib import Path

import pytest
import torch

from pixelq.agents import AgentConfig, InvalidCheckpoint
from pixelq.agents.storage.checkpoint import read_checkpoint
from pixelq.agents.storage.checkpoint_files import LEARNER, NETWORK
from tests.support.small_agents import SMALL, filled, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    filled(AgentConfig(**SMALL)).save(tmp_path / "agent")
    return tmp_path / "agent"


def test_reading_without_the_learner_gives_the_same_policy(folder: Path) -> None:
    whole, acting = read_checkpoint(folder), read_checkpoint(folder, learner=False)
    assert whole.learner
    assert acting.learner is None
    assert acting.state == whole.state
    assert acting.network.keys() == whole.network.keys()
    assert all(torch.equal(acting.network[name], tensor) for name, tensor in whole.network.items())


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_missing_learner_is_damage_unless_it_is_not_asked_for(folder: Path, is_sealed: bool) -> None:
    """Also if the checksums do not list it: no file says that the agent was saved for acting."""
    (folder / LEARNER).unlink()
    if is_sealed:
        seal(folder)
    assert read_checkpoint(folder, learner=False).learner is None
    with pytest.raises(InvalidCheckpoint, match=r"learner\.safetensors"):
        read_checkpoint(folder)
    with pytest.raises(InvalidCheckpoint, match=r"learner\.safetensors"):
        read_checkpoint(folder, learner=True)


def test_a_damaged_learner_is_not_read_without_need(folder: Path) -> None:
    (folder / LEARNER).write_bytes(b"noise")
    assert read_checkpoint(folder, learner=False).learner is None
    with pytest.raises(InvalidCheckpoint, match=r"learner\.safetensors is not what was written"):
        read_checkpoint(folder)


def test_the_network_is_checked_in_either_case(folder: Path) -> None:
    (folder / NETWORK).write_bytes(b"noise")
    for learner in (False, True):
        with pytest.raises(InvalidCheckpoint, match=r"network\.safetensors is not what was written"):
            read_checkpoint(folder, learner=learner)
