"""Signatures of JSON objects and of events.

Spec: appendices "Signing JSON"; server-server-api "Request Authentication", "Validating hashes and
signatures on received events"; rooms/v5 "Signing key validity period". Finding keys is not done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signedjson.types import SigningKey, VerifyKey

from hs._fast import canonical_json, event_hash
from hs.matrix.event import Event, pdu_dict
from hs.matrix.ids import is_user_id, server_of
from hs.matrix.keys import ALGORITHM, BadSignature, ServerKey, sign_bytes, verify_bytes
from hs.matrix.room_versions import EventIds


def sign_json(value: Mapping[str, Any], server_name: str, signing_key: SigningKey) -> dict[str, Any]:
    """A copy of the object with this server's signature added; `unsigned` is not covered.

    Raises CanonicalJsonError where the object has no canonical JSON.
    """
    signatures = sign_bytes(_signed_bytes(value), value.get("signatures", {}), server_name, signing_key)
    return {**value, "signatures": signatures}


def verify_json(value: Mapping[str, Any], server_name: str, key_id: str, verify_key: VerifyKey) -> None:
    """BadSignature unless the server has signed the object with this key.

    Spec: appendices "Checking for a Signature", steps 1 and 4 to 7; finding keys is the caller's.
    """
    signatures = value.get("signatures")
    by_key = signatures.get(server_name) if isinstance(signatures, dict) else None
    signature = by_key.get(key_id) if isinstance(by_key, dict) else None
    if not isinstance(signature, str):
        raise BadSignature(f"no signature by {server_name} with {key_id}")
    try:
        message = _signed_bytes(value)
    except canonical_json.CanonicalJsonError as error:
        raise BadSignature(str(error)) from error
    verify_bytes(message, signature, verify_key)


def _signed_bytes(value: Mapping[str, Any]) -> bytes:
    return canonical_json.encode({k: v for k, v in value.items() if k not in ("signatures", "unsigned")})


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """What there is to verify about an event: who must have signed, what, and the signatures."""

    required: frozenset[str]
    message: bytes
    signatures: Mapping[str, Mapping[str, str]]
    # Keys must have been valid at this time, in milliseconds; None before v5, where any known key counts.
    valid_at_ts: int | None

    def key_ids(self, server_name: str) -> list[str]:
        """The keys that the server signed with, of algorithms that we know."""
        return [k for k in self.signatures.get(server_name, ()) if k.startswith(ALGORITHM + ":")]


def signed_event(event: Event) -> SignedEvent:
    """What there is to verify about the event; BadSignature where no signature could be enough."""
    pdu = pdu_dict(event)
    return SignedEvent(
        required=required_signers(event),
        message=event_hash.bytes_to_sign(pdu, event.version.number),
        signatures=pdu["signatures"],
        valid_at_ts=event.origin_server_ts if event.version.enforces_key_validity else None,
    )


def required_signers(event: Event) -> frozenset[str]:
    """The servers whose signatures the event needs; BadSignature where one of them cannot exist."""
    signers = set()
    if not _is_third_party_invite(event):
        signers.add(server_of(event.sender))
    if event.version.event_ids is EventIds.GIVEN:
        # v1, v2: the id is the sender's free choice, so its server must stand by it.
        signers.add(server_of(event.event_id))
    if event.version.restricted_joins and event.type == "m.room.member":
        # Since v8, auth rule 4.2: a restricted join is signed by the server of the user who authorises it.
        authoriser = event.content.get("join_authorised_via_users_server")
        if authoriser is not None:
            if not is_user_id(authoriser):
                raise BadSignature("the user who authorises the join is no user")
            signers.add(server_of(authoriser))
    return frozenset(signers)


def verify_event_signature(event: Event, server_name: str, key_id: str, verify_key: VerifyKey) -> None:
    """BadSignature unless the server has signed the event with this key."""
    signed = signed_event(event)
    signature = signed.signatures.get(server_name, {}).get(key_id)
    if signature is None:
        raise BadSignature(f"no signature by {server_name} with {key_id}")
    verify_bytes(signed.message, signature, verify_key)


def verify_event_signatures(signed: SignedEvent, keys: Mapping[str, Mapping[str, ServerKey]]) -> None:
    """BadSignature unless every required server has signed, and none of the signatures we can check is wrong.

    `keys` are the known keys by key id, by server. Signatures of unknown keys, and of keys that were not valid
    at the event's time, are skipped as if they were not there. Fit for a thread: it takes time, and
    touches nothing else.
    """
    for server_name in sorted(signed.required):
        known = keys.get(server_name, {})
        is_signed = False
        for key_id in signed.key_ids(server_name):
            key = known.get(key_id)
            if key is None or (signed.valid_at_ts is not None and not key.covers(signed.valid_at_ts)):
                continue
            verify_bytes(signed.message, signed.signatures[server_name][key_id], key.verify_key)
            is_signed = True
        if not is_signed:
            raise BadSignature(f"no signature by {server_name} with a key that is known and valid")


def _is_third_party_invite(event: Event) -> bool:
    # Its sender is who made the third-party invite, its server the invited user's: the signed token, which the
    # auth rules check, stands in for the sender's signature.
    if event.type != "m.room.member" or event.content.get("membership") != "invite":
        return False
    invite = event.content.get("third_party_invite")
    return isinstance(invite, dict) and isinstance(invite.get("signed"), dict)
