"""Classes and functions by name: what is a name, where it leads, and which names of a file are followed."""

import functools
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.wrappers import FlattenObservation
from hypothesis import given
from hypothesis import strategies as st

from pixelq.agents.storage.environments import FromFile
from pixelq.envs import Catch, InvalidEnv, import_module, make_vec, named
from pixelq.envs.named import Named, is_named, name_of, parse_named, resolve, split_named
from tests.support.own_envs import Line, Times

OWN = "tests.support.own_envs"
TEXTS = st.text("ab,:=()[]{}'\"\\ \né", max_size=6)
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(["a", "b", "size", "γ", "self", "func"])
NAMES = st.builds(Named, st.just(OWN), st.sampled_from(["Line", "Times"]), st.dictionaries(KEYS, LITERALS, max_size=3))


@pytest.fixture
def untrusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_trusted", set())


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_a_list_of_names_is_read_as_it_was_written(names: list[Named]) -> None:
    texts = [str(name) for name in names]
    if all(map(is_named, texts)):  # not too long
        assert split_named(" , ".join(texts)) == texts
        assert [parse_named(text, "wrapper") for text in texts] == names


@given(st.text(string.printable, max_size=40))
def test_any_text_is_a_name_or_refused_in_a_sentence(text: str) -> None:
    for shown in (text, f"os:system({text})", f"{text}:system"):
        found: Named | None = None
        sentence = "wrapper"
        try:
            found = parse_named(shown, "wrapper")
        except InvalidEnv as error:
            sentence = str(error)
        assert sentence.isprintable()
        assert "wrapper" in sentence
        assert found is None or parse_named(str(found), "wrapper") == found


@pytest.mark.parametrize(
    "text",
    [
        "Line",
        f"{OWN}:",
        f"{OWN}:Line(",
        f"{OWN}:Line(5)",
        f"{OWN}:Line(size=5)(size=6)",
        f"{OWN}:Line(size=f())",
        f"{OWN}:Line(size=1e999)",
        f"{OWN}:Line(**{{}})",
        f"{OWN}:Line(size=1, size=2)",
        f"{OWN}:Line(size={'-' * 900}1)",
        f"{OWN}:Line(size={'[' * 450}{']' * 450})",
        f"{OWN}:Line(size='{'x' * 10**6}')",
        f"{OWN}:Line.__init__.__globals__",
        f"{OWN}:Line.__init__",
        f"{OWN}:np.zeros",
        f"{OWN}:np",
        f"{OWN}:__builtins__",
        "..:Line",
        f"{OWN}:Line; import os",
        f"{OWN}:Line(size=5) or f(x=1)",
        5,
    ],
    ids=lambda text: str(text)[-40:],
)
def test_what_is_no_name(text: Any) -> None:
    with pytest.raises(InvalidEnv) as caught:
        resolve(text, "wrapper")
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("text", ["a:b(x=1),", "a:b,,c:d", "a:b(x=(1, c:d", "a:b(x='1), c:d", "a:b)"])
def test_lists_that_are_not_whole(text: str) -> None:
    with pytest.raises(InvalidEnv, match="names must be"):
        split_named(text)


def test_names_lead_back() -> None:
    small = functools.partial(functools.partial(Line, size=3), prize=2.0)
    assert (name_of(Line), name_of(Line.long)) == (f"{OWN}:Line", f"{OWN}:Line.long")
    assert name_of(small) == f"{OWN}:Line(size=3, prize=2.0)"
    made = resolve(str(name_of(small)), "environment")()
    assert (made.size, made.prize) == (3, 2.0)
    assert resolve(f"{OWN}:Line.long", "environment")().size == 9
    assert name_of(gymnasium.wrappers.TimeLimit) == "gymnasium.wrappers:TimeLimit"  # and not its inner module
    local: Any = type("Line", (), {"__module__": OWN})
    without: list[Any] = [lambda env: env, local, functools.partial(Line, 3), functools.partial(Line, size=object())]
    assert [name_of(each) for each in [*without, Line(), functools.partial(Line, size=float("nan")), 5]] == [None] * 7


@pytest.mark.usefixtures("untrusting")
class TestTrust:
    @pytest.mark.parametrize(
        ("text", "module"),
        [
            ("subprocess:run(args='x')", "subprocess"),
            ("os:system", "os"),
            (f"{OWN}:Times", OWN),
            ("no_such_module:Times", "no_such_module"),
            ("gymnasium.wrappers:RecordVideo(video_folder='x')", "gymnasium.wrappers"),
            ("gymnasium.wrappers.vector:RecordVideo", "gymnasium.wrappers.vector"),
            ("pixelq.envs.make:make_vec", "pixelq.envs.make"),
            ("pixelq.agents.storage.files:replace_file", "pixelq.agents.storage.files"),
            ("builtins:exec", "builtins"),
        ],
    )
    def test_a_name_from_a_file_is_not_followed(self, text: str, module: str) -> None:
        loaded = set(sys.modules)
        with pytest.raises(InvalidEnv, match=f"--import {module}, or") as caught:
            resolve(FromFile(text), "wrapper")
        assert f"import_module('{module}')" in str(caught.value)
        assert set(sys.modules) == loaded

    def test_until_the_user_names_the_module(self) -> None:
        text = FromFile(f"{OWN}:Times(by=3.0)")
        import_module(OWN)
        assert resolve(text, "wrapper").keywords == {"by": 3.0}  # type: ignore[attr-defined]

    def test_what_the_user_writes_or_hands_over_is_followed_and_trusted(self) -> None:
        assert resolve(f"{OWN}:Times", "wrapper") is Times
        assert resolve(FromFile(f"{OWN}:Line"), "wrapper") is Line

    def test_a_package_is_trusted_with_what_is_in_it_and_no_more(self) -> None:
        import_module("tests.support")
        assert resolve(FromFile(f"{OWN}:Line"), "environment") is Line
        for text in ("tests.envs.test_named:Line", "tests.supportive:Line"):
            with pytest.raises(InvalidEnv, match="only you can say"):
                resolve(FromFile(text), "environment")

    def test_a_trusted_module_passes_nothing_on_from_others(self) -> None:
        import_module(__name__)  # which holds `name_of` and others of other packages
        assert subprocess.run is not None
        for name in ("name_of", "functools.partial", "subprocess.run", "Path"):
            with pytest.raises(InvalidEnv, match=r"must be a class of|only you can say|has no class"):
                resolve(FromFile(f"{__name__}:{name}"), "wrapper")
        assert resolve(FromFile(f"{__name__}:Line"), "environment") is Line  # of a module beside it

    def test_public_wrappers_and_environments_need_none(self) -> None:
        found = resolve(FromFile("gymnasium.wrappers:TimeLimit(max_episode_steps=5)"), "wrapper")
        assert found.keywords == {"max_episode_steps": 5}  # type: ignore[attr-defined]
        assert resolve(FromFile("pixelq.envs:Catch"), "environment")().observation_space.shape == (1, 10, 5)

    @pytest.mark.parametrize("name", ["make_vec(id='os:getpid()')", "import_module(module='wave')", "Catch.mro"])
    def test_nothing_else_of_their_packages_is_called_even_if_they_are_trusted(self, name: str) -> None:
        import_module("pixelq.envs")
        for text in (f"pixelq.envs:{name}", f"pixelq.envs:GymnasiumVec.{name}"):
            with pytest.raises(InvalidEnv, match="must be a class of environments or wrappers"):
                resolve(FromFile(text), "environment")

    def test_the_use_of_one_of_them_opens_no_other(self, tmp_path: Path) -> None:
        """Two files in one process, the first of which is harmless."""
        make_vec(FromFile("pixelq.envs:Catch"), 1, wrappers=[FromFile("gymnasium.wrappers:FlattenObservation")]).close()
        make_vec(Catch, 1, wrappers=[FlattenObservation, "gymnasium.wrappers:RecordEpisodeStatistics"]).close()
        make_vec("pixelq.envs:Catch(rows=5)", 1).close()
        call = f"os:mkdir(path={str(tmp_path / 'ran')!r})"
        for env in (f"pixelq.envs:make_vec(id={call!r},num_envs=1)", call, "pixelq.envs:import_module(module='wave')"):
            with pytest.raises(InvalidEnv, match=r"must be a class of|only you can say"):
                make_vec(FromFile(env), 1)
        film = FromFile(f"gymnasium.wrappers:RecordVideo(video_folder={str(tmp_path / 'ran')!r})")
        with pytest.raises(InvalidEnv, match="only you can say"):
            make_vec("pixelq/Catch-v0", 1, wrappers=[film])
        assert not any(tmp_path.iterdir())

    def test_a_name_from_a_file_stays_one(self) -> None:
        import_module(OWN)
        envs = make_vec(FromFile(f"{OWN}:Line()"), 1, wrappers=[FromFile(f"{OWN}:Times(by=3.0)")])
        assert [envs.env_id, *envs.arguments["wrappers"]] == [f"{OWN}:Line", f"{OWN}:Times(by=3.0)"]
        assert all(isinstance(name, FromFile) for name in (envs.env_id, *envs.arguments["wrappers"]))

    def test_a_script_is_found_in_its_own_process_alone(self) -> None:
        with pytest.raises(InvalidEnv, match="defined in the script or notebook that trained; move it into a module"):
            resolve(FromFile("__main__:Line"), "environment")
