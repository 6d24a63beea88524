# The configuration of a site that ran marathonspawner. It is kept as it stood; tests load it.
import os

c = get_config()  # noqa

c.JupyterHub.spawner_class = "marathonspawner.MarathonSpawner"
c.JupyterHub.authenticator_class = "jupyterhub.auth.DummyAuthenticator"
c.Authenticator.allow_all = True
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.services = [
    {"name": "cull-idle", "admin": True, "api_token": os.environ["CULL_TOKEN"]},
]

c.MarathonSpawner.marathon_host = os.environ["MARATHON_URL"]
c.MarathonSpawner.app_prefix = "notebooks"
c.MarathonSpawner.marathon_constraints = [["hostname", "LIKE", ".+"]]
c.MarathonSpawner.unreachable_strategy = {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120}
c.MarathonSpawner.hub_ip_connect = "127.0.0.1"
c.MarathonSpawner.hub_port_connect = int(os.environ["HUB_PORT"])


def volume_name(template, spawner):
    return template.format(username=spawner.user.name)


c.MarathonSpawner.format_volume_name = volume_name
c.MarathonSpawner.volumes = [
    {
        "containerPath": os.environ["SITE"] + "/work",
        "hostPath": os.environ["SITE"] + "/homes/{username}",
        "mode": "RW",
    },
]
c.MarathonSpawner.max_cpu = 4
c.MarathonSpawner.cpu = 0.5
c.MarathonSpawner.max_mem = 8192
c.MarathonSpawner.mem = 700
c.MarathonSpawner.max_disk = 2000
c.MarathonSpawner.disk = 1000
c.MarathonSpawner.max_gpu = 0
c.MarathonSpawner.mesos_user = None
c.MarathonSpawner.autotimeout = 8 * 3600

c.Spawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = 120
