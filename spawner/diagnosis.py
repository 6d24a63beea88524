"""What the output and the end of a server's process tell about why it does not start. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_LINES, MOST_CHARACTERS = 20, 4000

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
# The words of jupyterhub-singleuser (`check_hub_version`), the same in all its releases since 1.0.
_NO_HUB = re.compile(r"Failed to connect to my Hub at (\S+) \(attempt (\d+)/(\d+)\)")
# Ends that another attempt does not mend: those of images (Mesos, Docker), the shell's 126 and 127.
_FOR_GOOD = re.compile(
    r"manifest unknown|manifest for \S+ not found|pull access denied|repository \S+ not found"
    r"|no such image|not found: manifest|unauthorized: "
    r"|(?:exit(?:ed)?|status|code)[ a-z]* (?:126|127)\b",
    re.IGNORECASE,
)


def last_lines(output: str, secrets: Iterable[str] = ()) -> str:
    """Return the end of a server's output as a page may show it.

    Terminal controls are taken out, and secrets of this server are blacked out: people
    copy what they are shown into mails.
    """
    for secret in secrets:
        if secret:
            output = output.replace(secret, "…")
    lines = [_CONTROL.sub("", line.rstrip()) for line in output.strip().splitlines()]
    return "\n".join(lines[-MOST_LINES:])[-MOST_CHARACTERS:]


def unreachable_hub(output: str, ended: bool = False) -> str | None:
    """Return the address of the hub's API if the server says that it cannot reach it, else None.

    Of a server that has `ended` only its last attempt counts: after an earlier one it went on, and
    ended for another reason.
    """
    attempts = list(_NO_HUB.finditer(output))
    if not attempts:
        return None
    hub_url, attempt, most = attempts[-1].groups()
    return hub_url if not ended or attempt == most else None


def is_for_good(state: str, message: str) -> bool:
    """Whether a task ended in a way that the next attempt will not mend.

    Parameters
    ----------
    state
        ``TASK_ERROR`` is the engine's refusal to start it at all.
    message
        The backend's, such as ``Command exited with status 127``.
    """
    return state == "TASK_ERROR" or _FOR_GOOD.search(message) is not None
