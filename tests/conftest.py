"""What all tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.support.runs import BLOCKS, Harness, train, unfinished

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # The nets here are tiny: threads would wait for each other for longer than they compute.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """Runs commands."""
    server = Harness()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Catch that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended = harness.run(train(out), BLOCKS)
    assert ended.code == 0, ended.err
    assert unfinished(out) == []
    return out


@pytest.fixture(scope="session")
def stopped(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of Catch as SIGTERM left it in its first evaluation."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    ended = harness.run(train(out), BLOCKS, ["stop_in_evaluation", {"number": signal.SIGTERM, "evaluation": 1}])
    assert ended.code == 128 + signal.SIGTERM, ended.err
    return out


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window."""
    from tests.support.browser import start_browser  # what opens no page needs no Playwright

    with start_browser() as chromium:
        yield chromium
