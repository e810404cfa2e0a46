"""Accounts put together. Part of the composition root."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from hs.accounts.filters import Filters
from hs.accounts.login import Login
from hs.accounts.overrides import RateLimitOverrides
from hs.accounts.passwords import Passwords
from hs.accounts.profiles import Profiles
from hs.accounts.registration import Registration
from hs.accounts.tokens import AccessTokens, TokenLifetimes
from hs.accounts.ui_auth import InteractiveAuth
from hs.config import Config
from hs.rooms.clock import Clock
from hs.storage.database import Database
from hs.storage.profiles import ProfileStore
from hs.storage.refresh_tokens import RefreshTokenStore
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore, FilterStore, load_account_data_stream
from hs.storage.users import UserStore


@dataclass(frozen=True, slots=True)
class People:
    """What endpoints and rooms are given of accounts."""

    users: UserStore
    passwords: Passwords
    tokens: AccessTokens
    profile_store: ProfileStore
    profiles: Profiles
    registration: Registration
    login: Login
    auth: InteractiveAuth
    overrides: RateLimitOverrides
    account_data: AccountDataStore
    account_data_stream: StreamIds
    filters: Filters


async def build_people(
    config: Config,
    database: Database,
    clock: Clock,
    on_account_data: Callable[[str], None],
    stack: AsyncExitStack,
) -> People:
    """The accounts of this server; `on_account_data` hears of users whose account data has changed."""
    users, passwords = UserStore(database), Passwords()
    stack.callback(passwords.close)
    lifetimes = TokenLifetimes(
        access_s=config.sessions.access_token_lifetime_s,
        refresh_s=config.sessions.refresh_token_lifetime_s,
        unrefreshable_s=config.sessions.unrefreshable_lifetime_s,
    )
    tokens = AccessTokens(users, RefreshTokenStore(database), clock, lifetimes)
    stack.push_async_callback(tokens.close)
    login = Login(users, passwords, tokens, config.server_name)
    stream = await load_account_data_stream(database)
    profile_store = ProfileStore(database)
    return People(
        users=users,
        passwords=passwords,
        tokens=tokens,
        profile_store=profile_store,
        profiles=Profiles(profile_store, config.server_name),
        registration=Registration(users, passwords, config.server_name, clock),
        login=login,
        auth=InteractiveAuth(login, config.registration.tokens),
        overrides=RateLimitOverrides(users),
        account_data=AccountDataStore(database, stream, lambda user_id, _: on_account_data(user_id)),
        account_data_stream=stream,
        filters=Filters(FilterStore(database)),
    )
