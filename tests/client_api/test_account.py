"""The caller's account: whoami, password, deactivation."""

# ruff: noqa: F401, F811 (fixtures are imported)

from typing import Any

from tests.account_server import AccountServer, accounts, town
from tests.people import Answer, Person, Town


def proof(person: Person, password: str | None = None, session: str | None = None) -> dict[str, Any]:
    name = person.user_id[1:].partition(":")[0]
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": person.user_id},
        "password": f"{name} has a secret" if password is None else password,
    }
    return auth | ({} if session is None else {"session": session})


async def log_in(town: Town, person: Person, password: str | None = None) -> Answer:
    return await town.visitor.post("login", body=proof(person, password))


async def test_a_new_password_needs_the_old_one(town: Town) -> None:
    alice = await town.person("alice")
    asked = await alice.post("account", "password", body={"new_password": "next"})
    assert asked.status == 401
    assert asked.body["flows"] == [{"stages": ["m.login.password"]}]
    session = asked.body["session"]

    wrong = proof(alice, "wrong", session)
    failed = await alice.post("account", "password", body={"new_password": "next", "auth": wrong})
    assert failed.error == (401, "M_FORBIDDEN")
    assert failed.body["session"] == session

    right = proof(alice, session=session)
    done = await alice.post("account", "password", body={"new_password": "next", "auth": right})
    assert (done.status, done.body) == (200, {})
    assert (await log_in(town, alice)).error == (403, "M_FORBIDDEN")
    assert (await log_in(town, alice, "next")).status == 200


async def test_a_new_password_logs_the_other_devices_out(town: Town) -> None:
    alice = await town.person("alice")
    other = Person(town.session, town.base_url, (await log_in(town, alice)).body)
    body = {"new_password": "next", "auth": proof(alice)}
    assert (await alice.post("account", "password", body={**body, "logout_devices": False})).status == 200
    assert (await other.get("account", "whoami")).status == 200
    body = {"new_password": "third", "auth": proof(alice, "next")}
    assert (await alice.post("account", "password", body=body)).status == 200
    assert (await other.get("account", "whoami")).error == (401, "M_UNKNOWN_TOKEN")
    assert (await alice.get("account", "whoami")).status == 200


async def test_somebody_elses_password_is_no_proof(town: Town) -> None:
    alice, mallory = await town.people("alice", "mallory")
    answer = await alice.post("account", "deactivate", body={"auth": proof(mallory)})
    assert answer.error == (403, "M_FORBIDDEN")


async def test_proof_for_one_thing_is_not_spent_on_another(town: Town) -> None:
    alice, mallory = await town.people("alice", "mallory")
    session = (await alice.post("account", "password", body={"new_password": "next"})).body["session"]
    auth = proof(alice, session=session)
    assert (await alice.post("account", "deactivate", body={"auth": auth})).error == (400, "M_UNKNOWN")
    body = {"new_password": "next", "auth": auth}
    assert (await mallory.post("account", "password", body=body)).error == (400, "M_UNKNOWN")


async def test_an_empty_password_is_refused(town: Town) -> None:
    alice = await town.person("alice")
    body = {"new_password": "", "auth": proof(alice)}
    assert (await alice.post("account", "password", body=body)).error == (400, "M_WEAK_PASSWORD")
    assert (await alice.get("account", "whoami")).status == 200


async def test_a_closed_account_is_closed_for_good(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    name = alice.user_id[1:].partition(":")[0]
    assert (await alice.post("account", "deactivate")).status == 401
    done = await alice.post("account", "deactivate", body={"auth": proof(alice)})
    assert done.body == {"id_server_unbind_result": "no-support"}
    assert accounts.deactivated == [alice.user_id]
    assert (await alice.get("account", "whoami")).error == (401, "M_UNKNOWN_TOKEN")
    assert (await log_in(town, alice)).error == (403, "M_USER_DEACTIVATED")
    assert (await town.visitor.get("profile", alice.user_id)).error == (404, "M_NOT_FOUND")
    taken = await town.visitor.get("register", "available", username=name)
    assert taken.error == (400, "M_USER_IN_USE")


async def test_honest_empty_answers(town: Town) -> None:
    alice = await town.person("alice")
    assert (await alice.get("account", "3pid")).body == {"threepids": []}
    assert (await alice.get("pushers")).body == {"pushers": []}
    assert (await alice.get("voip", "turnServer")).body == {}
    assert (await alice.get("thirdparty", "protocols")).body == {}
    assert (await alice.get("thirdparty", "location", alias="#a:test.example")).body == []
    assert (await alice.get("thirdparty", "user", userid=alice.user_id)).body == []
    assert (await alice.get("thirdparty", "protocol", "irc")).error == (404, "M_NOT_FOUND")
    for kind in ("location", "user"):
        assert (await alice.get("thirdparty", kind)).error == (400, "M_MISSING_PARAM")
