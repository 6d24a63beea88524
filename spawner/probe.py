"""The first answer of a server: a status line is all that a start waits for.

Every start probes its server, so that it is done by what asyncio brings with it: an HTTP client costs the hub
twice the processor time, and most look up even a number in a thread.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from tornado.httputil import HTTPInputError, parse_response_start_line

CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 5.0
_LONGEST_LINE = 4096
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two probes


async def status_of(url: str, tls: ssl.SSLContext | None = None) -> int:
    """Return the HTTP status with which a server answers.

    Parameters
    ----------
    url
        With a port; its path is sent as it is.
    tls
        How to show oneself, and to recognise the server; None for a server without TLS.

    Raises
    ------
    OSError
        Nobody answers there in time, or not in HTTP.
    """
    place = urlsplit(url)
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(
            place.hostname, place.port, ssl=tls, limit=_LONGEST_LINE
        )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            request = f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii"))
            line = await reader.readline()
        return parse_response_start_line(line.decode("latin-1").rstrip("\r\n")).code
    except (HTTPInputError, ValueError) as error:
        raise OSError(f"what answers at {place.netloc} does not speak HTTP") from error
    finally:
        writer.close()


def pause_after(waited: float) -> float:
    """Return the seconds until the next probe of a server that has been waited for so long, in seconds.

    A tenth of that: no start takes much longer than its server does, and a server that is forked, and answers
    after two tenths of a second, is seen as soon as one that is executed, and takes several.
    """
    return min(max(_SHORTEST_PAUSE, waited / 10), _LONGEST_PAUSE)
