"""What a user may have and has, as our own backend tells it (``/hubfleet/quota``)."""

from __future__ import annotations

from pydantic import Field

from .wire import Wire


class Amounts(Wire):
    """So much of each resource, memory in MiB; in a limit None is no limit but the machine's."""

    instances: float | None = None
    cpus: float | None = None
    mem: float | None = None
    gpus: float | None = None


class QuotaLimits(Wire):
    """The limits of a user: over all their apps and servers, and for any one app."""

    user: Amounts = Field(default_factory=Amounts)
    app: Amounts = Field(default_factory=Amounts)


class QuotaReport(Wire):
    """The quota of one user.

    `groups` is None where the backend has not heard yet which groups of the hub the user is
    in; `used` and `apps` hold what may come to be taken at once, also by tasks that still end.
    """

    user: str
    groups: list[str] | None = None
    limits: QuotaLimits = Field(default_factory=QuotaLimits)
    used: Amounts = Field(default_factory=Amounts)
    left: Amounts = Field(default_factory=Amounts)
    apps: dict[str, Amounts] = Field(default_factory=dict)
