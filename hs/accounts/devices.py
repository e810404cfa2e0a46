"""The devices of a user. Spec: client-server-api module "Device Management"."""

from collections.abc import Sequence

from hs.accounts.login import check_device_name
from hs.accounts.tokens import AccessTokens
from hs.matrix.errors import NotFound
from hs.storage.users import DeviceRow, UserStore


class Devices:
    """Reads, names and ends devices."""

    def __init__(self, users: UserStore, tokens: AccessTokens) -> None:
        self._users = users
        self._tokens = tokens

    async def list(self, user_id: str) -> list[DeviceRow]:
        """All devices of the user, by id."""
        # Somebody looks: "last seen" should be right to the second, not to the minute.
        await self._tokens.flush()
        return await self._users.list_devices(user_id)

    async def get(self, user_id: str, device_id: str) -> DeviceRow:
        """The device; NotFound where the user has no such one."""
        for device in await self.list(user_id):
            if device.device_id == device_id:
                return device
        raise NotFound("no such device")

    async def set_name(self, user_id: str, device_id: str, name: str | None) -> None:
        """Give the device another name; None leaves it. NotFound or InvalidParam where that cannot be."""
        check_device_name(name)
        if name is None:
            await self.get(user_id, device_id)
        elif not await self._users.set_device_name(user_id, device_id, name):
            raise NotFound("no such device")

    async def delete(self, user_id: str, device_ids: Sequence[str]) -> None:
        """End the sessions of these devices and forget them; those that are not there do no harm."""
        # The database has no text with a NUL, so there is no such device either.
        await self._tokens.delete_devices(user_id, [id for id in device_ids if "\x00" not in id])
