"""Changes of many apps: drafted, written out in turns, between which others are answered, and then taken."""

from __future__ import annotations

from collections.abc import Callable

from ..group_update import Targets
from ..orchestrator.drafts import Draft
from .base import ApiHandler
from .turns import in_turns

TRIES = 3
"""How often a draft that others' changes made stale is worked out in turns; then it is at a stretch."""


class DraftingHandler(ApiHandler):
    """What is common to requests that may change many apps."""

    def draft(self, group: str, targets: Targets) -> Draft:
        """Return the draft of a change of a group, if the caller may ask for it.

        Raises
        ------
        Forbidden, NotFoundHere, ChangeRefused
            Something in it is not the caller's to change.
        """
        for path in targets.apps:
            self.caller.require_change(path)
        for path in targets.groups:
            self.caller.require_group_change(path)
        state = self.orchestrator.state
        apps = {
            app_id: None if app is None else self.caller.admit(app, state, targets.apps)
            for app_id, app in targets.apps.items()
        }
        return self.orchestrator.changes.draft(group, apps, targets.groups, self.terms())

    async def deploy(self, group: str, make: Callable[[], Targets], status: int = 200) -> None:
        """Deploy what becomes of a group, and finish with the answer.

        Parameters
        ----------
        make
            Works out what that is, from what there is then, without waiting; it is asked again
            where others change something meanwhile.
        """
        changes = self.orchestrator.changes
        for _ in range(TRIES):
            draft = self.draft(group, make())
            await in_turns(changes.through(draft))
            if not changes.is_stale(draft):
                break
        else:
            draft = self.draft(group, make())
            list(changes.through(draft))
        self.write_deployment(changes.take(draft, self.flag("force")), status)
