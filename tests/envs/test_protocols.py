"""Protocols with flicker, their rules as text, and the text that checksums of states start with."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import (
    GYMNASIUM,
    PROTOCOLS,
    AtariVec,
    FilmedAtari,
    InvalidEnv,
    has_published_rules,
    make_filmed,
    make_vec,
    resolve_protocol,
    with_flicker,
)

PONG = "ALE/Pong-v5"
ACTIONS = "('NOOP', 'FIRE', 'RIGHT', 'LEFT', 'RIGHTFIRE', 'LEFTFIRE')"
STICKY_TEXT = (
    "('ALE/Pong-v5', Protocol(name='sticky', repeat_action_probability=0.25, noop_max=0, life_loss_ends_return=False, "
    f"evaluation_epsilon=0.001, max_frames=108000), {ACTIONS})"
)
NATURE_TEXT = (
    "('ALE/Pong-v5', Protocol(name='nature', repeat_action_probability=0.0, noop_max=30, life_loss_ends_return=True, "
    f"evaluation_epsilon=0.05, max_frames=108000, noop_min=1), {ACTIONS}, 4, 0.5)"
)
ATARI_100K_TEXT = (
    "('ALE/Pong-v5', Protocol(name='100k', repeat_action_probability=0.0, noop_max=30, life_loss_ends_return=True, "
    f"evaluation_epsilon=0.001, max_frames=108000, noop_min=1), {ACTIONS}, 1, 0.0)"
)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"protocol": "sticky"}, STICKY_TEXT),
        ({"protocol": "nature", "flicker": 0.5}, NATURE_TEXT),
        ({"protocol": "nature+flicker=0.5"}, NATURE_TEXT),
        ({"protocol": "100k", "frame_stack": 1}, ATARI_100K_TEXT),
    ],
)
def test_checksums_start_with_the_text_of_saved_states(options, text):
    assert make_vec(PONG, 1, num_threads=1, **options)._game == text


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rules_are_the_name_and_the_flicker(name):
    assert PROTOCOLS[name].flicker == 0.0
    assert PROTOCOLS[name].rules == name
    assert resolve_protocol(name) is PROTOCOLS[name]
    flickering = with_flicker(name, 0.5)
    assert flickering == dataclasses.replace(PROTOCOLS[name], flicker=0.5)
    assert (flickering.name, flickering.rules) == (name, f"{name}+flicker=0.5")
    assert resolve_protocol(flickering) is flickering
    assert with_flicker(flickering, 0) == PROTOCOLS[name]
    assert with_flicker(f"{name}+flicker=0.25", 0.5) == flickering
    assert resolve_protocol(f"{name}+flicker=0") is PROTOCOLS[name]


@given(st.sampled_from(sorted(PROTOCOLS)), st.floats(0, 1, exclude_max=True))
def test_rules_give_back_their_protocol(name, flicker):
    protocol = with_flicker(name, flicker)
    assert resolve_protocol(protocol.rules) == protocol


def test_flicker_is_a_plain_number_whatever_it_was():
    protocol = with_flicker("sticky", np.float32(0.5))
    assert type(protocol.flicker) is float
    assert json.dumps(protocol.flicker) == "0.5"
    assert type(with_flicker("sticky", 0).flicker) is float


@pytest.mark.parametrize("flicker", [1.0, -0.1, float("nan"), float("inf"), True, "0.5", None])
def test_a_flicker_out_of_range_is_refused(flicker):
    for refuse in (
        lambda: dataclasses.replace(PROTOCOLS["sticky"], flicker=flicker),
        lambda: with_flicker("sticky", flicker),
    ):
        with pytest.raises(InvalidEnv) as caught:
            refuse()
        assert str(caught.value) == f"flicker must be a probability in [0, 1), got {flicker!r}"


@pytest.mark.parametrize(
    "rules",
    [
        "sticky+",
        "sticky+flicker",
        "sticky+flicker=",
        "sticky+flicker=half",
        "sticky+flicker=nan",
        "sticky+flicker=-0.5",
        "sticky+flicker= 0.5",
        "sticky+flicker=0.5 ",
        "sticky+flicker=0.5\n",
        "sticky+flicker=0.5+flicker=0.5",
        "sticky+flicker=50%",
        "sticky+blur=0.5",
        "sticky+flicker=٠.5",
    ],
)
def test_anything_else_after_the_name_is_refused(rules):
    with pytest.raises(InvalidEnv) as caught:
        resolve_protocol(rules)
    sentence = f"protocol must be a name or NAME+flicker=P, such as 'sticky+flicker=0.5', got {rules!r}"
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("sticky+flicker=1", "flicker must be a probability in [0, 1), got 1.0"),
        ("sticky+flicker=9e999", "flicker must be a probability in [0, 1), got inf"),
        ("stikcy+flicker=0.5", "unknown protocol 'stikcy'; the protocols are sticky, nature, 100k, envpool"),
        ("gymnasium+flicker=0.5", "unknown protocol 'gymnasium'"),
        ("+flicker=0.5", "unknown protocol ''"),
        ("", "unknown protocol ''"),
        (None, "unknown protocol None"),
        (3, "unknown protocol 3"),
    ],
)
def test_unknown_protocols_are_refused(rules, sentence):
    with pytest.raises(InvalidEnv) as caught:
        resolve_protocol(rules)
    assert str(caught.value).startswith(sentence)


@pytest.mark.slow
def test_the_argument_replaces_the_flicker_of_the_protocol():
    for make in (make_vec, make_filmed):
        for protocol, argument, flicker in (
            ("sticky", None, 0.0),
            ("sticky", 0.25, 0.25),
            ("sticky+flicker=0.5", None, 0.5),
            ("sticky+flicker=0.5", 0.25, 0.25),
            ("sticky+flicker=0.5", 0.0, 0.0),
        ):
            envs = make(PONG, protocol=protocol, flicker=argument)
            assert isinstance(envs, AtariVec | FilmedAtari)
            assert envs.protocol == with_flicker("sticky", flicker)
            assert envs.flicker == flicker
            with pytest.raises(AttributeError):
                envs.flicker = 0.1
            envs.close()


@pytest.mark.slow
def test_the_rules_and_the_argument_hide_the_same_frames():
    shown = []
    for options in ({"protocol": "sticky+flicker=0.5"}, {"flicker": 0.5}, {"protocol": "sticky"}):
        envs = make_vec(PONG, 2, 3, num_threads=1, **options)
        observations = [envs.reset()[0]]
        observations += [envs.step(np.array([1, 2]))[0] for _ in range(20)]
        shown.append(np.stack(observations))
    np.testing.assert_array_equal(shown[0], shown[1])
    assert (shown[0] != shown[2]).any()


def test_only_atari_games_take_a_flickering_protocol():
    for make in (make_vec, make_filmed):
        with pytest.raises(InvalidEnv, match=r"^only Atari games flicker; leave flicker out$"):
            make("CartPole-v1", protocol="sticky+flicker=0.5")
        envs = make("CartPole-v1", protocol="sticky+flicker=0.5", flicker=0)
        assert envs.protocol is GYMNASIUM
        envs.close()


@pytest.mark.parametrize("name", [*PROTOCOLS, "gymnasium"])
def test_only_sticky_actions_without_flicker_are_the_published_rules(name):
    assert has_published_rules(name) == (name == "sticky")
    assert not has_published_rules(f"{name}+flicker=0.5")


def test_a_name_that_would_be_read_as_flicker_is_refused() -> None:
    with pytest.raises(InvalidEnv, match=r"name must not contain '\+flicker='"):
        dataclasses.replace(PROTOCOLS["sticky"], name="mine+flicker=0.5")
    assert dataclasses.replace(PROTOCOLS["sticky"], name="mine+more").rules == "mine+more"
