"""A hub on one machine: our spawner, and our backend as the hub's managed service.

It works as it is (`make demo`), and is meant to be copied and changed. What a site
changes most is read from the environment:

=========================  ====================  ===========================================
variable                   default               meaning
=========================  ====================  ===========================================
HUBFLEET_STATE             ./.hubfleet           database, tokens, sandboxes, users' homes
HUBFLEET_URL_PUBLIC        http://127.0.0.1:8000 where people go
HUBFLEET_PORT_HUB          8081                  the hub behind the proxy
HUBFLEET_PORT_PROXY_API    8001                  the proxy's own API
HUBFLEET_PORT_BACKEND      8090                  the backend's Marathon API
HUBFLEET_TASK_PORTS        31000-32000           ports given to servers and workers
HUBFLEET_PASSWORD          made at random        the password of everybody (a trial, no more)
=========================  ====================  ===========================================
"""

import gc
import os
import secrets
import sys
from pathlib import Path

c = get_config()

state = Path(os.environ.get("HUBFLEET_STATE", ".hubfleet")).resolve()
state.mkdir(mode=0o700, parents=True, exist_ok=True)


def secret(name: str) -> str:
    """Return a secret that is made once and kept in a file which only this account can read."""
    path = state / name
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text().strip()


# -- the hub and its proxy ------------------------------------------------------------------

c.JupyterHub.bind_url = os.environ.get("HUBFLEET_URL_PUBLIC", "http://127.0.0.1:8000")
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ.get('HUBFLEET_PORT_HUB', '8081')}"
c.JupyterHub.db_url = f"sqlite:///{state}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
# A hub that starts again looks after the servers that run, for up to ten seconds before it goes on: in vain
# where it is the one that is to start their backend, below. It does so meanwhile (1 s is the least).
c.JupyterHub.init_spawners_timeout = 1
# Python looks for garbage after every 700 objects that a hub has more, while it reads all that it knows: with
# 1,000 servers two fifths of its start (docs/spawner.md, "A hub that starts again").
gc.set_threshold(50_000)

# The proxy in Python, from PyPI: no Node.js is needed.
c.ConfigurableHTTPProxy.command = [sys.executable, "-m", "hubfleet.spawner.proxy"]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ.get('HUBFLEET_PORT_PROXY_API', '8001')}"
c.ConfigurableHTTPProxy.pid_file = str(state / "proxy.pid")
c.ConfigurableHTTPProxy.auth_token = secret("proxy_token")

# -- who may log in: for a trial everybody who knows the one password ---------------------------
# A real site names its own authenticator here.

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ.get("HUBFLEET_PASSWORD") or secret("password")
c.Authenticator.allow_all = True

# -- the backend, as the hub's managed service ----------------------------------------------

backend_port = os.environ.get("HUBFLEET_PORT_BACKEND", "8090")
backend_token = secret("backend_token")
c.JupyterHub.services = [
    {
        "name": "hubfleet-backend",
        "command": [
            *(sys.executable, "-m", "hubfleet.api.cli", "backend", "--managed"),
            f"--port={backend_port}",
            f"--state-dir={state / 'backend'}",
            f"--ports={os.environ.get('HUBFLEET_TASK_PORTS', '31000-32000')}",
            "--accounts=shared",  # everything here runs as one account, see below
            # Cpus here are shares, not cores: an idle notebook needs none. Memory is
            # not shared, so of that no more is given than the machine has.
            f"--cpus={16 * (os.cpu_count() or 1)}",
        ],
        "environment": {"HUBFLEET_BACKEND_TOKEN": backend_token},
    }
]

# -- the spawner --------------------------------------------------------------------------------

c.JupyterHub.spawner_class = "marathon"
c.MarathonSpawner.marathon_host = f"http://127.0.0.1:{backend_port}"
c.MarathonSpawner.marathon_token = backend_token
# The servers of this configuration run as the account that runs the hub. Each user has a
# directory of their own, but the accounts are not apart: see docs/architecture.md, "Who can reach what".
c.MarathonSpawner.home_dir = str(state / "homes" / "{user_segment}")
c.MarathonSpawner.ip = "127.0.0.1"  # the servers are reached through the proxy, on this machine
c.JupyterHub.allow_named_servers = True

# Servers start at one click. To let people choose, leave this line out, and say what is offered
# (docs/choosing-a-server.md):
c.MarathonSpawner.show_form = False
# c.MarathonSpawner.profile_list = [
#     {"display_name": "Small", "slug": "small", "overrides": {"cpu": 0.5, "mem": 512}},
#     {
#         "display_name": "Large",
#         "slug": "large",
#         "description": "For simulations",
#         "overrides": {"cpu": 4, "mem": 8192},
#         "profile_options": {
#             "threads": {
#                 "display_name": "Threads",
#                 "choices": {
#                     "one": {"display_name": "1", "overrides": {"environment": {"OMP_NUM_THREADS": "1"}}},
#                     "four": {"display_name": "4", "overrides": {"environment": {"OMP_NUM_THREADS": "4"}}},
#                 },
#             },
#         },
#     },
# ]
# c.MarathonSpawner.group_overrides = {
#     "staff": {"groups": ["staff"], "spawner_override": {"max_cpu": 16}},
# }

if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]
