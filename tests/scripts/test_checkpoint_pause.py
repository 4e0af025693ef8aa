"""How long a checkpoint stops a training: every part of it is timed."""

import pytest

from pixelq.agents.storage.checkpoint_files import LEARNER
from pixelq.scripts.benchmarks import checkpoint_pause
from pixelq.scripts.benchmarks.checkpoint_pause import PARTS, pauses


@pytest.mark.slow
def test_the_parts_of_a_checkpoint_are_those_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[set[str]] = []
    files = checkpoint_pause.agent_files
    monkeypatch.setattr(
        checkpoint_pause, "agent_files", lambda checkpoint: written.append({*files(checkpoint)}) or files(checkpoint)
    )
    found, size = pauses("quick", checkpoints=2)
    assert list(found) == list(PARTS)
    assert all(processor >= 0 for name, (_, processor) in found.items() if name != "writing")  # a difference
    assert 0 < found["rows"][1] <= found["rows"][0] * 1.5  # clocks are not read in the same moment
    assert len(written) == 2
    assert LEARNER in written[0]
    assert size > 3 * 4 * 300_000  # weights and two moments of the network
