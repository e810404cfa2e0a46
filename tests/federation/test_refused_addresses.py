"""A running server does not connect to private addresses, whoever names them."""

from collections.abc import Awaitable, Callable

from tests.federation_town import FederationTown
from tests.interop.pairs import try_join
from tests.remote_server import RemoteServer


async def test_a_server_asks_nobody_on_private_addresses(
    make_federation: Callable[..., Awaitable[FederationTown]], remote: RemoteServer
) -> None:
    [town] = (await make_federation(1, network={})).towns
    bob = await town.person("bob")
    room = remote.make_room("12")
    port = remote.name.rpartition(":")[2]
    for name in (remote.name, f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", f"0.0.0.0:{port}"):
        answer = await try_join(bob, room.room_id, name)
        assert 400 <= answer.status < 600, answer
    assert remote.requests == []
    [open_town] = (await make_federation(1)).towns
    carol = await open_town.person("carol")
    assert (await try_join(carol, room.room_id, remote.name)).status == 200
