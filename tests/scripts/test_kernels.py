"""The count of the operations of an update: what computes, by hand, and what does not."""

import sys

import pytest
import torch

from pixelq.scripts.benchmarks import kernels
from pixelq.scripts.benchmarks.kernels import count_operations
from pixelq.scripts.benchmarks.operations import Operations


def test_views_and_new_memory_are_not_counted() -> None:
    x = torch.ones(4, 6)
    with Operations() as operations:
        y = x.t().reshape(4, 6)[1:].detach()  # reshape copies here
        torch.empty_like(y).add_(y).sum().expand(3)
    assert operations.computing == {"clone": 1, "add_": 1, "sum": 1}
    assert operations.free == 6  # t, the copy's shape, [1:], detach, empty_like, expand
    assert operations.waits == []


def test_a_plain_update_has_the_operations_of_its_layers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = count_operations("quick_dqn")
    computing = count.operations.computing
    # Three convolutions and two dense layers of two networks. Backward, a dense layer is two products.
    assert (computing["convolution"], computing["convolution_backward"]) == (6, 3)
    assert (computing["addmm"], computing["mm"]) == (4, 4)
    assert (computing["_fused_adam_"], computing["rand"]) == (1, 1)
    assert 0 < count.in_learner < count.computing == sum(computing.values())
    assert count.replay_gigabytes == pytest.approx(100_000 * 7.07e-6, rel=0.01)
    monkeypatch.setattr(sys, "argv", ["kernels", "quick_dqn"])
    kernels.main()
    assert f" {count.computing} " in capsys.readouterr().out


def test_radam_is_counted_as_a_gpu_has_it() -> None:
    """Once for all weights: operations on lists, and not one fused operation as on a CPU."""
    count = count_operations("quick")
    computing = count.operations.computing
    assert (
        count.around == 3 + 3 + 2
    )  # the draw of the rows, the copies to where the graph reads them, and of the results
    assert computing["_fused_adamw_"] == 0
    assert computing["_foreach_lerp_"] == 1
    assert count.operations.waits == []
