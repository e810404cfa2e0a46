"""The caller's devices. Spec: client-server-api module "Device Management"."""

from hashlib import sha256
from typing import Any

import msgspec

from hs.accounts.devices import Devices
from hs.accounts.ui_auth import AuthData, InteractiveAuth
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.ids import parse_user_id
from hs.storage.users import DeviceRow

_DEVICE = v3("/devices/{device_id}")


class DeviceBody(msgspec.Struct):
    """What can be changed of a device."""

    display_name: str | None = None


class DeleteBody(msgspec.Struct):
    """Proof for the end of a device."""

    auth: AuthData | None = None


class DeleteDevicesBody(msgspec.Struct):
    """Which devices to end, and proof."""

    devices: list[str]
    auth: AuthData | None = None


class DevicesApi:
    """Shows, names and ends devices."""

    def __init__(self, devices: Devices, auth: InteractiveAuth) -> None:
        self._devices = devices
        self._auth = auth

    @endpoint("GET", *v3("/devices"), auth=Auth.USER, limit="other")
    async def get_devices(self, caller: Caller) -> dict[str, Any]:
        """All of the caller's devices."""
        return {"devices": [_render(device) for device in await self._devices.list(caller.user_id)]}

    @endpoint("GET", *_DEVICE, auth=Auth.USER, limit="other")
    async def get_device(self, caller: Caller, device_id: str) -> dict[str, Any]:
        """One of the caller's devices."""
        return _render(await self._devices.get(caller.user_id, device_id))

    @endpoint("PUT", *_DEVICE, auth=Auth.USER, limit="other")
    async def put_device(self, caller: Caller, device_id: str, body: DeviceBody) -> Empty:
        """Give a device another name."""
        await self._devices.set_name(caller.user_id, device_id, body.display_name)
        return Empty()

    @endpoint("DELETE", *_DEVICE, auth=Auth.USER, limit="login")
    async def delete_device(self, caller: Caller, device_id: str, body: DeleteBody) -> Empty:
        """End a device's session and forget the device."""
        await self._auth.check_password(f"delete device {device_id}", caller.user_id, body.auth)
        await self._devices.delete(caller.user_id, [device_id])
        return Empty()

    @endpoint("POST", *v3("/delete_devices"), auth=Auth.USER, limit="login")
    async def post_delete_devices(self, caller: Caller, body: DeleteDevicesBody) -> Empty:
        """End the sessions of several devices and forget them."""
        # What was proven for these devices is not good for others.
        named = sha256(msgspec.json.encode(sorted(set(body.devices)))).hexdigest()
        operation = f"delete devices {named}"
        await self._auth.check_password(operation, caller.user_id, body.auth)
        await self._devices.delete(caller.user_id, body.devices)
        return Empty()

    @endpoint("GET", *v3("/admin/whois/{user_id}"), auth=Auth.USER, limit="other")
    async def get_whois(self, caller: Caller, user_id: str) -> dict[str, Any]:
        """Where a user's devices were last seen: one's own, or anybody's for administrators."""
        if not caller.is_admin:
            check_own(caller, user_id)
        parse_user_id(user_id)
        devices = await self._devices.list(user_id)
        return {
            "user_id": user_id,
            "devices": {device.device_id: _render_whois(device) for device in devices},
        }


def _render_whois(device: DeviceRow) -> dict[str, Any]:
    if device.last_seen_ip is None:
        return {"sessions": []}
    connection = {"ip": device.last_seen_ip, "last_seen": device.last_seen_ts}
    return {"sessions": [{"connections": [connection]}]}


def _render(device: DeviceRow) -> dict[str, Any]:
    # The schema wants texts, and clients (matrix-nio) want all of the keys: what is not known is empty.
    return {
        "device_id": device.device_id,
        "display_name": device.display_name or "",
        "last_seen_ip": device.last_seen_ip or "",
        "last_seen_ts": device.last_seen_ts or 0,
    }
