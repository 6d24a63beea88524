"""`make demo`: a hub on this machine, ready to log in, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hub import VARIABLES, Hub, HubFailed, Ports


def main() -> int:
    """Start the hub, say where it is, and stop it in order."""
    try:
        chosen = {what: int(os.environ[name]) for what, name in VARIABLES.items() if os.environ.get(name)}
    except ValueError as error:
        print(f"The ports in {', '.join(VARIABLES.values())} are numbers: {error}", file=sys.stderr)
        return 1
    hub = Hub(Path(os.environ.get("HUBFLEET_STATE", ".hubfleet")).resolve(), Ports(**chosen))
    # Ctrl-C and SIGTERM both end in the same way, at any moment (also where a shell
    # has started this in the background, which ignores Ctrl-C).
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    started = False
    try:
        hub.start()
        started = True
        print(f"\n  JupyterHub is at  {hub.url}")
        print(f"  any user name, with the password  {hub.password}")
        print(f"\n  Its log is {hub.log}\n  Ctrl-C stops it, and its users' servers.\n", flush=True)
        assert hub.process is not None
        status = hub.process.wait()
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
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        print("\nStopping ...", flush=True)
        if started and not hub.backend_answers():
            print("The backend, which ends the servers, has gone; waiting for its successor ...", flush=True)
            if not hub.wait_for_backend():
                print("There is none. Servers that run now go on, and the next demo here finds them.")
        hub.stop()
        print("Stopped.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
