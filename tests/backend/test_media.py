"""Which media types a request takes and brings."""

from __future__ import annotations

import pytest

from hubfleet.backend.server.media import accepts, is_json, preferred


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("APPLICATION/JSON; charset=utf-8", True),
        ("application/*", True),
        ("text/html, application/json;q=0.1", True),
        ("text/plain, */*; q=0.2", True),
        ("text/html, image/gif, *; q=.2", True),
        ("text/plain", False),
        ("text/*", False),
        ("text/event-stream", False),
        ("application/json;q=0", False),
        ("*/*, application/json;q=0", False),
        ("application/json;q=x", False),
        ("application/json;q=nan", False),
        ("application/jsonp", False),
        (",;,", False),
    ],
)
def test_json_goes_to_those_who_take_it(accept: str | None, json: bool) -> None:
    assert accepts(accept, "application/json") is json


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        (None, True),
        ("", True),
        ("application/json", True),
        ("Application/JSON ; charset=UTF-8", True),
        ("application/merge-patch+json", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("application/jsonx", False),
    ],
)
def test_only_json_is_read(content_type: str | None, json: bool) -> None:
    assert is_json(content_type) is json


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain"),
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/*", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain, application/json", "text/plain"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "text/plain"),
        ("text/html", None),
        ("application/json;q=0", None),
    ],
)
def test_the_type_that_is_wanted_most_is_sent(accept: str | None, media_type: str | None) -> None:
    assert preferred(accept, "text/plain", "application/json") == media_type
