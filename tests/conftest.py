"""Fixtures that tests of several rooms share, and what is left out where it cannot run."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

from tests.support.cases import examples
from tests.support.runs import BLOCKS, Harness, train, unfinished

if TYPE_CHECKING:
    from playwright.sync_api import Browser

hypothesis.settings.register_profile("pixelq", max_examples=examples(100), deadline=None)  # machines may be busy
hypothesis.settings.load_profile("pixelq")

# A shell that runs tests in the background lets them ignore Ctrl-C, and so what they start. A handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These import modules of POSIX at once.
collect_ignore_glob = ["faults/*", "training/test_resume_guards.py"] if sys.platform == "win32" else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the test harness, which forks and reads /proc, where there is no Linux."""
    if sys.platform.startswith("linux"):
        return
    for item in items:
        if "harness" in getattr(item, "fixturenames", ()) or item.get_closest_marker("linux"):
            item.add_marker(pytest.mark.skip(reason="needs Linux"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # The nets here are tiny: threads would wait for each other for longer than they compute.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """Test harness that runs commands."""
    server = Harness()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of Catch that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended = harness.run(train(out), BLOCKS)
    assert ended.code == 0, ended.err
    assert unfinished(out) == []
    return out


@pytest.fixture(scope="session")
def stopped(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of Catch as SIGTERM left it in its first evaluation."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    ended = harness.run(train(out), BLOCKS, ["stop_in_evaluation", {"number": signal.SIGTERM, "evaluation": 1}])
    assert ended.code == 128 + signal.SIGTERM, ended.err
    return out


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium without a window."""
    from tests.support.browser import start_browser  # tests that open no page need no Playwright

    with start_browser() as chromium:
        yield chromium
