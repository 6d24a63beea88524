"""Generated bodies of requests: whole definitions that are right, and any JSON at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from hubfleet.api.app import App

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
PORTS = st.integers(0, 65535)
SECONDS = st.integers(1, 10**6)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=2)
IDS = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
PROTOCOLS = st.sampled_from(["tcp", "udp", "udp,tcp"])
SHARES = st.floats(0, 1)
URIS = NAMES.map(lambda name: f"https://example.org/{name}.tgz")


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the required members and any of the others."""
    return st.fixed_dictionaries(required, optional=optional)


def lists(items: Any, **sizes: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=2, **sizes)


DEFINITIONS = some({}, port=PORTS, protocol=PROTOCOLS, name=NAMES, labels=LABELS)
MAPPINGS = some(
    {}, containerPort=PORTS, hostPort=PORTS, servicePort=PORTS, protocol=PROTOCOLS, name=NAMES, labels=LABELS
)
VOLUMES = st.one_of(
    st.fixed_dictionaries({"containerPath": TEXTS, "hostPath": TEXTS, "mode": st.sampled_from(["RO", "RW"])}),
    some(
        {
            "containerPath": NAMES,
            "mode": st.just("RW"),
            "persistent": some(
                {"size": SECONDS}, type=st.sampled_from(["root", "path", "mount"]), maxSize=SECONDS
            ),
        }
    ),
    some(
        {
            "containerPath": NAMES,
            "mode": st.just("RW"),
            "external": some({"name": NAMES, "provider": st.just("dvdi")}, options=LABELS, size=SECONDS),
        }
    ),
    st.fixed_dictionaries({"containerPath": NAMES, "secret": NAMES}),
)
DOCKER = some(
    {"image": TEXTS},
    forcePullImage=st.booleans(),
    privileged=st.booleans(),
    parameters=lists(st.fixed_dictionaries({"key": TEXTS, "value": TEXTS})),
    pullConfig=st.fixed_dictionaries({"secret": NAMES}),
    network=st.sampled_from(["BRIDGE", "HOST", "NONE", "USER"]),
    portMappings=lists(MAPPINGS),
)
CONTAINERS = some(
    {},
    type=st.sampled_from(["MESOS", "DOCKER"]),
    docker=DOCKER,
    volumes=lists(VOLUMES),
    portMappings=lists(MAPPINGS),
    linuxInfo=some({}, seccomp=some({}, unconfined=st.booleans(), profileName=TEXTS)),
)
HEALTH_CHECKS = some(
    {},
    protocol=st.sampled_from(["HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_TCP"]),
    path=TEXTS,
    port=PORTS,
    portIndex=st.integers(0, 3),
    command=st.fixed_dictionaries({"value": TEXTS}),
    intervalSeconds=SECONDS,
    maxConsecutiveFailures=st.integers(0, 5),
    ignoreHttp1xx=st.booleans(),
)
LIMITS = st.one_of(st.just("unlimited"), st.floats(0, 10**6))
APPS = some(
    {"id": IDS},
    cmd=TEXTS,
    args=lists(TEXTS),
    cpus=st.floats(0.001, 1000),
    mem=st.floats(0, 10**6),
    disk=st.floats(0, 10**6),
    gpus=st.integers(0, 4),
    instances=st.integers(0, 100),
    user=TEXTS,
    env=st.dictionaries(TEXTS, TEXTS | st.fixed_dictionaries({"secret": NAMES}), max_size=2),
    secrets=st.dictionaries(NAMES, st.fixed_dictionaries({"source": TEXTS}), max_size=2),
    labels=LABELS,
    constraints=lists(st.lists(TEXTS, min_size=2, max_size=3)),
    container=CONTAINERS,
    networks=lists(
        some({}, mode=st.sampled_from(["host", "container", "container/bridge"]), name=NAMES, labels=LABELS)
    ),
    portDefinitions=lists(DEFINITIONS),
    requirePorts=st.booleans(),
    healthChecks=lists(HEALTH_CHECKS),
    check=some({}, http=some({}, path=TEXTS, portIndex=PORTS), tcp=some({}, port=PORTS)),
    readinessChecks=lists(
        some({}, name=TEXTS, portName=NAMES, httpStatusCodesForReady=st.just([200, 204]), path=TEXTS)
    ),
    upgradeStrategy=some({}, minimumHealthCapacity=SHARES, maximumOverCapacity=SHARES),
    backoffSeconds=st.floats(0, 10**6),
    backoffFactor=st.floats(1, 100),
    maxLaunchDelaySeconds=st.integers(0, 10**6),
    taskKillGracePeriodSeconds=st.integers(0, 1000),
    killSelection=st.sampled_from(["YOUNGEST_FIRST", "OLDEST_FIRST"]),
    unreachableStrategy=st.one_of(
        st.just("disabled"), some({}, inactiveAfterSeconds=SECONDS, expungeAfterSeconds=SECONDS)
    ),
    fetch=lists(some({"uri": URIS}, extract=st.booleans(), destPath=TEXTS)),
    acceptedResourceRoles=lists(TEXTS),
    dependencies=lists(IDS | st.just("../x") | NAMES),
    executor=st.sampled_from(["", "//cmd", "/a/b"]),
    executorResources=some({}, cpus=st.floats(0.1, 10), mem=st.floats(32, 100)),
    resourceLimits=some({}, cpus=LIMITS, mem=LIMITS),
    residency=some({}, relaunchEscalationTimeoutSeconds=SECONDS),
    role=TEXTS,
    tty=st.booleans(),
    ports=lists(PORTS),
    uris=lists(URIS),
    ipAddress=some(
        {},
        networkName=NAMES,
        labels=LABELS,
        discovery=some({}, ports=lists(some({"name": NAMES}, number=PORTS))),
    ),
)

# What breaks no rule, with an engine that can do everything.
GOOD_APPS = some(
    {"id": IDS.map(lambda app_id: app_id + "/app"), "cmd": TEXTS},
    cpus=st.floats(0.001, 1000),
    mem=st.floats(0, 10**6),
    instances=st.integers(0, 100),
    user=TEXTS,
    labels=LABELS,
    ports=lists(st.just(0)),
    healthChecks=lists(some({"port": st.integers(1, 9)}, path=TEXTS, ignoreHttp1xx=st.booleans())),
    upgradeStrategy=some({}, minimumHealthCapacity=SHARES, maximumOverCapacity=SHARES),
    backoffSeconds=st.floats(0, 10**6),
    killSelection=st.sampled_from(["YOUNGEST_FIRST", "OLDEST_FIRST"]),
    unreachableStrategy=st.just("disabled"),
    container=st.just({"type": "MESOS", "volumes": [{"containerPath": "a", "hostPath": "/a", "mode": "RO"}]})
    | st.just({"docker": {"image": "i", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}),
    executorResources=st.just({"cpus": 0.2}),
    resourceLimits=st.just({"mem": "unlimited"}),
    tty=st.booleans(),
    acceptedResourceRoles=st.just(["*"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KNOWN = st.sampled_from([field.alias or name for name, field in App.model_fields.items()])


def spoiled() -> st.SearchStrategy[Any]:
    """Any JSON value, most of them definitions with something in them that does not belong there."""
    strange = st.dictionaries(KNOWN, VALUES, max_size=4)
    return st.one_of(VALUES, strange, st.builds(lambda app, change: {**app, **change}, APPS, strange), APPS)
