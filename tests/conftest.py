"""What all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # The nets here are tiny: threads would wait for each other for longer than they compute.
    torch.set_num_threads(1)
