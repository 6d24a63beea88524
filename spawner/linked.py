"""Which backend a server of this spawner is at, and the link to it.

A poll asks for it, so that it is worked out once and not at each: only when a trait that it depends on
changes, or where the server is.
"""

from __future__ import annotations

import asyncio
from typing import Any

from traitlets import observe

from hubfleet.api.client import split_urls
from hubfleet.api.ids import canonical

from .link import Address, Link, link_to
from .traits import BackendTraits, ServerTraits

_OF_LINKS = (
    "app_prefix",
    "marathon_client_cert",
    "marathon_client_key",
    "marathon_host",
    "marathon_password",
    "marathon_timeout",
    "marathon_token",
    "marathon_username",
    "marathon_verify",
    "other_backends",
)


class Linked(BackendTraits, ServerTraits):
    """The part of a spawner that knows its backend."""

    def __init__(self, **kwargs: Any) -> None:
        self._group = ""  # in which the server is watched; empty for the configured one
        self._backend = ""  # where the server was started, if not at the configured place
        self._linked: Link | None = None
        super().__init__(**kwargs)

    @property
    def _backend_now(self) -> str:
        """The addresses of the backend that the next start would use, as one text."""
        return ",".join(split_urls(self.marathon_host))

    def _link(self) -> Link:
        link = self._linked
        if link is None or link.closed or link.loop is not asyncio.get_running_loop():
            link = self._linked = self._new_link()
        return link

    @observe(*_OF_LINKS)
    def _unlink(self, _: Any = None) -> None:
        """Have the link worked out anew; for who changes `_group`, `_backend`, or a trait without a word."""
        self._linked = None

    def _new_link(self) -> Link:
        backend = self._backend or self._backend_now
        return link_to(
            Address(
                urls=tuple(split_urls(backend)),
                group=self._group or canonical(self.app_prefix),
                token=self.other_backends.get(backend, self.marathon_token) or None,
                username=self.marathon_username or None,
                password=self.marathon_password or None,
                verify=self.marathon_verify,
                certificate=self._client_certificate,
                timeout=self.marathon_timeout,
            )
        )

    @property
    def _client_certificate(self) -> str | tuple[str, str] | None:
        if not self.marathon_client_key:
            return self.marathon_client_cert or None
        if not self.marathon_client_cert:
            raise ValueError("marathon_client_key belongs to a marathon_client_cert, of which there is none")
        return self.marathon_client_cert, self.marathon_client_key
