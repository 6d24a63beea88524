"""The way of a server's certificates to its task, with `JupyterHub.internal_ssl`.

The hub makes them where it runs; the task runs as another account, and perhaps elsewhere. Our own backend
shows the environment of an app to nobody but administrators and the user whose server it is, as it must, for
the server's token is there too: so they go the same way, and the task's first step writes them to files of
mode 0600. Marathon shows an environment to everybody who may list apps; there they are laid down in a
directory that both share, or the start is refused.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .command import TLS_VARIABLES


@dataclass(frozen=True)
class Certificates:
    """A server's key and certificate, and the authorities that it trusts; PEM."""

    key: str = field(repr=False)
    cert: str = field(repr=False)
    authorities: str = field(repr=False)

    @classmethod
    def read(cls, paths: Mapping[str, str]) -> Certificates:
        """Return what lies at the paths that `create_certs` returned."""
        return cls(*(Path(paths[name]).read_text() for name in ("keyfile", "certfile", "cafile")))

    def variables(self) -> dict[str, str]:
        """Return the environment in which a task gets them."""
        return dict(zip(TLS_VARIABLES, (self.key, self.cert, self.authorities), strict=True))

    def lay_down(self, root: Path, place: str, account: str | None) -> dict[str, str]:
        """Write them to a place below a directory, as files that one account can read; return the paths.

        The directories stay the hub's own, so that nobody can put links in the way.

        Raises
        ------
        ValueError
            The account is not known here, or only root could hand the files over to it.
        """
        owner = _owner(account)
        directory = root
        for part in place.split("/"):
            directory = directory / part
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)  # others may pass through, if they know the way, but not look around
        paths = {}
        for name, text in (("keyfile", self.key), ("certfile", self.cert), ("cafile", self.authorities)):
            path = directory / f"{name}.pem"
            fresh = directory / f".{name}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w") as file:
                if owner is not None:
                    os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
                file.write(text)
            fresh.rename(path)
            paths[name] = str(path)
        return paths


def alt_names(urls: list[str]) -> list[str]:
    """Return backends' hosts as names for a certificate, since that is where our backend runs its tasks."""
    found = []
    for url in urls:
        host = urlsplit(url).hostname or ""
        if host:
            found.append(f"{'IP' if _is_address(host) else 'DNS'}:{host}")
    return list(dict.fromkeys(found))


def _is_address(host: str) -> bool:
    return ":" in host or all(part.isdigit() for part in host.split("."))


def _owner(account: str | None) -> pwd.struct_passwd | None:
    if account is None:
        return None
    try:
        owner = pwd.getpwnam(account)
    except KeyError:
        raise ValueError(
            f"the certificates are for the account {account!r}, which the hub's machine does not know"
        ) from None
    if os.geteuid() not in (0, owner.pw_uid):
        raise ValueError(f"only root can hand certificates over to {account!r}, and the hub is not root")
    return owner
