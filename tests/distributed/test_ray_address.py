"""Addresses of Ray clusters, which are checked before Ray waits for them."""

import socket
import sys
from typing import Any

import pytest

from pixelq.agents import UserError
from pixelq.agents.distributed import ray_launcher
from pixelq.agents.distributed.ray_address import LOCAL_ATTEMPTS, check_answers, connect
from pixelq.agents.errors import RunFailed


@pytest.mark.parametrize("takes_clients", [False, True])
@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "a..b:1", "ray://127.0.0.1:1", "localhost", "h:70000", "h:x", ":1", "h:1/2"]
)
def test_what_is_no_cluster_is_refused(address: str, takes_clients: bool) -> None:
    is_address = address in ("127.0.0.1:1", "a..b:1") or (takes_clients and address.startswith("ray://"))
    sentence = "no Ray cluster answers at" if is_address else "`ray_address` must be HOST:PORT"
    with pytest.raises(UserError, match=sentence) as caught:
        check_answers(address, takes_clients=takes_clients)
    assert ("ray://HOST:PORT" in str(caught.value)) == (takes_clients and not is_address)


def test_what_answers_is_taken() -> None:
    check_answers("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_answers(f"127.0.0.1:{port}")
        check_answers(f"ray://127.0.0.1:{port}", takes_clients=True)


class BusyRay:
    """Ray on a machine where it can be started only after some attempts."""

    def __init__(self, failures: int) -> None:
        self.failures, self.attempts, self.is_shut_down = failures, 0, True

    def init(self, address: str | None, **options: Any) -> None:
        assert self.is_shut_down
        self.attempts, self.is_shut_down = self.attempts + 1, False
        if self.attempts <= self.failures:
            raise Exception("too slow")  # as Ray does

    def shutdown(self) -> None:
        self.is_shut_down = True


def test_ray_is_started_here_in_several_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = BusyRay(LOCAL_ATTEMPTS - 1)
    connect(ray, "local")
    assert (ray.attempts, ray.is_shut_down) == (LOCAL_ATTEMPTS, False)
    for address, attempts in (("local", LOCAL_ATTEMPTS), (None, LOCAL_ATTEMPTS), ("10.0.0.1:6379", 1)):
        ray = BusyRay(LOCAL_ATTEMPTS)
        with pytest.raises(Exception, match="too slow"):
            connect(ray, address)
        assert (ray.attempts, ray.is_shut_down) == (attempts, True)
    monkeypatch.setitem(sys.modules, "ray", BusyRay(LOCAL_ATTEMPTS))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.raises(RunFailed, match="Ray cannot be started: too slow"):
        ray_launcher._connected(None)
