"""Why the orchestrator does not take a change; the server turns these into answers."""

from __future__ import annotations

from collections.abc import Sequence

from hubfleet.api.rules import Violation


class ChangeRefused(Exception):
    """A change that is not taken; nothing has changed."""


class AppExists(ChangeRefused):
    """There is an app of this id already."""

    def __init__(self, app_id: str) -> None:
        super().__init__(f"An app with id [{app_id}] already exists.")


class NoSuchApp(ChangeRefused):
    """There is no app of this id."""

    def __init__(self, app_id: str) -> None:
        super().__init__(f"App '{app_id}' does not exist")


class NoSuchDeployment(ChangeRefused):
    """There is no deployment of this id, or no more."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"DeploymentPlan {deployment_id} does not exist")


class Locked(ChangeRefused):
    """Other deployments are changing the app."""

    def __init__(self, deployment_ids: Sequence[str]) -> None:
        super().__init__(
            "App is locked by one or more deployments. Override with the option '?force=true'. "
            "View details at '/v2/deployments/<DEPLOYMENT_ID>'."
        )
        self.deployment_ids = list(deployment_ids)


class NotValid(ChangeRefused):
    """The definition breaks rules between its fields, or cannot be run here."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("Object is not valid")
        self.violations = list(violations)


class TooManyDeployments(ChangeRefused):
    """As many deployments run as are allowed at once."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"Max number ({most}) of running deployments is achieved. "
            "Wait for existing deployments to complete or cancel one."
        )


class TooManyOfShare(ChangeRefused):
    """As many deployments of one user run as a user may have at once."""

    def __init__(self, share: str, most: int) -> None:
        super().__init__(
            f"{share} has {most} deployments under way, which is the most at once. "
            "Wait for one of them to complete, or cancel one: see /v2/deployments."
        )


class NoSuchPath(ChangeRefused):
    """There is no app to scale, or no more."""

    def __init__(self, app_id: str) -> None:
        super().__init__(f"Path '{app_id}' does not exist")


class NoRoom(ChangeRefused):
    """There is no room now, and who asks would rather hear so than wait."""

    def __init__(self, app_id: str, more: int, reasons: Sequence[str]) -> None:
        super().__init__(
            f"There is no room now for {more} more of {app_id}: {'; '.join(dict.fromkeys(reasons))}. "
            "Without failFast=true they wait for it."
        )
