"""`make demo`: a hub on this machine, ready to log in, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from hub import VARIABLES, Hub, HubFailed, Ports


def say(sentence: str) -> None:
    """Tell it if there is still a terminal to tell it to; what is to be done does not depend on that."""
    with suppress(OSError):
        print(sentence, flush=True)


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Return the status of a process when it has ended.

    With time-outs, between which Python looks for signals: one that arrives in the moment before a wait
    without end begins would be heard only after it.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(60)


def main() -> int:
    """Start the hub, say where it is, and stop it in order."""
    try:
        chosen = {what: int(os.environ[name]) for what, name in VARIABLES.items() if os.environ.get(name)}
    except ValueError as error:
        print(f"The ports in {', '.join(VARIABLES.values())} are numbers: {error}", file=sys.stderr)
        return 1
    hub = Hub(Path(os.environ.get("HUBFLEET_STATE", ".hubfleet")).resolve(), Ports(**chosen))
    # Ctrl-C, SIGTERM and the end of the terminal all end in the same way, at any moment (also where a
    # shell has started this in the background, which ignores Ctrl-C); but `nohup` means what it says.
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    for signum in ends:
        signal.signal(signum, signal.default_int_handler)
    started = False
    try:
        hub.start()
        started = True
        say(f"\n  JupyterHub is at  {hub.url}")
        say(f"  any user name, with the password  {hub.password}")
        say(f"\n  Its log is {hub.log}\n  Ctrl-C stops it, and its users' servers.\n")
        assert hub.process is not None
        status = end_of(hub.process)
        print(
            f"The hub has ended with status {status}. The end of its log:\n{hub.last_lines()}",
            file=sys.stderr,
        )
        return 1
    except HubFailed as failure:
        print(f"The demo cannot start: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The demo cannot start: {error.strerror}: {error.filename or hub.state}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        for signum in ends:
            signal.signal(signum, signal.SIG_IGN)
        say("\nStopping ...")
        if started and not hub.backend_answers():
            say("The backend, which ends the servers, has gone; waiting for its successor ...")
            if not hub.wait_for_backend():
                say("There is none. Servers that run now go on, and the next demo here finds them.")
        hub.stop()
        say("Stopped.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
