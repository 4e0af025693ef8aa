"""The Dockerfile, as far as it can be checked without Docker: what it copies is there, and its command fits."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from pixelq.scripts.flags.train import read

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTIONS = re.findall(r"^(\w+) +(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def copied() -> list[str]:
    return [name for kind, text in INSTRUCTIONS if kind == "COPY" for name in text.split()[:-1]]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == kept
    assert all((ROOT / name).exists() for name in copied())


def test_its_extras_exist_and_its_command_trains() -> None:
    (installs,) = (text for kind, text in INSTRUCTIONS if kind == "RUN" and "pip install" in text)
    (extras,) = re.findall(r"'\.\[(.*)\]'", installs)
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= optional.keys()
    words = {kind: json.loads(text) for kind, text in INSTRUCTIONS if kind in ("ENTRYPOINT", "CMD")}
    assert words["ENTRYPOINT"] == ["pixelq"]
    verb, *arguments = words["CMD"]
    args = read(arguments)
    assert (verb, args.env, args.out) == ("train", "ALE/Pong-v5", Path("/runs/pong"))


@pytest.mark.slow
def test_the_wheel_is_built_of_what_is_copied(tmp_path: Path) -> None:
    for name in copied():
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        "out",
    ]
    subprocess.run([*command, "."], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "pixelq/agents/sharing/export.py" in names
    assert "pixelq/agents/policies/pong/agent.json" in names
