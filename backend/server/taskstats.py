"""How many tasks of an app are in which state, and how long they have lived. Pure.

As Marathon's ``TaskStatsByVersion``, which it calls ``tasksStats`` since 1.9 (``marathon-v2`` section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hubfleet.api.app import App

from ..records import Condition, Instance, config_version


def counts(tasks: Sequence[Instance]) -> dict[str, int]:
    """Return how many tasks wait for their start, run, and are found healthy or not.

    One without health checks, or whose checks have not spoken, is neither healthy nor unhealthy.
    """
    health = [task.healthy for task in tasks]
    return {
        "staged": sum(1 for task in tasks if task.condition is Condition.PROVISIONED),
        "running": sum(1 for task in tasks if task.condition is Condition.RUNNING),
        "healthy": health.count(True),
        "unhealthy": health.count(False),
    }


def by_version(app: App, tasks: Sequence[Instance], at: datetime) -> dict[str, Any]:
    """Return the statistics of an app's tasks: of all, and of those of some versions.

    Parameters
    ----------
    tasks
        The app's launched instances.
    at
        The present.

    Returns
    -------
    dict
        ``totalSummary``, ``withLatestConfig``, ``withOutdatedConfig`` and ``startedAfterLastScaling``,
        each left out where there is no such task.
    """
    assert app.version_info is not None
    latest, scaled = config_version(app), app.version_info.last_scaling_at
    kinds = {
        "startedAfterLastScaling": [task for task in tasks if scaled is not None and task.version >= scaled],
        "withLatestConfig": [task for task in tasks if task.config_version == latest],
        "withOutdatedConfig": [task for task in tasks if task.config_version != latest],
        "totalSummary": list(tasks),
    }
    return {name: {"stats": _stats(found, at)} for name, found in kinds.items() if found}


def _stats(tasks: Sequence[Instance], at: datetime) -> dict[str, Any]:
    stats: dict[str, Any] = {"counts": counts(tasks)}
    # Of one that began in the future, since the clock was set back, nothing better is known.
    lives = sorted(
        max(0.0, (at - task.staged_at).total_seconds()) for task in tasks if task.staged_at is not None
    )
    if lives:
        # Of an even number the upper one is the median, as in Marathon.
        stats["lifeTime"] = {
            "averageSeconds": sum(lives) / len(lives),
            "medianSeconds": lives[len(lives) // 2],
        }
    return stats
