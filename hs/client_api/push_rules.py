"""Push rules. Spec: client-server-api module "Push Notifications", "Push Rules: API"."""

from typing import Any

import msgspec

from hs.accounts.push_rules import UserPushRules
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.push_rules import (
    Action,
    RuleBody,
    delete_rule,
    put_rule,
    render,
    render_rule,
    set_actions,
    set_enabled,
)

_RULE = "/pushrules/global/{kind}/{rule_id}"


class PlaceQuery(msgspec.Struct):
    """Next to which rule."""

    before: str | None = None
    after: str | None = None


class EnabledBody(msgspec.Struct):
    """Whether the rule applies."""

    enabled: bool


class ActionsBody(msgspec.Struct):
    """What the rule does."""

    actions: list[Action]


class PushRulesApi:
    """Shows and changes the caller's push rules."""

    def __init__(self, rules: UserPushRules) -> None:
        self._rules = rules

    @endpoint("GET", *v3("/pushrules/"), *v3("/pushrules"), auth=Auth.USER, limit="other")
    async def get_push_rules(self, caller: Caller) -> dict[str, Any]:
        """All rules."""
        return render(await self._rules.get(caller.user_id), caller.user_id)

    @endpoint("GET", *v3("/pushrules/global/"), *v3("/pushrules/global"), auth=Auth.USER, limit="other")
    async def get_global_push_rules(self, caller: Caller) -> dict[str, Any]:
        """All rules of the only set there is."""
        rendered: dict[str, Any] = render(await self._rules.get(caller.user_id), caller.user_id)["global"]
        return rendered

    @endpoint("GET", *v3(_RULE), auth=Auth.USER, limit="other")
    async def get_push_rule(self, caller: Caller, kind: str, rule_id: str) -> dict[str, Any]:
        """One rule."""
        return render_rule(await self._rules.get(caller.user_id), caller.user_id, kind, rule_id)

    @endpoint("PUT", *v3(_RULE), auth=Auth.USER, limit="profile")
    async def put_push_rule(
        self, caller: Caller, kind: str, rule_id: str, query: PlaceQuery, body: RuleBody
    ) -> Empty:
        """Add a rule or change one."""
        await self._rules.change(
            caller.user_id, lambda rules: put_rule(rules, kind, rule_id, body, query.before, query.after)
        )
        return Empty()

    @endpoint("DELETE", *v3(_RULE), auth=Auth.USER, limit="profile")
    async def delete_push_rule(self, caller: Caller, kind: str, rule_id: str) -> Empty:
        """Remove one of the caller's own rules."""
        await self._rules.change(caller.user_id, lambda rules: delete_rule(rules, kind, rule_id))
        return Empty()

    @endpoint("GET", *v3(_RULE + "/enabled"), auth=Auth.USER, limit="other")
    async def get_push_rule_enabled(self, caller: Caller, kind: str, rule_id: str) -> dict[str, Any]:
        """Whether the rule applies."""
        rule = render_rule(await self._rules.get(caller.user_id), caller.user_id, kind, rule_id)
        return {"enabled": rule["enabled"]}

    @endpoint("PUT", *v3(_RULE + "/enabled"), auth=Auth.USER, limit="profile")
    async def put_push_rule_enabled(
        self, caller: Caller, kind: str, rule_id: str, body: EnabledBody
    ) -> Empty:
        """Switch a rule on or off."""
        await self._rules.change(
            caller.user_id, lambda rules: set_enabled(rules, kind, rule_id, body.enabled)
        )
        return Empty()

    @endpoint("GET", *v3(_RULE + "/actions"), auth=Auth.USER, limit="other")
    async def get_push_rule_actions(self, caller: Caller, kind: str, rule_id: str) -> dict[str, Any]:
        """What the rule does."""
        rule = render_rule(await self._rules.get(caller.user_id), caller.user_id, kind, rule_id)
        return {"actions": rule["actions"]}

    @endpoint("PUT", *v3(_RULE + "/actions"), auth=Auth.USER, limit="profile")
    async def put_push_rule_actions(
        self, caller: Caller, kind: str, rule_id: str, body: ActionsBody
    ) -> Empty:
        """Change what a rule does."""
        await self._rules.change(
            caller.user_id, lambda rules: set_actions(rules, kind, rule_id, body.actions)
        )
        return Empty()
