"""Arguments of environments, as runs note them."""

from typing import Any

import pytest

from pixelq.agents.storage.environments import ARGUMENTS, are_same_arguments

RAM: Any = {"env_kwargs": {"obs_type": "ram"}}


@pytest.mark.parametrize(
    ("own", "new", "same"),
    [
        (RAM | {"frame_size": 42}, RAM, True),  # earlier versions noted the size of pictures that there are not
        (RAM, RAM, True),
        (RAM | {"full_action_space": True}, RAM, False),
        ({"frame_size": 42}, {}, False),
        ({"frame_size": 42}, {"frame_size": 42}, True),
        ([], {}, False),
    ],
)
def test_a_run_goes_on_in_the_same_environments(own: Any, new: Any, same: bool) -> None:
    assert are_same_arguments({ARGUMENTS: own}, new) is same
