"""The rooms of the house: who may import whom, and what no file may do. Read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "envs", "networks", "scripts")
FILES = {
    ".".join(("pixelq", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
SEES_ENVIRONMENTS = {
    f"pixelq.agents.{name}"
    for name in "loop games resume evaluation film recording plot comparison scores baselines".split()
} | {module for module in FILES if module.startswith("pixelq.agents.report.")}


def room(module: str) -> str:
    return module.split(".")[1]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes(tree: ast.AST, *, with_functions: bool, with_types: bool = False) -> Iterator[ast.AST]:
    """All nodes below; without functions, those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if is_for_type_checkers(node) and not with_types:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not with_functions:
            continue
        yield node
        yield from nodes(node, with_functions=with_functions, with_types=with_types)


def imports(module: str, *, with_functions: bool = True, with_types: bool = False) -> set[str]:
    """What a module imports, as dotted names; a name that is itself a module of ours is given as that module."""
    found = set()
    for node in nodes(TREES[module], with_functions=with_functions, with_types=with_types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return found


def rooms_seen(module: str) -> set[str]:
    ours = {name for name in imports(module, with_types=True) if name.startswith("pixelq.")}
    return {room(name) for name in ours} - {room(module)}


def test_the_reader_reads_everything() -> None:
    assert {room(module) for module in FILES} == set(PACKAGES)
    assert len(FILES) > 35
    assert "pixelq.agents.experience.replay" in imports("pixelq.agents.dqn")
    assert "pixelq.agents.training.loop" in imports("pixelq.agents.dqn")  # inside a function
    assert "pixelq.agents.training.loop" not in imports("pixelq.agents.dqn", with_functions=False)
    assert "pixelq.agents.dqn" not in imports("pixelq.agents.training.loop")  # for type checkers
    assert "pixelq.agents.dqn" in imports("pixelq.agents.training.loop", with_types=True)
    assert "pixelq.agents.report.page" in imports("pixelq.agents.report")  # a package inside a package


@pytest.mark.parametrize("module", FILES)
def test_imports_point_one_way(module: str) -> None:
    allowed = {"networks": set(), "envs": set(), "agents": {"networks"}, "scripts": {"agents", "envs", "networks"}}
    permitted = allowed[room(module)] | ({"envs"} if module in SEES_ENVIRONMENTS else set())
    assert rooms_seen(module) <= permitted


@pytest.mark.parametrize("module", [module for module in FILES if room(module) == "envs"])
def test_environments_know_no_torch(module: str) -> None:
    assert not {name for name in imports(module, with_types=True) if name.split(".")[0] in ("torch", "torchvision")}


@pytest.mark.parametrize("module", [module for module in FILES if room(module) == "networks"])
def test_networks_know_no_environments(module: str) -> None:
    others = {"gymnasium", "ale_py"} if module != "pixelq.networks.sb3" else {"ale_py"}
    assert not {name for name in imports(module, with_types=True) if name.split(".")[0] in others}


def test_importing_has_no_cycle() -> None:
    graph = {
        module: {name for name in imports(module, with_functions=False) if name in FILES} - {module} for module in FILES
    }
    assert sum(map(len, graph.values())) > 60
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' → '.join(error.args[1])}")
    assert set(order) == set(FILES)


def test_a_cycle_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TREES, "pixelq.agents.config.agent_config", ast.parse("from pixelq.agents.dqn import DQN"))
    with pytest.raises(
        pytest.fail.Exception, match=r"pixelq.agents.config.agent_config.*pixelq.agents.dqn|dqn.*config"
    ):
        test_importing_has_no_cycle()


def test_each_room_is_imported_alone(tmp_path: Path) -> None:
    """What ends up in memory: the environments without torch, the networks without the environments."""
    program = """
import importlib, sys
import pixelq.envs
assert not {"torch", "pixelq.networks", "pixelq.agents", "pixelq.scripts"} & set(sys.modules), "envs"
for name in [name for name in sys.modules if name.startswith("pixelq")]:
    del sys.modules[name]
import pixelq.networks
assert not {"pixelq.envs", "pixelq.agents", "pixelq.scripts", "stable_baselines3"} & set(sys.modules), "networks"
for name in [name for name in sys.modules if name.startswith("pixelq")]:
    del sys.modules[name]
import pixelq.agents
assert "pixelq.scripts" not in sys.modules, "agents"
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {"torch.load", "torch.save", "torch.jit.load", "pickle.load", "np.memmap"}


def unsafe(tree: ast.AST) -> list[str]:
    """What could run code from a file, as ``line: what``."""
    found = []
    for node in nodes(tree, with_functions=True, with_types=True):
        what = None
        if isinstance(node, ast.Import):
            what = next((alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES), None)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            banned = names & FORBIDDEN_ATTRIBUTES
            what = next(iter(banned), node.module if (node.module or "").split(".")[0] in FORBIDDEN_MODULES else None)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            what = node.func.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_ATTRIBUTES:
            what = ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            what = "allow_pickle"
        if what:
            found.append(f"{getattr(node, 'lineno', 0)}: {what}")
    return found


@pytest.mark.parametrize("module", FILES)
def test_nothing_runs_code_from_a_file(module: str) -> None:
    assert unsafe(TREES[module]) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "from torch import load",
        "f = lambda text: eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_what_runs_code_is_recognised(line: str) -> None:
    assert len(unsafe(ast.parse(line))) == 1
    assert unsafe(ast.parse("network.eval(); re.compile('a'); torch.nn.functional.relu(x)")) == []


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods, and the module, that have no docstring."""
    missing = [] if ast.get_docstring(tree) else ["the module"]
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("_"):
                    continue
                if not ast.get_docstring(node):
                    missing.append(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    pending.append((f"{prefix}{node.name}.", node))
    return missing


@pytest.mark.parametrize("module", FILES)
def test_what_is_public_is_documented(module: str) -> None:
    assert undocumented(TREES[module]) == []


def test_what_is_undocumented_is_recognised() -> None:
    source = "class A:\n def f(self): pass\n def _g(self): pass\n def __init__(self): pass\ndef h(): 'said'\n"
    assert undocumented(ast.parse(source)) == ["the module", "A", "A.f"]


@pytest.mark.parametrize("module", FILES)
def test_files_are_short(module: str) -> None:
    assert len(FILES[module].read_text().splitlines()) <= 300
