"""The stand-in of a server, for tests of what is around servers."""

from __future__ import annotations

import sys
from pathlib import Path

# A double of jupyterhub-singleuser, as small as one can be: what is tested here is the spawner.
# The real one runs in the end-to-end tests.
STAND_IN = """
import http.server, json, os, signal, sys, time
delay = float(os.environ.get("STAND_IN_DELAY", "0"))
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--"))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
        found = self.path == prefix + "api"
        body = json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:]}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def end(*_):
    time.sleep(float(os.environ.get("STAND_IN_END", "0")))
    os._exit(0)

signal.signal(signal.SIGTERM, end)
time.sleep(delay)
http.server.ThreadingHTTPServer((options["ip"], int(options["port"])), Handler).serve_forever()
"""


def stand_in_command(folder: Path) -> list[str]:
    """Return the command of a server that answers as jupyterhub-singleuser does, as far as the hub looks."""
    script = folder / "stand_in.py"
    script.write_text(STAND_IN)
    return [sys.executable, str(script)]
