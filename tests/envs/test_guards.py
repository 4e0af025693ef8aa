"""Misuse that would hang, crash or silently corrupt the native environment, in processes with a time limit."""

import functools
import subprocess
import sys

import pytest

PRELUDE = """
import dataclasses, functools, os, sys, threading
import numpy as np
from pixelq.envs import PROTOCOLS, InvalidEnv, make_vec

STICKY = PROTOCOLS["sticky"]
GOOD = np.zeros(2, np.int64)

def new(num_envs=2):
    envs = make_vec("ALE/Pong-v5", num_envs)
    envs.reset()
    return envs

@functools.cache
def fresh():
    return new()

@functools.cache
def sent():
    envs = new()
    envs.send(GOOD)
    return envs

@functools.cache
def closed():
    envs = new()
    envs.send(GOOD)
    envs.close()
    return envs

def attempt(misuse):
    try:
        misuse()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    else:
        print("nothing was raised", flush=True)
"""


def run(code):
    """What the code printed. It runs under -O, where an `assert` guards nothing."""
    done = subprocess.run(
        [sys.executable, "-O", "-c", PRELUDE + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


INVALID = {
    "make_vec('ALE/Pong-v5', 0)": "num_envs must be an integer of at least 1, got 0",
    "make_vec('ALE/Pong-v5', -1)": "num_envs must be an integer of at least 1, got -1",
    "make_vec('CartPole-v1', 10**11)": "num_envs must be at most 1,048,576, got 100,000,000,000",
    "make_vec('ALE/Pong-v5', 1.5)": "num_envs must be an integer of at least 1, got 1.5",
    "make_vec('ALE/Pong-v5', 1, num_threads=-1)": "num_threads must be an integer of at least 0, got -1",
    "make_vec('ALE/Pong-v5', 1, -1)": "seed must be a non-negative integer, got -1",
    "fresh().reset(seed=-1)": "seed must be a non-negative integer, got -1",
    "make_vec('ALE/Joust-v5')": "'ALE/Joust-v5' has no single-player mode; choose another game",
    "make_vec('ALE/Combat-v5')": "'ALE/Combat-v5' has no single-player mode; choose another game",
    "make_vec('ALE/MazeCraze-v5')": "'ALE/MazeCraze-v5' has no single-player mode; choose another game",
    "make_vec('ALE/Warlords-v5')": "'ALE/Warlords-v5' has no single-player mode; choose another game",
    "make_vec('ALE/Pnog-v5')": "unknown environment 'ALE/Pnog-v5'; did you mean 'ALE/Pong-v5'?",
    "make_vec('ALE/Pong-v5', protocol='stikcy')": (
        "unknown protocol 'stikcy'; the protocols are sticky, nature, 100k, envpool"
    ),
    "dataclasses.replace(STICKY, repeat_action_probability=2)": "repeat_action_probability must be in [0, 1), got 2",
    "dataclasses.replace(STICKY, noop_max=-1)": "noop_max must be at least 0, got -1",
    "dataclasses.replace(STICKY, max_frames=0)": "max_frames must be in [1, 1000000000], got 0",
    "dataclasses.replace(STICKY, evaluation_epsilon=1.1)": "evaluation_epsilon must be in [0, 1], got 1.1",
}
WRONG_ACTIONS = {
    "np.array([0, -1])": "actions must be in 0..5, got -1..0",
    "np.array([6, 0])": "actions must be in 0..5, got 0..6",
    "np.array([0, 2**63], np.uint64)": "actions must be in 0..5, got 0..9223372036854775808",
    "np.zeros(2)": "actions must be integers of shape (2,), got float64 of shape (2,)",
    "np.zeros(2, bool)": "actions must be integers of shape (2,), got bool of shape (2,)",
    "np.zeros((2, 1), int)": "actions must be integers of shape (2,), got int64 of shape (2, 1)",
    "np.zeros(3, int)": "actions must be integers of shape (2,), got int64 of shape (3,)",
    "0": "actions must be integers of shape (2,), got int64 of shape ()",
    "None": "actions must be integers of shape (2,), got object of shape ()",
}
# A refused call leaves an environment as it was (tested below), so that others can follow it.
WRONG_ORDER = {
    "fresh().recv()": "recv was called without send; call send first",
    "sent().send(GOOD)": "send was called twice; call recv in between",
    "sent().step(GOOD)": "send was called twice; call recv in between",
    "sent().reset()": "reset was called between send and recv; call recv first",
    "make_vec('ALE/Pong-v5', 2).step(GOOD)": "the environment was not reset; call reset first",
    "closed().step(GOOD)": "the environment is closed; make a new one",
    "closed().reset()": "the environment is closed; make a new one",
    "closed().recv()": "the environment is closed; make a new one",
}
WRONG_OPTIONS = {"fresh().reset(options={'reset_mask': 1})": "reset takes no options, got ['reset_mask']"}
GROUPS = {
    "InvalidEnv": INVALID,
    "ValueError": {f"fresh().step({actions})": message for actions, message in WRONG_ACTIONS.items()} | WRONG_OPTIONS,
    "RuntimeError": WRONG_ORDER,
}


@functools.cache
def answers(error):
    """What each misuse of a group printed, in one process; after one that hangs or crashes there are no more."""
    misuses = list(GROUPS[error])
    code = PRELUDE + "".join(f"attempt(lambda: {misuse})\n" for misuse in misuses)
    try:
        output = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, timeout=60, check=False).stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
    return dict(zip(misuses, output.decode().splitlines(), strict=False))


@pytest.mark.parametrize(("error", "misuse"), [(error, misuse) for error, group in GROUPS.items() for misuse in group])
def test_misuse_is_refused_in_one_sentence(error, misuse):
    assert answers(error).get(misuse, "hung or crashed") == f"{error}: {GROUPS[error][misuse]}"


def test_an_environment_still_plays_after_a_refusal():
    code = """
envs, other = new(), new()
for bad in (GOOD - 1, GOOD + 6, GOOD / 2, GOOD[:1]):
    attempt(lambda: envs.step(bad))
attempt(envs.recv)
print(all((envs.step(GOOD)[0] == other.step(GOOD)[0]).all() for _ in range(20)))
"""
    lines = run(code).splitlines()
    assert [line.split(":")[0] for line in lines] == ["ValueError"] * 4 + ["RuntimeError", "True"]


def test_a_forked_child_is_refused_and_can_exit():
    code = """
envs = new()
child = os.fork()
if child == 0:
    for use in (lambda: envs.step(GOOD), envs.reset, envs.recv):
        attempt(use)
    envs.close()
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), envs.step(GOOD)[0].shape)
"""
    refusal = "RuntimeError: the environment was made in another process; make one in this process"
    assert run(code).splitlines() == [refusal] * 3 + ["3 (2, 4, 84, 84)"]


def test_two_threads_at_once_are_refused():
    code = """
envs = new()
entered, leave = threading.Event(), threading.Event()
native = envs._native
class Slow:
    def send(self, actions):
        entered.set()
        leave.wait()
        native.send(actions)
    def recv(self):
        return native.recv()
envs._native = Slow()
thread = threading.Thread(target=envs.send, args=(GOOD,))
thread.start()
entered.wait()
for use in (lambda: envs.step(GOOD), envs.reset, envs.recv):
    attempt(use)
leave.set()
thread.join()
print(envs.recv()[0].shape)  # one thread after another is fine
"""
    refusal = "RuntimeError: the environment is in use by another thread; use one environment from one thread"
    assert run(code).splitlines() == [refusal] * 3 + ["(2, 4, 84, 84)"]


def test_four_threads_stepping_freely_neither_hang_nor_crash():
    code = """
envs = new()
played, refused = [], []
def play():
    for _ in range(300):
        try:
            envs.step(GOOD)
            played.append(1)
        except RuntimeError:
            refused.append(1)
threads = [threading.Thread(target=play) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(played) > 0, len(refused) > 0, len(played) + len(refused))
"""
    assert run(code) == "True True 1200"


def test_closing_ends_the_emulation_threads():
    code = """
before = len(os.listdir("/proc/self/task"))
envs = sent()
during = len(os.listdir("/proc/self/task"))
envs.close()
envs.close()
print(during > before, len(os.listdir("/proc/self/task")) == before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("counts threads in /proc")
    assert run(code) == "True True"
