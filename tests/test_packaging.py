"""The distribution: four folders become four packages below ``pixelq``, and nothing else is installed."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import pixelq.agents

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "envs", "networks", "scripts")
CORE = set("ale-py filelock gymnasium matplotlib numpy rich safetensors stable-baselines3 torch tyro zstandard".split())
"""What is always installed; everything else is an extra."""
QUIETLY = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = {
    f"pixelq/{path.relative_to(ROOT).as_posix()}"
    for package in PACKAGES
    for path in (ROOT / package).rglob("*")
    if path.suffix in (".py", ".html", ".css", ".js")
    or path.name in ("py.typed", "dopamine_atari.csv.gz", "dopamine_atari.LICENSE")
    or (path.is_file() and path.parents[1].name == "policies")
}


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """What a new interpreter prints, started in ``cwd``."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.strip()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the source, so that no earlier build's files can get in or be left."""
    folder = tmp_path_factory.mktemp("packaging")
    leave_out = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist", "node_modules")

    def ignored(parent: str, names: list[str]) -> set[str]:
        return leave_out(parent, names) | ({"docs", "runs", "tests"} if Path(parent) == ROOT else set())

    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    python("-m", "pip", "wheel", *QUIETLY, "--no-build-isolation", "-w", str(folder), "./source", cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def target(wheel: Path) -> Path:
    """A folder into which the wheel is installed."""
    folder = wheel.parent / "site"
    python("-m", "pip", "install", *QUIETLY, "--target", str(folder), str(wheel), cwd=wheel.parent)
    return folder


def test_pixelq_is_installed() -> None:
    distribution = importlib.metadata.distribution("pixelq")
    assert distribution.version == PROJECT["version"]
    (command,) = (entry for entry in distribution.entry_points if entry.group == "console_scripts")
    assert (command.name, command.value) == ("pixelq", "pixelq.scripts.main:main")
    assert pixelq.agents.__name__ == "pixelq.agents"
    assert Path(pixelq.agents.__file__ or "").resolve() == ROOT / "agents" / "__init__.py"


@pytest.mark.skipif(not (ROOT / ".venv" / "installed").exists(), reason="the environment was not made by make")
def test_make_puts_the_packages_where_type_checkers_find_them() -> None:
    (file,) = (ROOT / ".venv").glob("lib/python*/site-packages/pixelq.pth")
    links = Path(file.read_text().strip()) / "pixelq"
    assert {link.name: link.resolve() for link in links.iterdir()} == {name: ROOT / name for name in PACKAGES}
    assert all((links / name / "py.typed").exists() for name in PACKAGES)
    assert not (links / "__init__.py").exists()


def test_what_is_imported_late_is_what_type_checkers_see() -> None:
    (checked,) = (
        node
        for node in ast.parse((ROOT / "agents" / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.name: statement.module
        for statement in checked.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == {name: f"pixelq.agents.{module}" for name, module in pixelq.agents._IMPORTED_LATE.items()}
    for name, module in seen.items():
        assert getattr(pixelq.agents, name) is getattr(importlib.import_module(str(module)), name)
    assert set(pixelq.agents.__all__) <= set(dir(pixelq.agents))
    assert pixelq.agents.__getattr__("sharing") is importlib.import_module("pixelq.agents.sharing")
    assert {"CallbackFailed", "MissingExtra", "Tracker", "TrainingDiverged"} <= set(pixelq.agents.__all__)
    with pytest.raises(AttributeError, match=r"^module 'pixelq.agents' has no attribute 'DNQ'$"):
        pixelq.agents.DNQ  # noqa: B018


def test_the_citation_is_of_this_version() -> None:
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {PROJECT['version']}" in lines
    assert f"title: {PROJECT['name']}" in lines


def test_the_folders_names_are_not_top_level_modules(tmp_path: Path) -> None:
    program = f"""
import importlib.util
print([name for name in {PACKAGES!r} if importlib.util.find_spec(name)])
print(importlib.util.find_spec("pixelq").origin)
print(importlib.util.find_spec("pixelq.agents").origin)
"""
    top_level, namespace, agents = python("-c", program, cwd=tmp_path).splitlines()
    assert top_level == "[]"
    assert namespace == "None"  # no folder of its own
    assert Path(agents).resolve() == ROOT / "agents" / "__init__.py"


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    assert len(SOURCES) > 40
    assert sum(name.endswith("py.typed") for name in SOURCES) == 4
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = archive.read(f"pixelq-{PROJECT['version']}.dist-info/METADATA").decode()
        entry_points = archive.read(f"pixelq-{PROJECT['version']}.dist-info/entry_points.txt").decode()
    assert {name for name in names if ".dist-info/" not in name} == SOURCES
    assert "pixelq/agents/policies/pong/network.safetensors" in names
    assert wheel.stat().st_size < 10e6
    assert "pixelq = pixelq.scripts.main:main" in entry_points
    assert f"Requires-Python: {PROJECT['requires-python']}" in metadata
    needed = [line.split(":", 1)[1].strip() for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert {re.split(r"[>\[]", line)[0] for line in needed if "extra ==" not in line} == CORE
    optional = {re.split(r"[>\[]", line)[0] for line in needed if "extra ==" in line}
    assert {"imageio", "tensorboard", "plotly", "opencv-python-headless", "pytest"} <= optional


@pytest.mark.slow
def test_the_installed_wheel_is_imported_from_where_it_lies(target: Path, tmp_path: Path) -> None:
    installed = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    of_pixelq = {name for name in installed if "__pycache__" not in name and ".dist-info/" not in name}
    assert of_pixelq == SOURCES | {"bin/pixelq"}
    assert not any((target / package).exists() for package in PACKAGES)
    assert not (target / "pixelq" / "__init__.py").exists()
    program = f"""
import importlib
from pixelq.scripts.main import main
for name in {PACKAGES!r}:
    print(importlib.import_module("pixelq." + name).__file__)
main(["presets"])
"""
    lines = python("-c", program, cwd=tmp_path, PYTHONPATH=str(target)).splitlines()
    assert lines[:4] == [str(target / "pixelq" / package / "__init__.py") for package in PACKAGES]
    assert {line.split()[0] for line in lines[4:]} >= {"nature", "dqn", "quick"}


@pytest.mark.slow
def test_a_pretrained_policy_plays_from_the_installed_wheel(target: Path, tmp_path: Path) -> None:
    """And nothing is written beside it, where users may have no right to."""

    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (target / "pixelq").rglob("*") if "__pycache__" not in str(p)}

    before = files()
    program = """
from pixelq.agents import Policy, load
from pixelq.envs import make_vec
from pixelq.agents.storage.pretrained import pretrained_folder
from pixelq.scripts.main import main
print(pretrained_folder("demo"), load("demo", "cpu").step)
main(["evaluate", "--list"])
policy = Policy.load("demo", "cpu")
envs = make_vec(policy.env_id, 1, 0, policy.protocol, **policy.env_arguments)
obs, _ = envs.reset()
for _ in range(50):
    obs, *_ = envs.step(policy.predict(obs)[0])
print(obs.shape)
"""
    first, *table, shape = python("-c", program, cwd=tmp_path, PYTHONPATH=str(target)).splitlines()
    folder, step = first.split()
    assert Path(folder) == target / "pixelq" / "agents" / "policies" / "pong"
    assert table[1].startswith("freeway     ALE/Freeway-v5")
    assert table[2].startswith("pong, demo  ALE/Pong-v5")
    assert int(step) > 0
    assert shape == "(1, 4, 42, 42)"
    assert not list(tmp_path.iterdir())
    assert files() == before
