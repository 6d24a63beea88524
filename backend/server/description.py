"""``/openapi.json``: the description of the API, for everybody, since it holds no data."""

from __future__ import annotations

import asyncio

from .base import ApiHandler


class DescriptionHandler(ApiHandler):
    """What the API is."""

    async def prepare(self) -> None:
        """Ask nobody who they are."""
        self.negotiate()

    async def get(self) -> None:
        """Show the OpenAPI description of the API, which this is part of."""
        description = await asyncio.to_thread(self.settings["description"])
        self.set_header("Content-Type", "application/json")
        await self.finish(description)
