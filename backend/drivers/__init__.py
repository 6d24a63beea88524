"""Engines behind one small set of verbs; a driver knows nothing of HTTP."""

from .base import Driver, DriverError, Offer, StartRefused, TaskExit, TaskSpec

__all__ = ["Driver", "DriverError", "Offer", "StartRefused", "TaskExit", "TaskSpec"]
