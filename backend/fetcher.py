"""Fetches a task's files into the working directory: a program of its own, run as the task's account.

``python -I -m hubfleet.backend.fetcher`` takes what to fetch from the variables ``HUBFLEET_FETCH_0``…
(each a `fetch` entry of an app, as JSON), and its bounds from ``HUBFLEET_FETCH_SECONDS`` and ``…_MIB``. What
fails for a passing reason is tried again until the time is over. It exits with 0 when everything is there,
otherwise with 1 and, as its last line on stderr, the reason.

http, https and ftp are fetched, and `file:` as far as the account may read. There is no cache: ``cache`` is
taken as a plain fetch. Archives are unpacked with Python's own checks against what would leave the directory.

Standard library only, so that an account which can read little else can run it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, BinaryIO

from hubfleet.backend.unpacking import ARCHIVES, Budget, Refused, TooMuch, unpack

SPOKEN = "fetch: "
_CHUNK = 1 << 16
_STALLED_SECONDS = 30.0
_PAUSE_FIRST, _PAUSE_MOST = 0.5, 20.0
_MEMORY_BYTES = 1 << 30
_SCHEMES = ("http", "https", "ftp", "file")
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class Passing(Exception):
    """What may work when it is tried again."""


def main() -> int:
    """Fetch everything; return the exit code."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    seconds = float(os.environ["HUBFLEET_FETCH_SECONDS"])
    budget = Budget(int(os.environ["HUBFLEET_FETCH_MIB"]) << 20)
    trouble: list[str] = []  # what was last in the way, if anything is
    signal.signal(
        signal.SIGALRM, lambda *_: _give_up("; ".join([f"fetching took longer than {seconds:g} s", *trouble]))
    )
    signal.setitimer(signal.ITIMER_REAL, seconds)
    number = 0
    while (text := os.environ.get(f"HUBFLEET_FETCH_{number}")) is not None:
        entry = json.loads(text)
        shown = _shown(entry["uri"])
        try:
            _fetch_at_last(entry, shown, budget, trouble)
        except (Refused, TooMuch, MemoryError) as error:
            _give_up(f"cannot fetch {shown}: {error or 'it takes too much memory to unpack'}")
        number += 1
    return 0


def _give_up(sentence: str) -> None:
    print(SPOKEN + sentence, file=sys.stderr, flush=True)
    os._exit(1)


def _shown(uri: str) -> str:
    """Return an address without what may be secret in it."""
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _fetch_at_last(entry: dict[str, Any], shown: str, budget: Budget, trouble: list[str]) -> None:
    """Fetch one entry, again and again where that may help; the alarm ends it, and tells the trouble."""
    pause = _PAUSE_FIRST
    while True:
        used = budget.used
        try:
            _fetch(entry, budget)
            return trouble.clear()
        except Passing as error:
            print(f"{SPOKEN}cannot fetch {shown} yet: {error}", file=sys.stderr, flush=True)
            trouble[:] = [f"cannot fetch {shown}: {error}"]
        budget.used = used
        time.sleep(pause)
        pause = min(pause * 2, _PAUSE_MOST)


def _fetch(entry: dict[str, Any], budget: Budget) -> None:
    uri = entry["uri"]
    path = _place(entry.get("destPath") or os.path.basename(urllib.parse.unquote(_path_of(uri))))
    part = f"{path}.fetching"
    try:
        with _open(uri) as source, open(part, "wb") as target:
            _copy(source, target, budget)
        if entry.get("executable"):
            os.chmod(part, 0o700)
        elif entry.get("extract", True) and path.endswith(ARCHIVES):
            unpack(part, path, budget)
        os.replace(part, path)
    except OSError as error:
        raise Refused(f"{error.strerror or error}") from error
    finally:
        if os.path.lexists(part):
            os.unlink(part)


def _path_of(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    return parts.path


def _place(name: str) -> str:
    """Return where a file comes to lie: within the working directory, whatever links there are."""
    root = os.getcwd()
    path = os.path.realpath(os.path.join(root, name))
    if not name or os.path.isabs(name) or os.path.commonpath([root, path]) != root or path == root:
        raise Refused(f"{name!r} is no place for a file within the sandbox")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def _open(uri: str) -> BinaryIO:
    scheme = urllib.parse.urlsplit(uri).scheme.lower() or "file"
    if scheme not in _SCHEMES:
        raise Refused(f"{scheme}: is not among {', '.join(_SCHEMES)}")
    parts = urllib.parse.urlsplit(uri)
    try:
        if scheme == "file":
            return open(urllib.parse.unquote(parts.path), "rb", opener=_open_plain)
        request = urllib.request.Request(uri if not parts.username else _without_login(parts))  # noqa: S310
        if parts.username and scheme != "ftp":
            request.add_header("Authorization", _basic(parts))
        elif parts.username:
            request = urllib.request.Request(uri)  # noqa: S310
        found: BinaryIO = urllib.request.urlopen(request, timeout=_STALLED_SECONDS)  # noqa: S310
        return found
    except urllib.error.HTTPError as error:
        kind = Passing if error.code in _PASSING_STATUSES else Refused
        raise kind(f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        # What a server or a name does not do now it may do later; but for certificates and the like.
        reason = error.reason
        if isinstance(reason, OSError) and type(reason).__module__ != "ssl":
            raise Passing(str(reason.strerror or reason)) from error
        raise Refused(str(reason)) from error
    except TimeoutError as error:
        raise Passing("no answer") from error
    except ValueError as error:
        raise Refused(str(error)) from error


def _open_plain(path: str, flags: int) -> int:
    """Open a file that is no pipe or device, which might never end."""
    file = os.open(path, flags | os.O_NONBLOCK)
    if not os.path.isfile(f"/proc/self/fd/{file}"):
        os.close(file)
        raise Refused("it is no plain file")
    return file


def _without_login(parts: urllib.parse.SplitResult) -> str:
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _basic(parts: urllib.parse.SplitResult) -> str:
    import base64

    login = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(login.encode()).decode("ascii")


def _copy(source: BinaryIO, target: BinaryIO, budget: Budget) -> None:
    length = getattr(source, "headers", {}).get("Content-Length")
    received = 0
    while True:
        try:
            chunk = source.read(_CHUNK)
        except (OSError, EOFError) as error:
            raise Passing(f"it broke off after {received} bytes") from error
        if not chunk:
            break
        budget.take(len(chunk))
        target.write(chunk)
        received += len(chunk)
    if length is not None and length.isdigit() and received < int(length):
        raise Passing(f"it broke off after {received} of {length} bytes")


if __name__ == "__main__":
    sys.exit(main())
