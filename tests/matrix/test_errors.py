import inspect

import pytest

from hs.matrix import errors
from hs.matrix.errors import LimitExceeded, MatrixError, MethodNotAllowed, NotFound, UnknownToken

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, MatrixError) and cls is not MatrixError
]

# client-server-api "Common error codes" and "Other error codes", and those that endpoints define by themselves.
SPEC_CODES = [
    "BAD_JSON",
    "FORBIDDEN",
    "LIMIT_EXCEEDED",
    "MISSING_TOKEN",
    "NOT_FOUND",
    "NOT_JSON",
    "RESOURCE_LIMIT_EXCEEDED",
    "UNKNOWN",
    "UNKNOWN_DEVICE",
    "UNKNOWN_TOKEN",
    "UNRECOGNIZED",
    "USER_LIMIT_EXCEEDED",
    "USER_LOCKED",
    "USER_SUSPENDED",
    "BAD_STATE",
    "CANNOT_LEAVE_SERVER_NOTICE_ROOM",
    "CAPTCHA_INVALID",
    "CAPTCHA_NEEDED",
    "EXCLUSIVE",
    "GUEST_ACCESS_FORBIDDEN",
    "INCOMPATIBLE_ROOM_VERSION",
    "INVALID_PARAM",
    "INVALID_ROOM_STATE",
    "INVALID_USERNAME",
    "MISSING_PARAM",
    "ROOM_IN_USE",
    "SERVER_NOT_TRUSTED",
    "THREEPID_AUTH_FAILED",
    "THREEPID_DENIED",
    "THREEPID_IN_USE",
    "THREEPID_MEDIUM_NOT_SUPPORTED",
    "THREEPID_NOT_FOUND",
    "TOO_LARGE",
    "UNAUTHORIZED",
    "UNSUPPORTED_ROOM_VERSION",
    "USER_DEACTIVATED",
    "USER_IN_USE",
    "APPSERVICE_LOGIN_UNSUPPORTED",
    "BAD_ALIAS",
    "BAD_STATUS",
    "CANNOT_OVERWRITE_MEDIA",
    "CONNECTION_FAILED",
    "CONNECTION_TIMEOUT",
    "DUPLICATE_ANNOTATION",
    "INVALID_SIGNATURE",
    "INVITE_BLOCKED",
    "KEY_TOO_LARGE",
    "NOT_YET_UPLOADED",
    "PROFILE_TOO_LARGE",
    "UNABLE_TO_AUTHORISE_JOIN",
    "UNABLE_TO_GRANT_JOIN",
    "URL_NOT_SET",
    "WEAK_PASSWORD",
    "WRONG_ROOM_KEYS_VERSION",
]


def test_each_code_of_the_spec_has_its_class() -> None:
    assert {cls.errcode for cls in CLASSES} == {f"M_{code}" for code in SPEC_CODES}


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_names_its_code_first(cls: type[MatrixError]) -> None:
    assert cls.__doc__ is not None
    assert cls.__doc__.startswith(cls.errcode)
    assert 400 <= cls.status < 600


def test_the_body_has_code_message_and_extras() -> None:
    error = UnknownToken("gone", soft_logout=True)
    assert error.to_dict() == {"errcode": "M_UNKNOWN_TOKEN", "error": "gone", "soft_logout": True}
    assert (error.status, str(error)) == (401, "gone")


def test_an_endpoint_may_want_another_status() -> None:
    assert NotFound("no such room", http_status=400).status == 400
    assert NotFound.status == 404


def test_a_wrong_method_is_unrecognized_too() -> None:
    assert (MethodNotAllowed.status, MethodNotAllowed.errcode) == (405, "M_UNRECOGNIZED")


def test_a_rate_limit_says_when_to_come_back() -> None:
    error = LimitExceeded(retry_after_ms=1500)
    assert error.retry_after_ms == 1500
    assert error.to_dict()["retry_after_ms"] == 1500
