"""``/metrics``: the backend's figures, in Marathon's JSON and in Prometheus' text (``marathon-v2`` 1.4)."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder

from ..access import Forbidden
from ..metrics import snapshot
from .base import ApiHandler


class _FiguresHandler(ApiHandler):
    async def prepare(self) -> None:
        """Let in those who see all apps, as the figures name them, or everybody where that is configured."""
        if self.services.open_metrics:
            return
        await super().prepare()
        if not self.caller.sees_all:
            raise Forbidden(f"the metrics are of all apps, which {self.caller.name} does not see")

    async def measure(self) -> None:
        """Ask the engine for its figures of this moment."""
        orchestrator = self.orchestrator
        templates = await orchestrator.templates()
        self.services.metrics.note(orchestrator.offers(), await orchestrator.usage(), templates)


class MetricsHandler(_FiguresHandler):
    """The figures as Marathon has them."""

    async def get(self) -> None:
        """Answer a snapshot."""
        await self.measure()
        self.write_json(snapshot(self.services.metrics.registry))


class PrometheusHandler(_FiguresHandler):
    """The figures as Prometheus scrapes them."""

    def negotiate(self) -> None:
        """Refuse nobody: there is a text form for all."""

    async def get(self) -> None:
        """Answer in the newest text form that the scraper takes."""
        await self.measure()
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        await self.finish(encode(self.services.metrics.registry))
