"""What the dependencies between apps make of an order in which they are started. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .ids import is_within

CYCLIC = "Dependency graph has cyclic dependencies."


def dependencies(paths: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Return which apps each app waits for, of the apps that there are.

    Parameters
    ----------
    paths
        The absolute dependencies of each app, by its id. A dependency on a group is one
        on each app in it; one on what is not there is none.
    """
    found: dict[str, set[str]] = {}
    within: dict[str, set[str]] = {}
    for app_id, wanted in paths.items():
        found[app_id] = set()
        for path in wanted:
            if path not in within:
                within[path] = {other for other in paths if other == path or is_within(other, path)}
            found[app_id] |= within[path]
    return found


def is_cyclic(paths: Mapping[str, Iterable[str]]) -> bool:
    """Whether some apps wait for each other in a circle, or one for itself, as `CYCLIC` says."""
    waiting = dependencies(paths)
    followers: dict[str, list[str]] = {}
    for app_id, wanted in waiting.items():
        for other in wanted:
            followers.setdefault(other, []).append(app_id)
    left = {app_id: len(wanted) for app_id, wanted in waiting.items()}
    free = [app_id for app_id, count in left.items() if not count]
    done = 0
    while free:
        done += 1
        for follower in followers.get(free.pop(), ()):
            left[follower] -= 1
            if not left[follower]:
                free.append(follower)
    return done < len(waiting)
