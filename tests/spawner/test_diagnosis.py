"""What is read out of a server's output and end."""

from __future__ import annotations

import pytest

from hubfleet.spawner.diagnosis import MOST_CHARACTERS, MOST_LINES, is_for_good, last_lines, unreachable_hub
from hubfleet.spawner.errors import StartRefused


def test_a_page_shows_the_end_of_the_output_and_no_controls() -> None:
    output = "\n".join(f"line {number}\x1b[31m red\x1b[0m\a\r" for number in range(100)) + "\n\n"
    shown = last_lines(output).splitlines()
    assert len(shown) == MOST_LINES
    assert shown[-1] == "line 99 red"
    assert len(last_lines("x" * 100_000)) == MOST_CHARACTERS
    assert last_lines("") == ""


def test_a_servers_own_secrets_are_not_shown() -> None:
    assert last_lines("token=s3cret&", secrets=["s3cret", ""]) == "token=…&"


NO_HUB = "[E] Failed to connect to my Hub at http://10.0.0.1:8081/hub/api (attempt {}/5). Is it running?\n"


def test_a_server_that_gives_up_on_the_hub_is_recognised() -> None:
    url = "http://10.0.0.1:8081/hub/api"
    tried = "".join(NO_HUB.format(attempt) + "Traceback…\n" for attempt in range(1, 6))
    assert unreachable_hub(tried) == unreachable_hub(tried, ended=True) == url
    assert unreachable_hub(NO_HUB.format(1)) == url, "one that still tries says so too"
    later = NO_HUB.format(1) + "MemoryError\n"
    assert unreachable_hub(later, ended=True) is None, "it went on, and ended for another reason"
    assert unreachable_hub("all is well") is None


@pytest.mark.parametrize(
    ("state", "message", "for_good"),
    [
        ("TASK_ERROR", "anything", True),
        ("TASK_FAILED", "Command exited with status 127", True),
        ("TASK_FAILED", "Command exited with status 126", True),
        ("TASK_FAILED", "Command exited with status 1270", False),
        ("TASK_FAILED", "Command exited with status 1", False),
        ("TASK_FAILED", "Command terminated with signal Killed", False),
        ("TASK_FAILED", "Failed to launch container: manifest unknown: no such tag", True),
        ("TASK_FAILED", "docker: pull access denied for jupyter/nothing", True),
        ("TASK_LOST", "", False),
    ],
)
def test_what_the_next_attempt_does_not_mend(state: str, message: str, for_good: bool) -> None:
    assert is_for_good(state, message) is for_good


def test_a_failure_carries_the_output_to_the_user_and_not_to_the_log() -> None:
    failure = StartRefused("It <ended>.", reason="crashed", output="<script>secret of alice")
    assert "It <ended>." in str(failure)
    assert "secret" not in str(failure)
    assert "secret" not in str(failure.log_message)
    assert "<script>secret of alice" in failure.jupyterhub_message
    assert "&lt;script&gt;secret of alice</pre>" in failure.jupyterhub_html_message
    assert "It &lt;ended&gt;." in failure.jupyterhub_html_message
