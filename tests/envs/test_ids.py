"""Ids of environments from the command line and from files: what is imported, and what they may hold."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from pixelq.envs import AtariVec, InvalidEnv, check_imported, env_id, frames_per_step, is_atari, make_filmed, make_vec

MODULES = {
    "envs_test_syntax": "x = (",
    "envs_test_exit": "import sys; sys.exit('\\x1b[31mgoodbye\\nnow')",
    "envs_test_interrupt": "raise KeyboardInterrupt",
    "envs_test_display": "raise OSError('cannot open display')",
    "envs_test_long": "raise ValueError('x' * 3_000_000)",
    "envs_test_fine": "import gymnasium\ngymnasium.register('EnvsTest-v0', 'pixelq.envs.catch:Catch')",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the modules importable, and forgets them afterwards."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    gymnasium.registry.pop("EnvsTest-v0", None)


STRANGE: list[Any] = [
    "ALE/x:y",
    "ALE/:",
    "ALE/",
    ":",
    "a:b:Game-v0",
    "..:Game-v0",
    "os/path:Game-v0",
    "x" * 3_000_000,
    "x" * 3_000_000 + ":Game-v0",
    "os:" + "x/" * 80,
    "\0",
    "os:\0",
    "\x1b[2J\x1b[31mred",
    "[/red]",
    "CartPole-v1\nand more",
    "\udc80",
    "",
    5,
    None,
    ["CartPole-v1"],
    [[]] * 100_000,
    {"id": "x" * 3_000_000},
    b"ALE/Pong-v5",
]


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: ascii(value)[:20])
def test_strange_ids_end_in_a_short_printable_sentence(value: Any) -> None:
    for make in (make_vec, make_filmed):
        with pytest.raises(InvalidEnv) as caught:
            make(value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) <= 400


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("envs_test_syntax", "'(' was never closed"),
        ("envs_test_exit", "SystemExit: \\x1b[31mgoodbye"),
        ("envs_test_interrupt", "KeyboardInterrupt"),
        ("envs_test_display", "cannot open display"),
        ("envs_test_long", "xxx...xxx"),
    ],
)
def test_a_module_that_cannot_be_imported(modules: None, module: str, why: str) -> None:
    with pytest.raises(InvalidEnv) as caught:
        make_vec(f"{module}:Game-v0")
    assert str(caught.value).startswith(f"the module '{module}' cannot be imported: ")
    assert why in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 400


def test_only_a_module_that_was_imported_passes_the_check_of_ids_from_files(modules: None) -> None:
    for known in ("CartPole-v1", "ALE/Pong-v5", "ale_py:ALE/Pong-v5", "os:Game-v0"):
        check_imported(known)
    with pytest.raises(InvalidEnv, match=r"needs the module 'envs_test_fine'.*--import envs_test_fine"):
        check_imported("envs_test_fine:EnvsTest-v0")
    assert "envs_test_fine" not in sys.modules
    envs = make_vec("envs_test_fine:EnvsTest-v0", 1)
    assert envs.env_id == "envs_test_fine:EnvsTest-v0"
    assert envs.reset()[0].shape == (1, 1, 10, 5)
    check_imported("envs_test_fine:EnvsTest-v0")
    with pytest.raises(InvalidEnv, match="cannot be made: "):
        make_vec("envs_test_fine:Nothing-v0")


def test_an_atari_id_with_the_module_of_ale_py_is_the_same_game() -> None:
    envs, film = make_vec("ale_py:ALE/Pong-v5", 1), make_filmed("ale_py:ALE/Pong-v5")
    assert isinstance(envs, AtariVec)
    assert envs.reset()[0].shape == (1, 4, 84, 84)
    assert (envs.env_id, envs.protocol.name) == (film.env_id, film.protocol.name) == ("ALE/Pong-v5", "sticky")
    assert (env_id(film), frames_per_step(envs)) == ("ALE/Pong-v5", 4)
    assert [is_atari(each) for each in ("games:ALE/Pong-v5", "ALE:Pong-v5", "games:Pong-v5")] == [True, False, False]


@pytest.mark.parametrize(("name", "value"), [("mode", 1), ("difficulty", 2), ("continuous", True), ("obs_type", "ram")])
def test_what_an_atari_id_was_registered_with_is_not_dropped(name: str, value: object) -> None:
    gymnasium.register("ALE/EnvsTest-v5", "ale_py.env:AtariEnv", kwargs={"game": "pong", name: value})
    try:
        with pytest.raises(InvalidEnv, match=f"'ALE/EnvsTest-v5' was registered with {name}={value!r}"):
            make_vec("ALE/EnvsTest-v5", 1)
        gymnasium.registry["ALE/EnvsTest-v5"].kwargs.pop(name)
        assert make_vec("ALE/EnvsTest-v5", 1).reset()[0].shape == (1, 4, 84, 84)
        gymnasium.registry["ALE/EnvsTest-v5"].entry_point = "pixelq.envs.catch:Catch"
        with pytest.raises(InvalidEnv, match="is no game of ale_py"):
            make_vec("ALE/EnvsTest-v5", 1)
    finally:
        del gymnasium.registry["ALE/EnvsTest-v5"]
