"""The log of seeds and actions against lists that are written as simply as can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.envs import InvalidEnv
from pixelq.envs import anchors as anchors_module
from pixelq.envs.anchors import ActionLog
from tests.support.cases import examples

N, ACTIONS = 3, 4
RESET = "reset"
BASES = np.array([11, 0, 2**31 - 1])


class Lists:
    """What the log should be: for each environment the number of its anchor and a list of what came since."""

    def __init__(self):
        self.anchors, self.logs = [-1] * N, [[] for _ in range(N)]

    def append(self, values):
        for log, value in zip(self.logs, values, strict=True):
            log.append(value)

    def renew(self, mask):
        for k in np.flatnonzero(mask):
            self.anchors[k] += 1
            self.logs[k] = []


def seed_of(base, number):
    return base if number == 0 else int(np.random.SeedSequence([base, number]).generate_state(1)[0]) // 2


def filled(log, length):
    for step in range(length):
        log.append(np.full(N, step % ACTIONS))


def new_log():
    log = ActionLog(BASES, ACTIONS)
    log.reset(anew=True)
    return log


events = st.one_of(
    st.lists(st.integers(0, ACTIONS - 1), min_size=N, max_size=N),
    st.tuples(*[st.booleans()] * N),
    st.just(RESET),
    st.integers(1, 700),  # so many steps
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(events, max_size=25))
def test_equals_lists(script):
    log, lists = new_log(), Lists()
    lists.renew([True] * N)
    for event in script:
        if event == RESET:
            assert (log.reset(anew=False) == -1).all()
            lists.append([ACTIONS] * N)
        elif isinstance(event, int):
            filled(log, event)
            for step in range(event):
                lists.append([step % ACTIONS] * N)
        elif isinstance(event, tuple):
            seeds = log.renew(np.array(event))
            lists.renew(event)
            expected = [seed_of(int(b), a) if m else -1 for b, a, m in zip(BASES, lists.anchors, event, strict=True)]
            assert seeds.tolist() == expected
        else:
            log.append(np.array(event))
            lists.append(event)
    crcs = np.array([1, 2, 2**32 - 1], np.uint32)
    state = log.get_state(crcs)
    assert state["bases"].tolist() == BASES.tolist()
    assert state["anchors"].tolist() == lists.anchors
    assert state["lengths"].tolist() == [len(values) for values in lists.logs]
    assert state["actions"].tolist() == [value for values in lists.logs for value in values]
    assert state["actions"].dtype == np.uint8

    again, crcs_again = ActionLog.from_state(state, N, ACTIONS)
    np.testing.assert_array_equal(crcs_again, crcs)
    for name, array in again.get_state(crcs_again).items():
        np.testing.assert_array_equal(array, state[name], strict=True)
    assert_replays(again, lists)


def assert_replays(log, lists):
    """Following `replay` gives every environment its seed and then exactly its list."""
    played, begun = [[] for _ in range(N)], [None] * N
    for event in log.replay():
        if isinstance(event, tuple):
            seeds, mask = event
            for k in np.flatnonzero(mask):
                if seeds[k] >= 0:
                    played[k], begun[k] = [], int(seeds[k])
                else:
                    played[k].append(ACTIONS)
        else:
            assert event.dtype == np.int64
            assert all(event[k] == 0 for k in range(N) if begun[k] is None)
            for k in range(N):
                played[k].append(int(event[k]))
    assert played == lists.logs
    assert begun == [seed_of(int(b), a) for b, a in zip(BASES, lists.anchors, strict=True)]


def test_due_only_where_an_episode_ended_and_the_log_is_long(monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", 5)
    log, done = new_log(), np.array([True, False, True])
    filled(log, 3)
    log.renew(np.array([False, False, True]))
    filled(log, 2)
    assert log.due(done).tolist() == [False, False, False]  # of length 5, 5 and 2
    filled(log, 1)
    assert log.due(done).tolist() == [True, False, False]


def test_a_reset_of_all_is_written_down_and_renews_long_logs(monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", 5)
    log = new_log()
    filled(log, 5)
    log.renew(np.array([False, True, False]))
    seeds = log.reset(anew=False)
    assert seeds.tolist() == [seed_of(11, 1), -1, seed_of(2**31 - 1, 1)]
    state = log.get_state(np.zeros(N, np.uint32))
    assert state["lengths"].tolist() == [0, 1, 0]
    assert state["actions"].tolist() == [ACTIONS]


def test_no_more_rows_are_kept_than_the_longest_log_has():
    log = new_log()
    for _ in range(40):
        filled(log, 500)
        log.renew(np.array([True, True, True]))
    assert len(log._rows) == 1024
    filled(log, 5000)
    assert log.get_state(np.zeros(N, np.uint32))["lengths"].tolist() == [5000] * N


def test_many_actions_take_two_bytes():
    log = ActionLog(BASES, 300)
    log.reset(anew=True)
    log.append(np.array([299, 0, 256]))
    log.reset(anew=False)
    state = log.get_state(np.zeros(N, np.uint32))
    assert state["actions"].dtype == np.uint16
    assert state["actions"].tolist() == [299, 300, 0, 300, 256, 300]
    ActionLog.from_state(state, N, 300)


def test_the_state_is_a_copy():
    log = new_log()
    filled(log, 3)
    state = log.get_state(np.zeros(N, np.uint32))
    filled(log, 3)
    log.renew(np.array([True] * N))
    assert state["lengths"].tolist() == [3] * N
    assert state["anchors"].tolist() == [0] * N
    restored, _ = ActionLog.from_state(state, N, ACTIONS)
    restored.renew(np.array([True] * N))
    assert state["anchors"].tolist() == [0] * N


def test_resets_of_some_are_refused():
    log = new_log()
    filled(log, 2)
    log.renew(np.array([True, False, False]))
    log.append(np.zeros(N))
    log.reset(anew=False)
    state = log.get_state(np.zeros(N, np.uint32))
    ActionLog.from_state(state, N, ACTIONS)
    for position, value in ((1, 0), (0, ACTIONS), (3, ACTIONS)):
        changed = {**state, "actions": state["actions"].copy()}
        changed["actions"][position] = value
        with pytest.raises(InvalidEnv, match="the state's actions must reset all environments at once"):
            ActionLog.from_state(changed, N, ACTIONS)
    alone = {**state, "actions": state["actions"].copy()}
    alone["actions"][[2, 6]] = ACTIONS  # the first environment's log began later
    ActionLog.from_state(alone, N, ACTIONS)
