"""Addresses of Ray clusters, which are checked before Ray waits for them."""

import socket

import pytest

from pixelq.agents import UserError
from pixelq.agents.distributed.ray_address import check_answers


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
