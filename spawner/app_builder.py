"""From a spawner's configuration, its user and the hub's environment to the app: what `start` submits.

The step between JupyterHub's traits and `hubfleet.spawner.build`. It reads traits when it is asked and not
before: group overrides and hooks change them right before a start.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyterhub.utils import fmt_ip_url
from tornado.web import HTTPError
from traitlets import HasTraits, default, observe

from hubfleet.api.app import App
from hubfleet.api.client import split_urls
from hubfleet.api.errors import BackendError
from hubfleet.api.ids import server_app_id

from . import last_word
from .app_traits import AppTraits
from .build import Server, backend_env, build_app
from .certificates import Certificates, alt_names
from .choosing import Choosing
from .deprecated import say_once
from .errors import StartRefused, misconfigured, refused
from .options import Choice, OptionsRefused
from .templates import format_fetch, format_volumes, names_of, path_namespace, url_namespace
from .traits import MIB, BackendTraits, ServerTraits

# What it builds upon is JupyterHub's Spawner, which admits no subclass that cannot start.
_Spawner: Any = HasTraits


class AppBuilder(BackendTraits, ServerTraits, AppTraits, Choosing, _Spawner):
    """The part of a spawner that knows its app, and not how to run it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._certificates: Certificates | None = None  # of the next start, if they go in its environment

    @default("ip")
    def _all_addresses(self) -> str:
        return "0.0.0.0"  # noqa: S104 (the server runs where the backend puts it)

    @default("hub_id")
    def _mark_of_this_hub(self) -> str:
        secret = (getattr(self.user, "settings", None) or {}).get("cookie_secret")
        if secret:
            return hmac.new(secret, b"hubfleet hub id", "sha256").hexdigest()[:16]
        return str(self.hub.base_url)

    @default("ssl_alt_names")
    def _hosts_of_the_backend(self) -> list[str]:
        return [*self.trusted_alt_names, *alt_names(split_urls(self.marathon_host))]

    @observe("hub_ip_connect", "hub_port_connect")
    def _say_deprecated(self, change: Any) -> None:
        say_once(self.log, f"c.MarathonSpawner.{change.name}", "c.JupyterHub.hub_connect_url")

    # -- templates --------------------------------------------------------------------

    def template_namespace(self) -> dict[str, Any]:
        """Return JupyterHub's names, and the server's name and both names as parts of an app id."""
        return {**super().template_namespace(), **names_of(self.user.name, self.name)}

    def format_path(self, template: str) -> str:
        """Return a path or volume name with the template namespace filled in, each name made safe."""
        if not template:
            return ""  # the names are not for nothing to make
        return template.format(**path_namespace(self.template_namespace()))

    def format_uri(self, template: str) -> str:
        """Return an address with the template namespace filled in, each name made safe."""
        return template.format(**url_namespace(self.template_namespace()))

    # -- environment ------------------------------------------------------------------

    def get_env(self) -> dict[str, Any]:
        """Return the server's environment; what `environment` says has the last word, as in JupyterHub."""
        self.act_on_deprecated_hub_address()
        env: dict[str, Any] = super().get_env()
        ours: dict[str, Any] = {}
        if listens_at := self.server_ports.listens_at:
            scheme = "https" if self.internal_ssl else "http"
            ours["JUPYTERHUB_SERVICE_URL"] = f"{scheme}://{fmt_ip_url(self.ip)}:{listens_at}{self._base_path}"
        if self.home_dir:
            ours["HOME"] = self.format_path(self.home_dir)
        if self.notebook_dir:
            ours["JUPYTERHUB_ROOT_DIR"] = self.format_path(self.notebook_dir)
        if self.share_backend:
            urls = self.backend_connect_url or ",".join(split_urls(self.marathon_host))
            ours |= backend_env(self.app_prefix, self.user.name, urls)
        env |= {name: value for name, value in ours.items() if name not in self.environment}
        return env | (self._certificates.variables() if self._certificates else {})

    # -- certificates -----------------------------------------------------------------

    async def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Take the certificates of the next start, and return where the server finds them, if that is known.

        Raises
        ------
        StartRefused
            There is no way to hand them over that others could not read.
        """
        # Before anything is waited for: all servers of a user have the same files, made anew at each start.
        certificates = Certificates.read(paths)
        self._certificates = None
        try:
            if self.certs_dir:
                place = server_app_id(self.app_prefix, self.user.name, self.name)
                return certificates.lay_down(Path(self.certs_dir), place.strip("/"), self._account())
            if not await self._link().client.is_hubfleet():
                raise ValueError(
                    "what answers at c.MarathonSpawner.marathon_host is not hubfleet's backend, and shows "
                    "an app's environment to all who may list apps; set c.MarathonSpawner.certs_dir to a "
                    "directory that the hub and the servers' machines share"
                )
        except (ValueError, OSError) as error:
            raise misconfigured(error) from error
        except BackendError as error:
            raise StartRefused(
                f"The backend that runs the servers cannot be reached: {error}. Try again later.",
                reason="backend-unreachable",
                status_code=503,
            ) from error
        self._certificates = certificates
        return {}

    # -- the app ----------------------------------------------------------------------

    def build_app(self) -> App:
        """Return the app of this server, as it is before `modify_app_hook`.

        Raises
        ------
        StartRefused
            The user's options or the configuration do not allow it.
        """
        try:
            app = build_app(self._describe(self.choice()))
            return last_word.merged(app, self.extra_app_config) if self.extra_app_config else app
        except OptionsRefused as refusal:
            raise refused(refusal) from refusal
        except (ValueError, KeyError, IndexError) as error:
            raise misconfigured(error) from error

    async def app_to_submit(self) -> App:
        """Return the app of this server as it would be submitted now.

        Raises
        ------
        StartRefused
            The user's options, the configuration or the hook do not allow it.
        """
        await self.see_to_options()
        app = self.build_app()
        if self.modify_app_hook is None:
            return app
        try:
            return await last_word.hooked(self.modify_app_hook, self, app)
        except HTTPError:
            raise  # a refusal of the hook's own, in its own words
        except Exception as error:
            self.log.exception("modify_app_hook failed for %s", self._log_name)
            raise misconfigured(error) from error

    def _describe(self, choice: Choice) -> Server:
        if self.internal_ssl and not (self._certificates or self.cert_paths):
            raise ValueError("JupyterHub.internal_ssl is on, but this server was given no certificates")
        return Server(
            prefix=self.app_prefix,
            user=self.user.name,
            server=self.name,
            hub_id=self.hub_id,
            command=[*(self.cmd or ()), *self.get_args()] if self.cmd else (),
            base_path=self._base_path,
            choice=choice,
            env=self._env_of(choice),
            listen_ip=self.ip,
            home_dir=self.format_path(self.home_dir),
            root_dir=self.format_path(self.notebook_dir),
            ports=self.server_ports,
            container_type=self.container_type,
            volumes=format_volumes(self.volumes, lambda template: self.format_volume_name(template, self)),
            constraints=self.marathon_constraints,
            fetch=format_fetch(self.fetch, self.format_uri),
            secrets=self._formatted_secrets(),
            unreachable_strategy=self.unreachable_strategy,
            upgrade_strategy=self.upgrade_strategy,
            extra_labels={name: self.format_string(value) for name, value in self.app_labels.items()},
            run_as=self._account(),
            health_failures=self.health_check_failures,
            health_interval=self.health_check_interval,
            health_timeout=self.health_check_timeout,
            health_grace=self.health_check_grace,
            health_checks=self.health_checks,
            readiness_checks=self.readiness_checks,
            tls=self.internal_ssl,
            writes_certificates=self._certificates is not None,
        )

    def _env_of(self, choice: Choice) -> dict[str, Any]:
        env = self.get_env()
        if self.mem_limit and "MEM_LIMIT" not in self.environment:
            env["MEM_LIMIT"] = int(choice.mem * MIB)  # less than the limit, if the user asked for less
        if self.cpu_limit and "CPU_LIMIT" not in self.environment:
            env["CPU_LIMIT"] = choice.cpu
        return env

    def _formatted_secrets(self) -> dict[str, Mapping[str, str]]:
        return {
            name: {**secret, "source": self.format_path(str(secret.get("source", "")))}
            for name, secret in self.secrets.items()
        }

    def _account(self) -> str | None:
        """Return the system account of the server.

        Raises
        ------
        ValueError
            It would be root because a user is called so, and not because an administrator said so.
        """
        if not self.mesos_user:
            return None
        account = str(self.format_string(self.mesos_user))
        if account == "root" != self.mesos_user:
            raise ValueError("a server runs as root only if c.MarathonSpawner.mesos_user is that very word")
        return account

    @property
    def _base_path(self) -> str:
        return str(self.server.base_url) if self.server else "/"
