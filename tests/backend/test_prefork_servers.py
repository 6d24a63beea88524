"""What a server finds in the modules of its template is what it would have imported itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from driving import Site
from warm_templates import BASE, WORKER, Warm, about, run

# A console script as any other; what it calls in place of a server tells what the modules hold.
_PROGRAM = f"""#!{sys.executable}
import sys
from jupyterhub.singleuser import main
if __name__ == "__main__":
    import importlib, json, os, random, rich
    import jupyter_client.session as session
    import jupyterlab.extensions.pypi as pypi
    import jupyterlab.labapp as labapp
    import jupyterhub.services.auth as auth
    from jupyter_core import paths
    same = {{
        "argv": sys.argv,
        "path": sys.path,
        "environ": dict(sorted(os.environ.items())),
        "lab": [labapp.LabApp().user_settings_dir, labapp.LabApp().workspaces_dir, labapp.app_version],
        "class": [labapp.LabApp.class_traits()[n].default() for n in ("user_settings_dir", "workspaces_dir")],
        "session": [session.Session().username, session.Session.class_traits()["username"].default()],
        "paths": [paths.jupyter_config_path(), paths.jupyter_data_dir(), paths.jupyter_runtime_dir()],
        "hub": [auth.HubAuth().api_url, auth.HubOAuth().base_url, auth.HubOAuth().oauth_client_id],
        "rich": rich._IMPORT_CWD,
        "proxies": [pypi.http_proxy_url, repr(pypi.xmlrpc_transport_override)[:40]],
        "trash": importlib.import_module("send2trash.plat_other").HOMETRASH,
        "cwd": os.getcwd(),
    }}
    different = {{
        "flag": session.session_flags["secure"][0]["Session"]["key"].decode(),
        "random": random.random(),
    }}
    print(json.dumps([same, different]))
"""


@pytest.mark.parametrize("proxy", [None, "http://proxy.example.org:3128"])
async def test_a_server_finds_its_own_user_in_all_modules(tmp_path: Path, proxy: str | None) -> None:
    program = tmp_path / "jupyterhub-singleuser"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    try:
        driver = await Site.open(site, environment=BASE, warm=["server"])
        await site.ready(driver, "server")
        said = []
        for prefork in (False, True, True):
            spec = site.worker(
                [str(program), "--port=1"],
                prefork=prefork,
                **dict.fromkeys(WORKER),
                USER="ann",
                JUPYTERHUB_API_URL="http://hub.example.org/hub/api",
                JUPYTERHUB_SERVICE_PREFIX="/user/ann/",
                JUPYTERHUB_CLIENT_ID="jupyterhub-user-ann",
                HTTP_PROXY=proxy,
            )
            exit_, out, complained = await run(driver, spec)
            assert exit_.exit_code == 0, complained
            said.append(json.loads(out.replace(spec.task_id, "TASK")))
        found = await about(driver, "server")
        assert (found["forked"], found["executed"]) == (2, 0), found["reason"]
        executed, forked, again = said
        assert forked[0] == executed[0]
        assert "ann" in forked[0]["session"]
        assert forked[0]["proxies"][0] == proxy
        for name, value in forked[1].items():
            assert value not in (executed[1][name], again[1][name]), name
    finally:
        await site.close()
