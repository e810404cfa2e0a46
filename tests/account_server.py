"""The endpoints about accounts over real HTTP, in this process: no rooms, any clock, any limits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from hs.accounts.account_data import AccountData
from hs.accounts.devices import Devices
from hs.accounts.filters import Filters
from hs.accounts.login import Login
from hs.accounts.login_tokens import LoginTokens
from hs.accounts.management import AccountManagement
from hs.accounts.overrides import Limit, RateLimitOverrides
from hs.accounts.passwords import Passwords
from hs.accounts.profiles import Profiles
from hs.accounts.push_rules import UserPushRules
from hs.accounts.registration import Registration
from hs.accounts.tokens import AccessTokens, TokenLifetimes
from hs.accounts.ui_auth import InteractiveAuth
from hs.admin_api.register import RegisterApi
from hs.client_api.account import AccountApi
from hs.client_api.account_data import AccountDataApi
from hs.client_api.devices import DevicesApi
from hs.client_api.filters import FiltersApi
from hs.client_api.login import LoginApi
from hs.client_api.profile import ProfileApi
from hs.client_api.push_rules import PushRulesApi
from hs.client_api.registration import RegistrationApi
from hs.client_api.small_answers import SmallAnswersApi
from hs.client_api.versions import CapabilitiesApi, VersionsApi
from hs.http.app import App
from hs.http.listeners import build_http_server
from hs.http.rate_limit import RateLimiter
from hs.net.fetch_budget import FetchBudget
from hs.storage.database import Database
from hs.storage.profiles import ProfileStore
from hs.storage.refresh_tokens import RefreshTokenStore
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore, FilterStore
from hs.storage.users import UserStore
from tests.people import Town

SERVER_NAME = "test.example"
SHARED_SECRET = "only for tests"


@dataclass
class TestClock:
    """Time that passes only when told to."""

    __test__ = False

    ms: int = 1_700_000_000_000

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.ms

    def monotonic(self) -> float:
        """Seconds since some time."""
        return self.ms / 1000

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.ms += round(seconds * 1000)


@dataclass
class AccountServer:
    """Services of accounts on a database, and their endpoints; change fields before `serve`."""

    database: Database
    clock: TestClock = field(default_factory=TestClock)
    limit: Limit | None = None
    is_registration_enabled: bool = True
    registration_tokens: Sequence[str] = ()
    lifetimes: TokenLifetimes = field(default_factory=TokenLifetimes)
    trusts_proxy: bool = False
    more_apis: Sequence[object] = ()
    profile_changes: list[str] = field(default_factory=list)
    deactivated: list[str] = field(default_factory=list)
    account_data_news: list[tuple[str, int]] = field(default_factory=list)
    shared_secret: str = SHARED_SECRET

    def __post_init__(self) -> None:
        self.users = UserStore(self.database)
        self.passwords = Passwords()
        self.tokens = AccessTokens(self.users, RefreshTokenStore(self.database), self.clock, self.lifetimes)
        self.overrides = RateLimitOverrides(self.users, self.clock.monotonic)
        self.registration = Registration(self.users, self.passwords, SERVER_NAME, self.clock)
        self.login = Login(self.users, self.passwords, self.tokens, SERVER_NAME)
        self.profiles = Profiles(ProfileStore(self.database), SERVER_NAME)
        self.account_data_store = AccountDataStore(
            self.database, StreamIds(0), lambda *news: self.account_data_news.append(news)
        )
        self.account_data = AccountData(self.account_data_store)

    def build_app(self) -> App:
        """The app of a listener."""
        auth = InteractiveAuth(self.login, self.registration_tokens, self.clock.monotonic)
        limit = self.limit or Limit(1, 1)
        limiter = RateLimiter(self.limit is not None, lambda _: limit, self.overrides, self.clock.monotonic)
        accounts = AccountManagement(
            self.users, self.passwords, self.tokens, self.profiles, self._on_deactivated
        )
        apis = [
            VersionsApi(),
            CapabilitiesApi(),
            LoginApi(self.login, LoginTokens(self.login, self.clock.monotonic), auth, self.tokens, limiter),
            RegistrationApi(self.registration, self.login, auth, self.is_registration_enabled),
            AccountApi(accounts, auth),
            DevicesApi(Devices(self.users, self.tokens), auth),
            ProfileApi(self.profiles, self._on_profile_change, None, FetchBudget(lambda: 0)),
            AccountDataApi(self.account_data),
            FiltersApi(Filters(FilterStore(self.database))),
            PushRulesApi(UserPushRules(self.account_data_store)),
            SmallAnswersApi(),
            RegisterApi(self.registration, self.login, limiter, self.shared_secret, self.clock.monotonic),
            *self.more_apis,
        ]
        return App(apis, self.tokens, limiter, self.trusts_proxy)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Town]:
        """People who can reach it."""
        async with serve_app(self.build_app()) as base_url, aiohttp.ClientSession() as session:
            try:
                yield Town(session, base_url, SERVER_NAME)
            finally:
                await self.tokens.close()
                self.passwords.close()

    async def _on_deactivated(self, user_id: str) -> None:
        self.deactivated.append(user_id)

    async def _on_profile_change(self, user_id: str) -> None:
        self.profile_changes.append(user_id)


@asynccontextmanager
async def serve_app(app: App) -> AsyncIterator[str]:
    """The base URL under which the app answers."""
    runner = web.ServerRunner(build_http_server(app.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
def accounts(database: Database) -> AccountServer:
    """A server that is not serving yet."""
    return AccountServer(database)


@pytest.fixture
async def town(accounts: AccountServer) -> AsyncIterator[Town]:
    """People of a serving server."""
    async with accounts.serve() as town:
        yield town
