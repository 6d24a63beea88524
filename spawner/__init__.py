"""The JupyterHub spawner that runs each server as an app on a Marathon API."""

from .spawner import MarathonSpawner

__all__ = ["MarathonSpawner"]
