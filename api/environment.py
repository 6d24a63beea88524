"""The variables by which a hub's server learns where its own apps may live."""

BACKEND_URL = "HUBFLEET_URL"
"""URLs of the Marathon API as the server reaches them, comma-separated."""

DASK_GROUP = "HUBFLEET_DASK_GROUP"
"""The group, such as ``/jupyter/alice/dask``, in which the server's token may make apps."""

APP_ID = "MARATHON_APP_ID"
"""The app id of the running task itself; set by Marathon and by our backend (``marathon-v2`` 5.2)."""

HOST = "HOST"
"""The host of the running task, as others reach it (``marathon-v2`` 5.2)."""

TASK_ID = "MESOS_TASK_ID"
"""The id of the running task (``marathon-v2`` 5.2)."""
