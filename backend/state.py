"""Everything the backend knows, in memory, each change written through to the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.wire import now

from .groups import Groups
from .records import AppRecord, DeploymentRecord, Instance
from .reservations import Reservations
from .store import Store
from .tree import Tree


class State:
    """Apps, instances and deployments by id; `leased` are the apps that have a lease.

    The records are changed in place and then given to a ``put_…``; what must hold
    together is put within one `transaction`. Which instances wait for a place (`waiting`),
    and what those hold that have one (`reservations`), is as they were put last.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.archive = store.archive
        self.apps = {record.id: record for record in store.load_apps()}
        self.deployments = {deployment.id: deployment for deployment in store.load_deployments()}
        self._deployments_of: dict[str, dict[str, DeploymentRecord]] = {}
        for deployment in self.deployments.values():
            self._index(deployment)
        self.instances = {instance.id: instance for instance in store.load_instances()}
        self._by_app: dict[str, dict[str, Instance]] = {}
        for instance in self.instances.values():
            self._by_app.setdefault(instance.app_id, {})[instance.id] = instance
        self._known = Tree([*self.apps, *self._by_app])
        self._owned: dict[str, dict[str, None]] = {}
        self.leased: set[str] = set()
        for record in self.apps.values():
            self._note_labels(record)
        self._definitions: dict[tuple[str, datetime], App] = {}
        self.waiting: dict[str, Instance] = {}
        self.reservations = Reservations()
        for instance in self.instances.values():
            self._note_place(instance)
        self.groups = Groups(store.groups, self.apps_within)
        self._last_version = max(
            (
                *(record.app.version for record in self.apps.values() if record.app.version),
                *(instance.version for instance in self.instances.values()),
                *(deployment.version for deployment in self.deployments.values()),
                *([newest] if (newest := self.groups.newest()) else []),
            ),
            default=now(),
        )
        with store.transaction():
            self.groups.adopt(self.apps, self.next_version())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything within, or nothing of it.

        Notes
        -----
        A failed write leaves memory ahead of the store; the backend must then end,
        and finds the truth again when it starts.
        """
        with self._store.transaction():
            yield

    def next_version(self) -> datetime:
        """Return a version newer than all before, even if the clock was set back."""
        self._last_version = max(now(), self._last_version + timedelta(milliseconds=1))
        return self._last_version

    # -- apps ---------------------------------------------------------------------------

    def define_apps(self, records: Collection[AppRecord], version: datetime) -> None:
        """Keep apps of a new version; nothing is left of former apps of their ids but what still runs."""
        with self._store.transaction():
            self._store.delete_versions(record.id for record in records if record.id not in self.apps)
            self._store.define_apps(records, version)
            for record in records:
                self._keep(record)

    def put_app(self, record: AppRecord) -> None:
        """Keep what happened to an app."""
        self._store.save_app(record)
        self._keep(record)

    def _keep(self, record: AppRecord) -> None:
        self._forget_labels(record.id)
        self.apps[record.id] = record
        self._known.add(record.id)
        self._note_labels(record)

    def drop_app(self, app_id: str) -> None:
        """Forget an app; the definitions of its last tasks stay until `forget_versions`."""
        self._store.delete_app(app_id)
        self._forget_labels(app_id)
        self.apps.pop(app_id, None)
        if app_id not in self._by_app:
            self._known.discard(app_id)

    def known_within(self, group: str) -> Iterator[str]:
        """Yield the ids in a group of all apps, also of those that are gone but for their instances."""
        return self._known.within(group)

    def apps_within(self, group: str) -> Iterator[AppRecord]:
        """Yield the apps in a group, at any depth."""
        return (self.apps[app_id] for app_id in self._known.within(group) if app_id in self.apps)

    def definition(self, instance: Instance) -> App | None:
        """Return the definition by which an instance was, or is to be, started."""
        key = (instance.app_id, instance.version)
        record = self.apps.get(instance.app_id)
        if record is not None and record.app.version == instance.version:
            return record.app
        if key not in self._definitions:
            found = self._store.load_version(*key)
            if found is None:
                return None
            self._definitions[key] = found
        return self._definitions[key]

    def standing(self, app_id: str) -> App | None:
        """Return the definition by which an app's tasks are to be now.

        It is the former one, None if there was none, while the app's turn in its
        deployment has not come.
        """
        for deployment in self.deployments_of(app_id):
            if deployment.holds(app_id):
                return deployment.originals.get(app_id)
        record = self.apps.get(app_id)
        return record.app if record else None

    def versions(self, app_id: str) -> list[datetime]:
        """Return the kept versions of an app, newest first."""
        return self._store.list_versions(app_id)

    def version(self, app_id: str, version: datetime) -> App | None:
        """Return the definition of one version."""
        return self._store.load_version(app_id, version)

    def forget_versions(self, app_id: str) -> None:
        """Forget the definitions of an app that is gone with its instances."""
        self._store.delete_versions([app_id])
        self._definitions = {key: app for key, app in self._definitions.items() if key[0] != app_id}

    def owned_by(self, app_id: str) -> list[AppRecord]:
        """Return the apps that have no reason to be without another one, and theirs in turn."""
        found: dict[str, AppRecord] = {}
        owners = [app_id]
        while owners:
            new = [each for each in self._owned.get(owners.pop(), ()) if each not in found and each != app_id]
            found.update((each, self.apps[each]) for each in new)
            owners += new
        return list(found.values())

    def _note_labels(self, record: AppRecord) -> None:
        if labels.LEASE in record.app.labels:
            self.leased.add(record.id)
        if owner := record.app.labels.get(labels.OWNER):
            self._owned.setdefault(owner, {})[record.id] = None

    def _forget_labels(self, app_id: str) -> None:
        self.leased.discard(app_id)
        record = self.apps.get(app_id)
        owner = record.app.labels.get(labels.OWNER) if record else None
        if owner in self._owned:
            self._owned[owner].pop(app_id, None)
            if not self._owned[owner]:
                del self._owned[owner]

    # -- instances ----------------------------------------------------------------------

    def instances_of(self, app_id: str) -> list[Instance]:
        """Return the instances of an app, whatever becomes of them."""
        return list(self._by_app.get(app_id, {}).values())

    def instance_of(self, task_id: str) -> Instance | None:
        """Return the instance whose present task this is, if there is, or may be, such a task."""
        instance = self.instances.get(task_id.rpartition("._app.")[0])
        if instance is None or not instance.launched or instance.task_id != task_id:
            return None
        return instance

    def put_instance(self, instance: Instance) -> None:
        """Keep an instance."""
        self._store.save_instance(instance)
        self.instances[instance.id] = instance
        self._by_app.setdefault(instance.app_id, {})[instance.id] = instance
        self._known.add(instance.app_id)
        self._note_place(instance)

    def _note_place(self, instance: Instance) -> None:
        if instance.waits:
            self.waiting[instance.id] = instance
        else:
            self.waiting.pop(instance.id, None)
        app = self.definition(instance) if instance.launched else None
        if app is None:
            self.reservations.release(instance.id)
        else:
            self.reservations.hold(instance, app)

    def drop_instance(self, instance: Instance) -> None:
        """Forget an instance."""
        self._store.delete_instance(instance.id)
        self.instances.pop(instance.id, None)
        self.waiting.pop(instance.id, None)
        self.reservations.release(instance.id)
        of_app = self._by_app.get(instance.app_id, {})
        of_app.pop(instance.id, None)
        if not of_app:
            self._by_app.pop(instance.app_id, None)
            if instance.app_id not in self.apps:
                self._known.discard(instance.app_id)

    # -- deployments --------------------------------------------------------------------

    def deployments_of(self, app_id: str) -> list[DeploymentRecord]:
        """Return the deployments that affect an app, oldest first."""
        return list(self._deployments_of.get(app_id, {}).values())

    def launched_by(self, instance: Instance) -> DeploymentRecord | None:
        """Return the deployment that made an instance, if it is still under way."""
        for deployment in self.deployments_of(instance.app_id):
            if deployment.version == instance.first_version:
                return deployment
        return None

    def put_deployment(self, deployment: DeploymentRecord) -> None:
        """Keep a deployment; the apps that it affects never change."""
        self._store.save_deployment(deployment)
        self.deployments[deployment.id] = deployment
        self._index(deployment)

    def _index(self, deployment: DeploymentRecord) -> None:
        for app_id in deployment.affected_apps:
            self._deployments_of.setdefault(app_id, {})[deployment.id] = deployment

    def drop_deployment(self, deployment: DeploymentRecord) -> None:
        """Forget a deployment."""
        self._store.delete_deployment(deployment.id)
        self.deployments.pop(deployment.id, None)
        for app_id in deployment.affected_apps:
            of_app = self._deployments_of.get(app_id, {})
            of_app.pop(deployment.id, None)
            if not of_app:
                self._deployments_of.pop(app_id, None)

    # -- strangers ----------------------------------------------------------------------

    def strangers(self, running: Iterable[str]) -> set[str]:
        """Return which of the engine's running tasks are not ours to end.

        They ran already when the store was made: the one that knew their apps was moved
        away, or lost. They are remembered as long as they run.
        """
        known = set(running) if self._store.is_new else self._store.load_strangers()
        strangers = known.intersection(running)
        if self._store.is_new or strangers != known:
            self._store.save_strangers(strangers)
        return strangers
