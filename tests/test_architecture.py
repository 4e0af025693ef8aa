"""The rooms of the house: who may import whom, and what no file may do. Read from the source."""

import ast
import functools
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

TABLE = {
    "errors": "",
    "networks": "",
    "envs": "",
    "config": "errors",
    "storage": "errors",
    "acting": "errors config storage networks",
    "experience": "errors config storage networks",
    "learning": "errors config storage experience networks",
    "agent": "errors config storage acting experience learning networks",
    "runs": "errors storage experience",
    "evaluation": "errors config storage acting envs",
    "training": "errors config storage agent experience learning evaluation runs envs",
    "trainable": "agent training",
    "dqn": "experience learning trainable",
    "pqn": "experience learning trainable",
    "kinds": "config storage dqn pqn",
    "insight": "errors acting evaluation networks envs",
    "results": "errors config storage runs evaluation envs",
    "sharing": "errors config storage acting agent results dqn networks envs",
    "distributed": "errors config storage agent acting experience learning evaluation runs training results envs "
    "networks",
    "report": "errors config storage acting runs evaluation insight results networks envs",
    "agents": "errors config acting experience learning evaluation agent training distributed dqn pqn kinds",
}
"""Rooms that each room may import, besides itself; `agents` is the public face, agents/__init__.py."""
TABLE["scripts"] = " ".join(TABLE)


def room(module: str) -> str:
    """Return the room of a module: a folder or file of agents/, or one of the other packages."""
    package, *inside = module.split(".")[1:]
    return inside[0] if package == "agents" and inside else package


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        yield from nodes(node)


@functools.cache
def imports(tree: ast.AST) -> set[str]:
    """Return what a module imports, also inside functions and for type checkers; our own modules by their full name."""
    found = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return found


def arrows() -> dict[str, set[str]]:
    """Return the modules of ours that each module imports."""
    return {module: {name for name in imports(tree) if name in FILES} - {module} for module, tree in TREES.items()}


def circle(graph: dict[str, set[str]]) -> str | None:
    """Return a circle of imports; None if there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return " → ".join(error.args[1])
    return None


def trespasses() -> list[str]:
    """Return the imports that the table does not allow."""
    return [
        f"{module} imports {name}"
        for module, names in arrows().items()
        for name in sorted(names)
        if room(name) not in (room(module), *TABLE[room(module)].split())
    ]


def rooms() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    graph: dict[str, set[str]] = {room(module): set() for module in FILES}
    for module, names in arrows().items():
        graph[room(module)] |= {room(name) for name in names} - {room(module)}
    return graph


def test_the_reader_reads_everything() -> None:
    assert {room(module) for module in FILES} == set(TABLE)
    assert len(FILES) > 100
    assert sum(map(len, arrows().values())) > 300
    assert "pixelq.agents.training.loop" in arrows()["pixelq.agents.trainable"]


def test_imports_follow_the_table() -> None:
    assert trespasses() == []


def test_neither_files_nor_rooms_import_each_other_in_a_circle() -> None:
    assert circle(arrows()) is None
    assert circle(rooms()) is None


@pytest.mark.parametrize(
    "planted",
    [
        "from pixelq.agents.dqn import DQN",
        "def late():\n    from pixelq.agents import dqn",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pixelq.agents.dqn import DQN",
    ],
)
def test_a_planted_import_is_seen(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TREES, "pixelq.agents.config.seeds", ast.parse(planted))
    assert trespasses() == ["pixelq.agents.config.seeds imports pixelq.agents.dqn"]
    assert "pixelq.agents.config.seeds" in (circle(arrows()) or "")
    assert "config" in (circle(rooms()) or "")


@pytest.mark.parametrize("module", [module for module in FILES if room(module) == "envs"])
def test_environments_know_no_torch(module: str) -> None:
    assert not {name for name in imports(TREES[module]) if name.split(".")[0] in ("torch", "torchvision")}


@pytest.mark.parametrize("module", [module for module in FILES if room(module) == "networks"])
def test_networks_know_no_environments(module: str) -> None:
    others = {"gymnasium", "ale_py", "stable_baselines3"} if module != "pixelq.networks.sb3" else {"ale_py"}
    assert not {name for name in imports(TREES[module]) if name.split(".")[0] in others}


LONGEST = 65
"""Lines of the longest function, its docstring included."""


def test_functions_are_short() -> None:
    lengths = {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module, tree in TREES.items()
        for node in nodes(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


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


def is_safe_load(call: ast.Call) -> bool:
    """Whether a call of ``torch.load`` says itself that it unpickles nothing but tensors."""
    return any(
        each.arg == "weights_only" and isinstance(each.value, ast.Constant) and each.value.value is True
        for each in call.keywords
    )


def unsafe(tree: ast.AST) -> list[str]:
    """What could run code from a file, as ``line: what``."""
    found = []
    safe = {id(node.func) for node in nodes(tree) if isinstance(node, ast.Call) and is_safe_load(node)}
    for node in nodes(tree):
        what = None
        if isinstance(node, ast.Import):
            what = next((alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES), None)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            banned = names & FORBIDDEN_ATTRIBUTES
            what = next(iter(banned), node.module if (node.module or "").split(".")[0] in FORBIDDEN_MODULES else None)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            what = node.func.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_ATTRIBUTES and id(node) not in safe:
            what = ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            what = "allow_pickle"
        if what:
            found.append(f"{getattr(node, 'lineno', 0)}: {what}")
    return found


def test_nothing_runs_code_from_a_file() -> None:
    assert {module: found for module, tree in TREES.items() if (found := unsafe(tree))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "from torch import load",
        "f = lambda text: eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_what_runs_code_is_recognised(line: str) -> None:
    assert len(unsafe(ast.parse(line))) == 1
    assert unsafe(ast.parse("torch.load(path, weights_only=True)")) == []
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


def test_what_is_public_is_documented() -> None:
    assert {module: missing for module, tree in TREES.items() if (missing := undocumented(tree))} == {}


def test_what_is_undocumented_is_recognised() -> None:
    source = "class A:\n def f(self): pass\n def _g(self): pass\n def __init__(self): pass\ndef h(): 'said'\n"
    assert undocumented(ast.parse(source)) == ["the module", "A", "A.f"]
