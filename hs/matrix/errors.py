"""One exception class per errcode of the specification, each with its usual HTTP status.

They become JSON in one place, in `hs.http`. Spec: client-server-api "Standard error response", and the
error answers in the endpoints' own definitions. The identity service's codes are left out: no endpoint
of a homeserver answers with them.
"""

from typing import Any, ClassVar


class MatrixError(Exception):
    """An answer to a client or a peer in the spec's error shape.

    `status` is the HTTP status, `errcode` the spec's code; `extra` are further keys of the body, as
    some codes define them. An endpoint whose definition wants another status passes `http_status`.
    """

    status: int = 500
    errcode: ClassVar[str] = "M_UNKNOWN"

    def __init__(self, message: str, *, http_status: int | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extra = extra
        if http_status is not None:
            self.status = http_status

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer: errcode, error and the extra keys."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


# --- any endpoint -------------------------------------------------------------------------------


class Unknown(MatrixError):
    """M_UNKNOWN: no other code says it; clients go by the HTTP status."""

    status = 400
    errcode = "M_UNKNOWN"


class Forbidden(MatrixError):
    """M_FORBIDDEN: the caller may not do this; also a failed login."""

    status = 403
    errcode = "M_FORBIDDEN"


class NotFound(MatrixError):
    """M_NOT_FOUND: no such resource, or none that the caller may know of."""

    status = 404
    errcode = "M_NOT_FOUND"


class UnknownToken(MatrixError):
    """M_UNKNOWN_TOKEN: the access or refresh token is not valid; `soft_logout=True` keeps the device."""

    status = 401
    errcode = "M_UNKNOWN_TOKEN"


class MissingToken(MatrixError):
    """M_MISSING_TOKEN: the request needs an access token and has none."""

    status = 401
    errcode = "M_MISSING_TOKEN"


class BadJson(MatrixError):
    """M_BAD_JSON: valid JSON of the wrong shape, or not canonical where that is asked for."""

    status = 400
    errcode = "M_BAD_JSON"


class NotJson(MatrixError):
    """M_NOT_JSON: the body is not JSON."""

    status = 400
    errcode = "M_NOT_JSON"


class TooLarge(MatrixError):
    """M_TOO_LARGE: the request, or the event made of it, exceeds a size limit."""

    status = 413
    errcode = "M_TOO_LARGE"


class LimitExceeded(MatrixError):
    """M_LIMIT_EXCEEDED: too many requests; try again after `retry_after_ms` milliseconds."""

    status = 429
    errcode = "M_LIMIT_EXCEEDED"

    def __init__(self, message: str = "too many requests", *, retry_after_ms: int, **extra: Any) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms, **extra)
        self.retry_after_ms = retry_after_ms


class Unrecognized(MatrixError):
    """M_UNRECOGNIZED: no such endpoint."""

    status = 404
    errcode = "M_UNRECOGNIZED"


class MethodNotAllowed(Unrecognized):
    """M_UNRECOGNIZED with 405: the endpoint exists, but not with this method."""

    status = 405


class ResourceLimitExceeded(MatrixError):
    """M_RESOURCE_LIMIT_EXCEEDED: the server has reached a limit; `admin_contact` must be given."""

    status = 403
    errcode = "M_RESOURCE_LIMIT_EXCEEDED"

    def __init__(self, message: str, *, admin_contact: str, **extra: Any) -> None:
        super().__init__(message, admin_contact=admin_contact, **extra)


class UserLimitExceeded(MatrixError):
    """M_USER_LIMIT_EXCEEDED: the account has reached a limit; `info_uri` must be given."""

    status = 403
    errcode = "M_USER_LIMIT_EXCEEDED"

    def __init__(self, message: str, *, info_uri: str, **extra: Any) -> None:
        super().__init__(message, info_uri=info_uri, **extra)


class UnknownDevice(MatrixError):
    """M_UNKNOWN_DEVICE: the device an application service asserts is not the user's."""

    status = 400
    errcode = "M_UNKNOWN_DEVICE"


class UserLocked(MatrixError):
    """M_USER_LOCKED: the account is locked; clients keep their session (`soft_logout`)."""

    status = 401
    errcode = "M_USER_LOCKED"

    def __init__(self, message: str = "this account is locked", **extra: Any) -> None:
        super().__init__(message, **{"soft_logout": True, **extra})


class UserSuspended(MatrixError):
    """M_USER_SUSPENDED: the account is suspended and may do little."""

    status = 403
    errcode = "M_USER_SUSPENDED"


# --- parameters ---------------------------------------------------------------------------------


class InvalidParam(MatrixError):
    """M_INVALID_PARAM: a parameter has a wrong value."""

    status = 400
    errcode = "M_INVALID_PARAM"


class MissingParam(MatrixError):
    """M_MISSING_PARAM: a required parameter is missing."""

    status = 400
    errcode = "M_MISSING_PARAM"


# --- accounts -----------------------------------------------------------------------------------


class UserInUse(MatrixError):
    """M_USER_IN_USE: the user id is taken."""

    status = 400
    errcode = "M_USER_IN_USE"


class InvalidUsername(MatrixError):
    """M_INVALID_USERNAME: the wished-for name makes no valid user id."""

    status = 400
    errcode = "M_INVALID_USERNAME"


class Exclusive(MatrixError):
    """M_EXCLUSIVE: the name belongs to an application service, or lies outside of the caller's."""

    status = 400
    errcode = "M_EXCLUSIVE"


class WeakPassword(MatrixError):
    """M_WEAK_PASSWORD: the password does not meet this server's rules."""

    status = 400
    errcode = "M_WEAK_PASSWORD"


class Unauthorized(MatrixError):
    """M_UNAUTHORIZED: the request was not correctly authorised."""

    status = 401
    errcode = "M_UNAUTHORIZED"


class UserDeactivated(MatrixError):
    """M_USER_DEACTIVATED: the account is gone."""

    status = 403
    errcode = "M_USER_DEACTIVATED"


class GuestAccessForbidden(MatrixError):
    """M_GUEST_ACCESS_FORBIDDEN: no guests here."""

    status = 403
    errcode = "M_GUEST_ACCESS_FORBIDDEN"


class AppserviceLoginUnsupported(MatrixError):
    """M_APPSERVICE_LOGIN_UNSUPPORTED: application services must not log in this way here."""

    status = 400
    errcode = "M_APPSERVICE_LOGIN_UNSUPPORTED"


class CaptchaNeeded(MatrixError):
    """M_CAPTCHA_NEEDED: the request needs a captcha."""

    status = 401
    errcode = "M_CAPTCHA_NEEDED"


class CaptchaInvalid(MatrixError):
    """M_CAPTCHA_INVALID: the captcha was not solved."""

    status = 401
    errcode = "M_CAPTCHA_INVALID"


class ServerNotTrusted(MatrixError):
    """M_SERVER_NOT_TRUSTED: the request leans on a third server that this one does not trust."""

    status = 400
    errcode = "M_SERVER_NOT_TRUSTED"


class ThreepidInUse(MatrixError):
    """M_THREEPID_IN_USE: the third-party identifier is bound already."""

    status = 400
    errcode = "M_THREEPID_IN_USE"


class ThreepidNotFound(MatrixError):
    """M_THREEPID_NOT_FOUND: nobody here has this third-party identifier."""

    status = 400
    errcode = "M_THREEPID_NOT_FOUND"


class ThreepidAuthFailed(MatrixError):
    """M_THREEPID_AUTH_FAILED: the third-party identifier was not proven."""

    status = 401
    errcode = "M_THREEPID_AUTH_FAILED"


class ThreepidDenied(MatrixError):
    """M_THREEPID_DENIED: this server does not permit this third-party identifier."""

    status = 403
    errcode = "M_THREEPID_DENIED"


class ThreepidMediumNotSupported(MatrixError):
    """M_THREEPID_MEDIUM_NOT_SUPPORTED: identifiers of this medium cannot be added."""

    status = 400
    errcode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"


class KeyTooLarge(MatrixError):
    """M_KEY_TOO_LARGE: the name of the profile field is too long."""

    status = 400
    errcode = "M_KEY_TOO_LARGE"


class ProfileTooLarge(MatrixError):
    """M_PROFILE_TOO_LARGE: the profile would exceed its size limit."""

    status = 400
    errcode = "M_PROFILE_TOO_LARGE"


# --- rooms --------------------------------------------------------------------------------------


class RoomInUse(MatrixError):
    """M_ROOM_IN_USE: the alias is taken."""

    status = 400
    errcode = "M_ROOM_IN_USE"


class BadAlias(MatrixError):
    """M_BAD_ALIAS: an alias of m.room.canonical_alias does not lead to the room."""

    status = 400
    errcode = "M_BAD_ALIAS"


class UnsupportedRoomVersion(MatrixError):
    """M_UNSUPPORTED_ROOM_VERSION: a room of this version cannot be made here."""

    status = 400
    errcode = "M_UNSUPPORTED_ROOM_VERSION"


class IncompatibleRoomVersion(MatrixError):
    """M_INCOMPATIBLE_ROOM_VERSION: the room's version, `room_version`, is not one the other side has."""

    status = 400
    errcode = "M_INCOMPATIBLE_ROOM_VERSION"

    def __init__(self, message: str, *, room_version: str, **extra: Any) -> None:
        super().__init__(message, room_version=room_version, **extra)


class InvalidRoomState(MatrixError):
    """M_INVALID_ROOM_STATE: the first state of a new room contradicts itself."""

    status = 400
    errcode = "M_INVALID_ROOM_STATE"


class BadState(MatrixError):
    """M_BAD_STATE: the change makes no sense now, such as lifting a ban that is none."""

    status = 403
    errcode = "M_BAD_STATE"


class CannotLeaveServerNoticeRoom(MatrixError):
    """M_CANNOT_LEAVE_SERVER_NOTICE_ROOM: an invite to the server notices room cannot be refused."""

    status = 403
    errcode = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"


class InviteBlocked(MatrixError):
    """M_INVITE_BLOCKED: the invited user does not take invites from this sender."""

    status = 403
    errcode = "M_INVITE_BLOCKED"


class UnableToAuthoriseJoin(MatrixError):
    """M_UNABLE_TO_AUTHORISE_JOIN: this server cannot tell whether a restricted join is allowed."""

    status = 400
    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"


class UnableToGrantJoin(MatrixError):
    """M_UNABLE_TO_GRANT_JOIN: allowed, but no user of this server may invite: ask another server."""

    status = 400
    errcode = "M_UNABLE_TO_GRANT_JOIN"


class DuplicateAnnotation(MatrixError):
    """M_DUPLICATE_ANNOTATION: the user has given this event the same reaction before."""

    status = 400
    errcode = "M_DUPLICATE_ANNOTATION"


# --- keys, media, application services ------------------------------------------------------------


class WrongRoomKeysVersion(MatrixError):
    """M_WRONG_ROOM_KEYS_VERSION: not the current key backup; `current_version` says which is."""

    status = 403
    errcode = "M_WRONG_ROOM_KEYS_VERSION"

    def __init__(self, message: str, *, current_version: str, **extra: Any) -> None:
        super().__init__(message, current_version=current_version, **extra)


class InvalidSignature(MatrixError):
    """M_INVALID_SIGNATURE: an uploaded key's signature is wrong."""

    status = 400
    errcode = "M_INVALID_SIGNATURE"


class NotYetUploaded(MatrixError):
    """M_NOT_YET_UPLOADED: the media id exists, its content does not yet."""

    status = 504
    errcode = "M_NOT_YET_UPLOADED"


class CannotOverwriteMedia(MatrixError):
    """M_CANNOT_OVERWRITE_MEDIA: the media id has content already."""

    status = 409
    errcode = "M_CANNOT_OVERWRITE_MEDIA"


class UrlNotSet(MatrixError):
    """M_URL_NOT_SET: the application service has no URL to ping."""

    status = 400
    errcode = "M_URL_NOT_SET"


class BadStatus(MatrixError):
    """M_BAD_STATUS: what the application service answered; `status` and `body` may tell more."""

    status = 502
    errcode = "M_BAD_STATUS"


class ConnectionFailed(MatrixError):
    """M_CONNECTION_FAILED: the application service could not be reached."""

    status = 502
    errcode = "M_CONNECTION_FAILED"


class ConnectionTimeout(MatrixError):
    """M_CONNECTION_TIMEOUT: the application service took too long."""

    status = 504
    errcode = "M_CONNECTION_TIMEOUT"
