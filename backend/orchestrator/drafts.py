"""Changes on their way from being asked for to being taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hubfleet.api.status import Event

from ..records import AppRecord, DeploymentRecord, Instance
from .planning import GroupTargets, Plan, Targets
from .terms import Terms


@dataclass(frozen=True)
class Asked:
    """What somebody asks for.

    Parameters
    ----------
    targets, groups
        What apps and groups made by name are to become.
    group
        Whose change it is told as: ``marathon-v2`` 4.11 has the group that holds what was asked for.
    terms
        Who asks.
    victims
        Instances that are to end with it.
    restarted
        Apps whose tasks are replaced although their configuration stays.
    restoring
        Whether the configurations are former ones, whose tasks may still be there and are then
        good as they are.
    """

    targets: Targets
    group: str
    terms: Terms
    groups: GroupTargets = field(default_factory=dict)
    victims: Sequence[Instance] = ()
    restarted: frozenset[str] = frozenset()
    restoring: bool = False


@dataclass(frozen=True)
class Draft:
    """What is to be written of a change, good as long as no other one is taken.

    Parameters
    ----------
    number
        How many changes had been taken when it was made.
    records
        The apps that change, None being one that goes; filled by `Changes.through`.
    told
        What is told of their health checks; filled by `Changes.through` too.
    """

    asked: Asked
    plan: Plan
    deployment: DeploymentRecord
    number: int
    records: dict[str, AppRecord | None] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
