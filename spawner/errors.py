"""Why a start fails, in words that reach the user whole."""

from __future__ import annotations

import html
from typing import Any

from tornado import web

from .last_word import sentence
from .options import OptionsRefused

try:
    from jupyterhub.spawner import SpawnException
except ImportError:  # JupyterHub 5 has no such class; there a plain 4xx says the same

    class SpawnException(web.HTTPError):  # type: ignore[no-redef]
        """What JupyterHub 6 has under this name, as far as it is used here."""

        _label = ""

        def __init__(
            self, message: str, *, reason: str, log_message: str, status_code: int = 400, **_: Any
        ) -> None:
            super().__init__(status_code, log_message, reason=reason)
            self.message = message

        @property
        def reason(self) -> str:
            """The label; JupyterHub 5 would put ``error`` in its place (``user.py``)."""
            return self._label

        @reason.setter
        def reason(self, label: str) -> None:
            self._label = self._label or label


class StartRefused(SpawnException):
    """A start that cannot succeed, with the sentence for the person who asked for it.

    Parameters
    ----------
    message
        What was asked, what is allowed, what to do. Shown to the user.
    reason
        Short label for the hub's metrics and log. Never ``error`` or ``timeout``:
        JupyterHub 6.1 puts a sentence of its own in the place of those two
        (``handlers/base.py``).
    status_code
        400 where another request would do, 5xx where only time or an administrator will.
    output
        The last lines that the server wrote. Shown to the user, and kept out of the hub's log,
        which others read.

    Notes
    -----
    JupyterHub 6.1 reads the message of its own `SpawnException` in some places and
    ``jupyterhub_message`` in the others (``utils.format_exception``); both are set.
    """

    def __init__(self, message: str, *, reason: str, status_code: int = 400, output: str = "") -> None:
        text, markup = message, html.escape(message)
        if output:
            text += f"\n\nThe last lines that it wrote:\n{output}"
            markup += (
                "<br>The last lines that it wrote:"
                f'<pre class="hubfleet-output" style="text-align: left">{html.escape(output)}</pre>'
            )
        super().__init__(
            text, reason=reason, log_message=message, message_html=markup, status_code=status_code
        )
        self.output = output
        self.jupyterhub_message = text
        self.jupyterhub_html_message = markup


def closed(words: str) -> str:
    """Return somebody else's words as a sentence with one full stop at its end."""
    return words if words.endswith((".", "!", "?")) else f"{words}."


def refused(refusal: OptionsRefused) -> StartRefused:
    """Return the refusal of options as JupyterHub shows it to the user."""
    return StartRefused(str(refusal), reason="options")


def misconfigured(error: Exception) -> StartRefused:
    """Return the refusal of a start that only an administrator can make possible."""
    return StartRefused(
        f"The hub's configuration makes no server: {closed(sentence(error))} "
        "An administrator has to mend it.",
        reason="configuration",
        status_code=500,
    )
