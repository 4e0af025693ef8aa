"""The examples in docs/examples: each is short, and runs in an empty folder."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))
MOST_LINES = 40


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(example: Path, tmp_path: Path) -> None:
    text = example.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for module in re.findall(r"^# needs (\w+)", text, re.MULTILINE):  # a package that is no part of every installation
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
