"""The parameters of query strings, described; several operations share most of them."""

from __future__ import annotations

from .operations import Query, Schema


def _texts(*known: str) -> Schema:
    """Return the schema of a parameter that may come several times, with the values that mean something."""
    text: Schema = {"type": "string"}
    return {"type": "array", "items": {"anyOf": [{"enum": list(known)}, text]} if known else text}


def _boolean(name: str, default: bool, description: str) -> Query:
    note = f"{description} What is not 'true', in any spelling, is false."
    return Query(name, {"type": "boolean", "default": default}, note)


def _text(name: str, description: str, **limits: object) -> Query:
    return Query(name, {"type": "string", **limits}, description)


FORCE = _boolean(
    "force", False, "Cancel the deployments that are in the way, instead of being refused (409)."
)
FORCE_DELETE = _boolean("force", True, "Cancel the deployments that are in the way.")
CANCEL = _boolean("force", False, "Leave everything as it is, instead of going back to what was before.")
PARTIAL = _boolean(
    "partialUpdate", True, "Keep what the body leaves out; else the body is a whole definition."
)
FAIL_FAST = _boolean("failFast", False, "Refuse (409) what would have to wait for room. Not Marathon's.")
DRY_RUN = _boolean("dryRun", False, "Change nothing, only say what would be done.")
CHANGE = (FORCE, FAIL_FAST)

_OF_APP = (
    "counts",
    "tasks",
    "deployments",
    "lastTaskFailure",
    "failures",
    "readiness",
    "taskStats",
    "stderr",
)
_UNKNOWN = "Unknown values name nothing."

EMBED_APPS = Query(
    "embed",
    _texts(*(f"app.{name}" for name in _OF_APP)),
    f"What is shown beside the definition; app.stderr is not Marathon's. {_UNKNOWN}",
)
EMBED_GROUPS = Query(
    "embed",
    _texts("group.groups", "group.apps", "group.pods", *(f"group.apps.{name}" for name in _OF_APP)),
    f"What is shown of a group; without any it is all of it, with the bare definitions. {_UNKNOWN}",
)
EMBED_QUEUE = Query(
    "embed",
    _texts("lastUnusedOffers", "explanation"),
    "The places that did not fit; and what is missing, in a sentence, which is not Marathon's. " + _UNKNOWN,
)
EVENT_TYPES = Query("event_type", _texts(), "Only events of these types.")

SELECTION = (
    _text("id", "Only apps with this in their ids, in any case of the letters."),
    _text("cmd", "Only apps with this in their commands, in any case of the letters."),
    _text(
        "label",
        "Only apps whose labels meet all of these, separated by commas: key, key==value, key!=value, "
        "key in (a,b), key notin (a,b).",
    ),
)
STATUS = Query("status", _texts("running", "staging"), f"Only tasks in these states. {_UNKNOWN}")

SCALE = _boolean("scale", False, "Lower the counts of the apps by as many as are killed.")
WIPE = _boolean("wipe", False, "Forget the instances of the tasks; not together with scale.")
KILL = (SCALE, WIPE, *CHANGE)
HOST = _text("host", "Only tasks on this host; * is all.", default="*")

FOLLOW = _boolean("follow", False, "Send what follows too, as it is written, until the task has ended.")
PART = (
    Query("tail", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}, "The last so many lines."),
    Query(
        "offset",
        {"type": "integer", "minimum": -(10**18) + 1, "maximum": 10**18 - 1},
        "The byte at which to begin; counted from the end if it is negative.",
    ),
    Query("length", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}, "The most bytes to send."),
    FOLLOW,
)
USER = _text("user", "Whose quota; the caller's own without it.")

SAVING = (
    _text("backup", "Refused (422): the state is one SQLite database, which can be copied."),
    _text("restore", "Refused (422)."),
)
