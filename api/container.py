"""The container of an app: its image, volumes and confinement (``marathon-v2`` 2.3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .fields import Labels, LongCount, Mode, Text, is_empty
from .network import PortMapping
from .wire import Wire

VolumeType = Literal["root", "path", "mount"]


class PersistentInfo(Wire):
    """Storage that outlives the task. Sizes in MiB."""

    size: LongCount
    type: VolumeType = "root"
    max_size: LongCount | None = None
    profile_name: str | None = None
    constraints: list[list[str]] = Field(default_factory=list)


class ExternalInfo(Wire):
    """Storage of a volume provider, such as ``dvdi``. Size in GiB."""

    name: str
    provider: str
    options: Labels = Field(default_factory=dict, exclude_if=is_empty)
    size: LongCount | None = None
    shared: bool | None = None


class CsiCapability(Wire):
    """How a volume of the container storage interface is published."""

    access_mode: Literal[
        "SINGLE_NODE_WRITER",
        "SINGLE_NODE_READER_ONLY",
        "MULTI_NODE_READER_ONLY",
        "MULTI_NODE_SINGLE_WRITER",
        "MULTI_NODE_MULTI_WRITER",
    ]
    access_type: Literal["block", "mount"]
    fs_type: str | None = None
    mount_flags: list[str] = Field(default_factory=list, exclude_if=is_empty)


class CsiOptions(Wire):
    """What a plug-in of the container storage interface is told; secrets are names."""

    plugin_name: Text
    capability: CsiCapability
    node_stage_secret: Labels = Field(default_factory=dict, exclude_if=is_empty)
    node_publish_secret: Labels = Field(default_factory=dict, exclude_if=is_empty)
    volume_context: Labels = Field(default_factory=dict, exclude_if=is_empty)


class CsiInfo(Wire):
    """Storage of the container storage interface (Marathon 1.10 and later)."""

    name: str
    provider: Literal["csi"]
    options: CsiOptions


def _external_kind(value: Any) -> str:
    provider = value.get("provider") if isinstance(value, dict) else getattr(value, "provider", None)
    return "=csi" if provider == "csi" else "=dvdi"


AnyExternalInfo = Annotated[
    Annotated[CsiInfo, Tag("=csi")] | Annotated[ExternalInfo, Tag("=dvdi")], Discriminator(_external_kind)
]


class Volume(Wire):
    """What all volumes have, and the marks by which they are told apart; the kinds narrow it."""

    container_path: Text
    mode: Mode | None = None
    host_path: str | None = None
    persistent: PersistentInfo | None = None
    external: AnyExternalInfo | None = None
    secret: str | None = None


class HostVolume(Volume):
    """A path of the host inside the container."""

    host_path: Text
    mode: Mode


class PersistentVolume(Volume):
    """Storage of the task's own place inside the container."""

    persistent: PersistentInfo
    mode: Mode


class ExternalVolume(Volume):
    """Storage of a provider inside the container."""

    external: AnyExternalInfo
    mode: Mode


class SecretVolume(Volume):
    """A secret as a file inside the container."""

    secret: Text


def _volume_kind(value: Any) -> str:
    for kind in ("persistent", "external", "secret"):
        found = value.get(kind) if isinstance(value, dict) else getattr(value, kind, None)
        if found is not None:
            return f"={kind}"
    return "=host"


AnyVolume = Annotated[
    Annotated[HostVolume, Tag("=host")]
    | Annotated[PersistentVolume, Tag("=persistent")]
    | Annotated[ExternalVolume, Tag("=external")]
    | Annotated[SecretVolume, Tag("=secret")],
    Discriminator(_volume_kind),
]


class DockerParameter(Wire):
    """An option of the Docker command line."""

    key: Text
    value: str


class PullConfig(Wire):
    """The secret that holds the credentials of the image's registry."""

    secret: Text


class Credential(Wire):
    """A registry's credential; deprecated since Marathon 1.5, and refused."""

    principal: str
    secret: str | None = None


class Docker(Wire):
    """The image of a container, and how it is run."""

    image: Text
    force_pull_image: bool = False
    privileged: bool = False
    parameters: list[DockerParameter] = Field(default_factory=list)
    pull_config: PullConfig | None = None
    # deprecated since Marathon 1.5; accepted, never emitted
    credential: Credential | None = None
    network: Literal["BRIDGE", "HOST", "NONE", "USER"] | None = None
    port_mappings: list[PortMapping] | None = None


class Seccomp(Wire):
    """The profile of system calls that a container may make (Marathon 1.8 and later)."""

    profile_name: str | None = None
    unconfined: bool = False


class IpcInfo(Wire):
    """The shared memory of a container (Marathon 1.9 and later). Size in MiB."""

    mode: Literal["PRIVATE", "SHARE_PARENT"]
    shm_size: int | None = None


class LinuxInfo(Wire):
    """How a container is confined."""

    capabilities: dict[str, Any] | None = None
    seccomp: Seccomp | None = None
    ipc_info: IpcInfo | None = None


class Container(Wire):
    """What surrounds the command."""

    type: Literal["MESOS", "DOCKER"] = "DOCKER"
    docker: Docker | None = None
    volumes: list[AnyVolume] = Field(default_factory=list)
    port_mappings: list[PortMapping] | None = None
    linux_info: LinuxInfo | None = None
