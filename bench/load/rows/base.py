"""What a row is."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar, TypeVar

from bench.load.town import Town

_T = TypeVar("_T")


class Scale(Enum):
    """How much work a row does: SMALL shows that it works, FULL is what figures come from."""

    SMALL = "small"
    FULL = "full"

    def pick(self, small: _T, full: _T) -> _T:
        """The one of both that is meant."""
        return full if self is Scale.FULL else small


class Row(ABC):
    """Work for one server.

    Called in this order: `set_up` once; then for every round `prepare`, `run` (the only one that is
    measured), `finish`; `tear_down` at the end. The first round is thrown away unless `has_warm_up` is false.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    has_warm_up: ClassVar[bool] = True
    # Whether `run` may come again without `finish` and `prepare`, as profiles do it.
    is_repeatable: ClassVar[bool] = False

    def __init__(self, town: Town, scale: Scale) -> None:
        self.town = town
        self.scale = scale

    @abstractmethod
    async def set_up(self) -> None:
        """Make what all rounds need."""

    async def prepare(self) -> None:
        """Make what the next round needs."""
        return

    @abstractmethod
    async def run(self) -> int:
        """Do the work; how many units it was."""

    async def finish(self) -> None:
        """Check that the work was done (AssertionError), and end what still goes on."""
        return

    async def tear_down(self) -> None:
        """Undo what would disturb other rows."""
        return
