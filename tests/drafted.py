"""Changes of several apps at once, at a stretch."""

from __future__ import annotations

from collections.abc import Iterable

from hubfleet.api.app import App
from hubfleet.backend.groups import ROOT
from hubfleet.backend.orchestrator.changes import Changes
from hubfleet.backend.orchestrator.terms import OPEN, Terms
from hubfleet.backend.records import DeploymentRecord


def put_all(
    changes: Changes, apps: Iterable[App], force: bool = False, terms: Terms = OPEN
) -> DeploymentRecord:
    """Draft some definitions, write them out, and take them in one deployment."""
    draft = changes.draft(ROOT, {app.id: app for app in apps}, {}, terms)
    list(changes.through(draft))
    return changes.take(draft, force)
