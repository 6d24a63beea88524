"""Both ways for requests to travel, under the same tests."""

from __future__ import annotations

import pytest

from hubfleet.api.client import Client
from hubfleet.api.loop_session import LoopSession
from hubfleet.api.session import ThreadSession


@pytest.fixture(params=[ThreadSession, LoopSession], ids=["threads", "loop"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all clients of a test be of the one, and then of the other way."""
    defaults = Client.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "session", request.param)
