"""The Markdown of the manual: its links, its Python, its command lines, and what its tables say of the code."""

import builtins
import importlib
import importlib.util
import inspect
import re
import shlex
import shutil
import symtable
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
from stable_baselines3 import DQN as THEIRS

import pixelq.agents
import pixelq.networks
from pixelq.agents import AgentConfig
from pixelq.agents.config import parts
from pixelq.scripts.flags.train import TrainArgs
from pixelq.scripts.main import VERBS
from tests.support.runs import Harness

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *ROOT.glob("agents/policies/*/README.md"),
        *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    ]
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A block of code on a page."""

    page: str
    line: int
    language: str
    code: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, also of those in lists."""
    lines, opened = page.read_text().splitlines(), None
    for number, line in enumerate(lines):
        fence = re.match(r" *```(\w*)", line)
        if fence is None:
            continue
        if opened is None:
            opened = number, fence[1]
        else:
            start, language = opened
            yield Block(name_of(page), start + 1, language, textwrap.dedent("\n".join(lines[start + 1 : number])))
            opened = None
    assert opened is None, f"{page}: a block is not closed"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def name_of_block(block: Block) -> str:
    return f"{block.page}:{block.line}"


# Links


def without_code(text: str) -> str:
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "`x`", text)


def links_of(page: Path) -> list[str]:
    """Return the targets of links and pictures, but for those of other hosts."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip())
        found.append(re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"))
    assert len(found) == len(set(found)), f"{page} has a heading twice, whose anchors GitHub and mkdocs name otherwise"
    return set(found)


def wrong_links(page: Path) -> list[str]:
    wrong = []
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and (file.suffix != ".md" or anchor not in anchors_of(file))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    assert wrong_links(page) == []


def test_wrong_links_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Here it is: `x`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](other.md) ![b](no.png) [c](other.md#here-it-is-x) [d](other.md#there) [e](#top) [f](#bottom) "
        "[g](https://example.org/no) `[h](no.md)`\n```\n[i](no.md)\n```\n[j](.)\n"
    )
    assert wrong_links(page) == ["no.png", "other.md#there", "#bottom", "."]


# Python


def free_names(code: str) -> set[str]:
    """Return the names that a block of code uses and does not define."""
    tables, found, defined = [symtable.symtable(code, "block", "exec")], set[str](), set[str]()
    top = tables[0]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table is top and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                defined.add(symbol.get_name())
            elif symbol.is_referenced() and (table is top or symbol.is_global()):
                found.add(symbol.get_name())
    return found - defined - set(dir(builtins)) - {"__name__"}


def compiles(code: str) -> None:
    """Compile a block; what belongs into a function, such as `return`, is compiled in one."""
    try:
        compile(code, "block", "exec")
    except SyntaxError:
        compile(f"def function(self):\n{textwrap.indent(code, '    ')}", "block", "exec")


def is_program(block: Block) -> bool:
    """Return whether a block runs by itself: it defines or imports all that it uses."""
    try:
        return bool(re.search(r"^(from|import) ", block.code, re.MULTILINE)) and not free_names(block.code)
    except SyntaxError:
        return False


PROGRAMS = [block for block in PYTHON if is_program(block)]


@pytest.mark.parametrize("block", PYTHON, ids=name_of_block)
def test_python_compiles(block: Block) -> None:
    compiles(block.code)


def test_programs_are_told_from_fragments() -> None:
    assert free_names(
        "import a\nfrom b import c as d\nfor i in a.x:\n    print(d, i, e)\ndef f(g):\n    return g + h\n"
    ) == {"e", "h"}
    assert free_names("class A(B):\n    def f(self):\n        return [len(k) for k in self.x]\nA()\n") == {"B"}
    assert len(PROGRAMS) >= 12


NOT_RUN = ("docs/adding_parts.md", "docs/scaling.md")
"""Pages whose code runs elsewhere: that of the examples, and actors on Ray, which take a cluster."""


@pytest.mark.parametrize("block", [block for block in PYTHON if block.page not in NOT_RUN], ids=name_of_block)
def test_python_runs(block: Block, tmp_path: Path, harness: Harness) -> None:
    """Programs as they are, and fragments with what they take as given; both for a few steps and environments."""
    code = re.sub(r"(?<=steps=)\d+_000\b|(?<=learn\()\d_\d00\b|(?<=learn\(envs, )[\d_]+", "64", block.code)
    if block not in PROGRAMS:
        shutil.copy(Path(__file__).with_name("given.py"), tmp_path)
        saved = "agent.save('runs/pong')\n" if 'DQN.load("runs/pong"' in code else ""
        code = f"from given import *\n{saved}{code}"
    script = tmp_path / "block.py"
    script.write_text(re.sub(r"(?<=num_envs=)\d+", "2", code))
    (tmp_path / "docs").symlink_to(DOCS)
    done = harness.start(["script", str(script), str(tmp_path)]).wait(120.0)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


def bare(code: str) -> str:
    """Return code without indentation and empty lines, for excerpts that stand alone."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


def test_the_page_of_parts_shows_the_code_of_the_examples() -> None:
    excerpts = [bare(block.code) for block in PYTHON if block.page == "docs/adding_parts.md"]
    assert len(excerpts) >= 10
    everything = bare("\n".join(path.read_text() for path in sorted((DOCS / "examples").glob("own_*.py"))))
    assert [excerpt for excerpt in excerpts if excerpt not in everything] == []


# Command lines


class Line(NamedTuple):
    """A command line on a page."""

    page: str
    words: tuple[str, ...]


def command_lines(page: Path) -> Iterator[Line]:
    """Yield the command lines in blocks and, if they have flags, in the text, but for those with shell variables."""
    for block in blocks_of(page):
        if block.language in ("", "bash"):
            for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
                if (
                    re.search(r"(^|\s|/)(pixelq|python -m pixelq\S*|make) ", line)
                    and "$" not in line
                    and "<" not in line
                ):
                    words = shlex.split(line.removesuffix("&"), comments=True)
                    while words and (re.fullmatch(r"\w+=\S*", words[0]) or words[0] in ("taskset", "-c", "0", "1")):
                        del words[0]
                    yield Line(name_of(page), tuple(words))
    for span in re.findall(
        r"`(pixelq [^`]+)`", re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    ):
        words = shlex.split(span)
        if words[1] in VERBS and len(words) > 2:
            yield Line(name_of(page), tuple(words))


LINES = [line for page in PAGES if page.name != "CHANGELOG.md" for line in command_lines(page)]


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder in which every run exists, and modules of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(parts, "_REGISTERED", {kind: dict(known) for kind, known in parts._REGISTERED.items()})
    register = "from pixelq.agents import register_encoder, register_head\nfrom torch import nn\n"
    (tmp_path / "model.zip").touch()
    (tmp_path / "my_parts.py").write_text(register + "register_encoder('shallow', nn.Module)\n")
    for name in ("compare", "evaluate", "export", "plot_evaluations", "push", "report", "watch"):
        module = importlib.import_module(f"pixelq.scripts.flags.{name}")
        for check in ("check_runs", "find_policy"):
            if hasattr(module, check):
                monkeypatch.setattr(module, check, lambda path: path)


def read(verb: str, words: list[str]) -> None:
    """Read the flags of a verb; `--resume` is left out, as it needs a run, and MinAtar's games, which are an extra."""
    words = [re.sub(r"^MinAtar/\w+-v\d$", "pixelq/Catch-v0", word) for word in words if word != "--resume"]
    if words == ["--help"]:
        return
    importlib.import_module(f"pixelq.scripts.flags.{verb}").read(words)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("line", sorted(set(LINES)), ids=lambda line: f"{line.page}-{' '.join(line.words)}"[:120])
def test_a_command_line_is_understood(line: Line) -> None:
    command, *words = line.words
    if command.rpartition("/")[2] == "pixelq" and words[0] in VERBS:
        read(words[0], words[1:])
    elif command.rpartition("/")[2] == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
        verb = words[1].rpartition(".")[2]
        if importlib.util.find_spec(f"pixelq.scripts.flags.{verb}") is not None:
            read(verb, words[2:])
    elif command == "make":
        for target in [word for word in words if "=" not in word and not word.startswith("-")]:
            assert re.search(
                rf"^({re.escape(target.replace('.venv', '$(VENV)'))})\b.*:",
                (ROOT / "Makefile").read_text(),
                re.MULTILINE,
            ), target


def test_command_lines_are_found() -> None:
    verbs = {line.words[1] for line in LINES if line.words[0].endswith("pixelq")}
    assert verbs >= {"train", "evaluate", "report", "status", "watch", "compare", "benchmark", "acceptance", "presets"}
    assert len(LINES) > 80


# What tables say of the code


def tables_of(page: str, header: str) -> list[list[str]]:
    """Return the rows of all tables with a header; their cells."""
    lines, rows = (DOCS / page).read_text().splitlines(), []
    for number in [number for number, line in enumerate(lines) if line.startswith(header)]:
        for line in lines[number + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows, header
    return rows


def test_the_names_of_other_libraries_lead_to_fields_and_flags() -> None:
    known = {field.name for field in fields(AgentConfig)}
    for header in ("| argument of their `DQN` |", "| CleanRL | field", "| gin binding |"):
        for theirs, ours, _ in tables_of("coming_from.md", header):
            assert ours == "" or ours.strip("`") in known, (theirs, ours)
    flags = {"--" + field.name.replace("_", "-") for field in fields(TrainArgs)}
    for header in ("| CleanRL | flag", "| Dopamine | flag"):
        for theirs, ours, _ in tables_of("coming_from.md", header):
            assert ours.strip("`") in flags, (theirs, ours)


def test_the_arguments_of_stable_baselines3_are_its_own() -> None:
    theirs = set(inspect.signature(THEIRS.__init__).parameters)
    named = {row[0].strip("`") for row in tables_of("coming_from.md", "| argument of their `DQN` |")}
    assert named <= theirs
    left_out = {"env", "replay_buffer_class", "replay_buffer_kwargs", "stats_window_size", "tensorboard_log", "verbose"}
    assert theirs - named - left_out == {"self", "_init_setup_model"}


def test_the_glossary_has_the_words_of_the_architecture() -> None:
    words = (ROOT / "ARCHITECTURE.md").read_text().split("## The picture")[0]
    rows = [line for line in words.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    assert not set(rows) - set((DOCS / "glossary.md").read_text().splitlines())


def test_every_field_of_a_public_tuple_is_described() -> None:
    """`help` says of a field without a description that it is an alias for a number."""
    public = [getattr(module, name) for module in (pixelq.agents, pixelq.networks) for name in module.__all__]
    tuples = [each for each in public if isinstance(each, type) and issubclass(each, tuple)]
    assert {each.__name__ for each in tuples} >= {
        "Batch",
        "HeadLoss",
        "LastStep",
        "Noise",
        "QuantileFunction",
        "Target",
    }
    for each in tuples:
        _, _, described = inspect.getdoc(each).partition("Attributes:\n")
        assert re.findall(r"^ {4}(\w+): ", described, re.MULTILINE) == list(each._fields), each


def test_the_reference_has_every_public_name_of_the_agents() -> None:
    shown = {
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    for name in shown:
        module, _, attribute = name.rpartition(".")
        assert importlib.util.find_spec(module) is not None
        assert hasattr(importlib.import_module(module), attribute) or importlib.util.find_spec(name), name
    errors = set(vars(importlib.import_module("pixelq.agents.errors")))
    assert {name.removeprefix("pixelq.agents.") for name in shown} >= set(pixelq.agents.__all__) - errors - {
        "__version__"
    }
