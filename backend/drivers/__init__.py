"""Engines behind one small set of verbs; a driver knows nothing of HTTP."""

from .base import Driver, DriverError, Mount, Offer, Output, StartRefused, TaskExit, TaskSpec, Template, Usage

__all__ = [
    "Driver",
    "DriverError",
    "Mount",
    "Offer",
    "Output",
    "StartRefused",
    "TaskExit",
    "TaskSpec",
    "Template",
    "Usage",
]
