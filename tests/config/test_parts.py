"""Names of parts: which can be registered, and which a configuration takes."""

import dataclasses
from functools import partial
from typing import Any, get_args, get_type_hints

import pytest

from pixelq.agents import AgentConfig, InvalidConfig, register_encoder, register_head, register_target
from pixelq.agents.config import parts
from pixelq.networks.encoders import ENCODERS

REGISTER = {"encoder": register_encoder, "head": register_head, "target": register_target}


@pytest.fixture(autouse=True)
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_REGISTERED", {"encoder": {}, "head": {}, "target": {}})


def make(*_: Any) -> None:
    pass


def test_the_built_in_names_are_those_of_the_types() -> None:
    hints = get_type_hints(AgentConfig)
    assert {kind: get_args(get_args(hints[kind])[0]) for kind in ("encoder", "head", "target")} == parts.BUILT_IN
    assert parts.BUILT_IN["encoder"] == ENCODERS


@pytest.mark.parametrize("kind", REGISTER)
def test_a_registered_name_is_a_value(kind: Any) -> None:
    with pytest.raises(InvalidConfig, match=f"^{kind} must be .*a registered name, got 'mine'; import the module"):
        AgentConfig(**{kind: "mine"})
    assert REGISTER[kind]("mine", make) is make
    assert REGISTER[kind]("other")(make) is make
    config = AgentConfig(**{kind: "mine"})
    assert AgentConfig.from_dict(config.to_dict()) == config
    assert parts.registered(kind, "mine") is make
    with pytest.raises(InvalidConfig, match=r"got 'mime'; did you mean 'mine'\?$"):
        AgentConfig(**{kind: "mime"})


@pytest.mark.parametrize("kind", REGISTER)
def test_names_that_cannot_be_registered(kind: Any) -> None:
    register = REGISTER[kind]
    for name in ("a b", "", "<E>", "1st", 3, None):
        with pytest.raises(InvalidConfig, match=f"name of the {kind} must be an identifier"):
            register(name, make)
    for name in parts.BUILT_IN[kind]:
        with pytest.raises(InvalidConfig, match="must not be that of a built-in one"):
            register(name, make)
    with pytest.raises(InvalidConfig, match=f"the {kind} 'mine' must be a function that can be called, got 3"):
        register("mine", 3)
    register("mine", make)
    for other in (print, lambda: None, partial(make)):
        with pytest.raises(InvalidConfig, match="must not be taken, got 'mine', which <function make"):
            register("mine", other)
    register("mine", make)


def test_a_function_that_is_defined_again_takes_its_name_again() -> None:
    cell = "@register_encoder('mine')\ndef mine(shape, config): return {}"
    for number in (1, 2):
        names: dict[str, Any] = {"register_encoder": register_encoder, "__name__": "__main__"}
        exec(cell.format(number), names)
    assert parts.registered("encoder", "mine")(None, None) == 2  # type: ignore[misc]


def test_settings_of_built_in_parts_are_free_for_own_ones() -> None:
    register_encoder("mine", make)
    register_head("mine", make)
    register_target("mine", make)
    assert AgentConfig(encoder="mine", encoder_width=3, spectral_norm=True, adaptive_pool=2).encoder_width == 3
    assert AgentConfig(head="mine", loss="squared", value_rescaling=True).loss == "squared"
    for name in ("double", "munchausen"):
        with pytest.raises(InvalidConfig, match=f"{name} must be False with a target rule of your own"):
            AgentConfig(target="mine", **{name: True})
    with pytest.raises(InvalidConfig, match="reset_every must be None with an encoder that was handed over"):
        dataclasses.replace(AgentConfig(encoder="<E>"), reset_every=10)
