"""Why another server could not be asked, or would not answer. Nothing of what it says reaches a client from here."""


class RemoteError(Exception):
    """Somebody else's server did not do what it was asked; the message is for our log."""


class Unreachable(RemoteError):
    """No connection: no such name, nobody listens, the connection broke, or it is left alone for now."""


class TimedOut(Unreachable):
    """It took too long."""


class BadCertificate(Unreachable):
    """It could not prove who it is."""


class AddressRefused(Unreachable):
    """Its address is one that we do not connect to."""


class TooLong(RemoteError):
    """The answer is larger than it may be."""


class BadAnswer(RemoteError):
    """The answer is no JSON, or none of the right shape."""


class RemoteRefused(RemoteError):
    """It answered with an error: the HTTP status, and the error code where there was one.

    `room_version` is that of the room, where that is what was wrong.
    """

    def __init__(self, status: int, errcode: str, message: str, room_version: str | None = None) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode
        self.message = message
        self.room_version = room_version
