"""Devices of the caller."""

# ruff: noqa: F401, F811 (fixtures are imported)

from typing import Any

from tests.account_server import AccountServer, accounts, town
from tests.admins import make_admin
from tests.client_api.test_account import proof
from tests.people import Person, Town


async def another_device(town: Town, person: Person, **more: Any) -> Person:
    answer = await town.visitor.post("login", body=proof(person) | more)
    return Person(town.session, town.base_url, answer.body)


async def test_devices_are_listed_with_when_they_were_seen(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    phone = await another_device(town, alice, device_id="PHONE", initial_device_display_name="Phone")
    accounts.clock.advance(5)
    assert (await phone.get("account", "whoami")).status == 200
    seen = {device["device_id"]: device for device in (await alice.get("devices")).body["devices"]}
    assert set(seen) == {alice.device_id, "PHONE"}
    assert seen["PHONE"] == {
        "device_id": "PHONE",
        "display_name": "Phone",
        "last_seen_ip": "127.0.0.1",
        "last_seen_ts": accounts.clock.ms,
    }
    assert (await alice.get("devices", "PHONE")).body == seen["PHONE"]
    assert (await alice.get("devices", "NONE")).error == (404, "M_NOT_FOUND")


async def test_a_device_gets_another_name(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    named = await alice.put("devices", alice.device_id, body={"display_name": "Laptop"})
    assert named.status == 200
    assert (await alice.get("devices", alice.device_id)).body["display_name"] == "Laptop"
    assert (await alice.put("devices", alice.device_id)).status == 200
    assert (await alice.get("devices", alice.device_id)).body["display_name"] == "Laptop"
    for device_id in ("NONE", bob.device_id):
        answer = await alice.put("devices", device_id, body={"display_name": "x"})
        assert answer.error == (404, "M_NOT_FOUND")
    for name in ("x" * 1000, "a\x00b"):
        answer = await alice.put("devices", alice.device_id, body={"display_name": name})
        assert answer.error == (400, "M_INVALID_PARAM")


async def test_a_deleted_device_is_logged_out(town: Town) -> None:
    alice = await town.person("alice")
    phone = await another_device(town, alice)
    assert (await alice.delete("devices", phone.device_id)).status == 401
    assert (await phone.get("account", "whoami")).status == 200
    done = await alice.ask("DELETE", "devices", phone.device_id, body={"auth": proof(alice)})
    assert (done.status, done.body) == (200, {})
    assert (await phone.get("account", "whoami")).error == (401, "M_UNKNOWN_TOKEN")
    assert (await alice.get("devices", phone.device_id)).error == (404, "M_NOT_FOUND")
    again = await alice.ask("DELETE", "devices", phone.device_id, body={"auth": proof(alice)})
    assert again.status == 200


async def test_a_device_is_not_deleted_with_somebody_elses_password(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    answer = await alice.ask("DELETE", "devices", alice.device_id, body={"auth": proof(bob)})
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await alice.get("devices", alice.device_id)).status == 200


async def test_several_devices_end_at_once_and_only_those_that_were_agreed_on(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    phone, tablet = await another_device(town, alice), await another_device(town, alice)
    body: dict[str, Any] = {"devices": [phone.device_id, bob.device_id, "a\x00b"]}
    session = (await alice.post("delete_devices", body=body)).body["session"]
    auth = proof(alice, session=session)
    more = await alice.post("delete_devices", body={"devices": [tablet.device_id], "auth": auth})
    assert more.error == (400, "M_UNKNOWN")
    assert (await alice.post("delete_devices", body={**body, "auth": auth})).status == 200
    assert (await phone.get("account", "whoami")).error == (401, "M_UNKNOWN_TOKEN")
    assert (await tablet.get("account", "whoami")).status == 200
    assert (await bob.get("account", "whoami")).status == 200


async def test_where_devices_were_last_seen(accounts: AccountServer, town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    admin = await make_admin(town)
    for caller in (alice, admin):
        answer = await caller.get("admin", "whois", alice.user_id)
        assert answer.body["user_id"] == alice.user_id
        [connection] = answer.body["devices"][alice.device_id]["sessions"][0]["connections"]
        assert connection == {"ip": "127.0.0.1", "last_seen": accounts.clock.ms}
    # Bob's device has not been seen yet.
    devices = (await admin.get("admin", "whois", bob.user_id)).body["devices"]
    assert devices == {bob.device_id: {"sessions": []}}
    assert (await admin.get("admin", "whois", "@nobody:test.example")).body["devices"] == {}
    assert (await bob.get("admin", "whois", alice.user_id)).error == (403, "M_FORBIDDEN")
    assert (await admin.get("admin", "whois", "nobody")).error == (400, "M_INVALID_PARAM")
    assert (await town.visitor.get("admin", "whois", alice.user_id)).status == 401
