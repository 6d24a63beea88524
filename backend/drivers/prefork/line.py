"""Which Python program a command will run, where that can be said without running a shell. Pure.

Only what is certain is understood: an interpreter with ``-m`` and a known module, or a known console script,
either by itself or as the last step of a line such as our own apps have::

    mkdir -p -m 0700 -- "$HOME" && cd -- "$HOME" && exec jupyterhub-singleuser --port=$PORT0

Of the shell's language that is: words, quotes, and variables whose value cannot be split. Everything else is
the shell's own business, and the command is executed as it stands.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

MODULES = {
    "distributed.cli.dask_worker": "worker",
    "jupyterhub.singleuser": "server",
}
"""Modules that ``python -m`` runs, and the kind of template that has imported what they need."""

KINDS = tuple(sorted(set(MODULES.values())))

_SHELLS = ("/bin/sh", "/usr/bin/sh")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Between blanks; nothing in it means anything to a shell but quotes and variables.
_WORD = re.compile(
    r"""(?:[A-Za-z0-9_@%+=:,./^-]
        | '[^'\0]*'
        | "(?:[^"\\$`\0] | \$[A-Za-z_][A-Za-z0-9_]* | \$\{[A-Za-z_][A-Za-z0-9_]*\})*"
        | \$[A-Za-z_][A-Za-z0-9_]* | \$\{[A-Za-z_][A-Za-z0-9_]*\}
    )+""",
    re.VERBOSE,
)
_PART = re.compile(r"""'([^']*)' | "([^"]*)" | \$\{?([A-Za-z_][A-Za-z0-9_]*)\}? | ([^'"$]+)""", re.VERBOSE)
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
# A value that stays one word, and the same, where it is not quoted.
_UNSPLIT = re.compile(r"[A-Za-z0-9_@%+=:,./^-]+")
# What shells set themselves whatever their environment says, drop, or act upon.
_OF_THE_SHELL = frozenset(
    {
        *("BASHOPTS", "BASHPID", "BASH_ENV", "COLUMNS", "DIRSTACK", "ENV", "EPOCHREALTIME"),
        *("EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "IFS", "LINENO", "LINES"),
        *("MAILCHECK", "OLDPWD", "OPTARG", "OPTERR", "OPTIND", "POSIXLY_CORRECT", "PPID", "PS1", "PS2"),
        *("PS4", "PWD", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_"),
    }
)


class Line:
    """A command that is understood.

    Attributes
    ----------
    kind
        The kind of template that suits it: one of `KINDS`.
    words
        The program and its arguments, as the program will find them.
    make, enter
        Directories to be made with mode 0700, and the one to be entered or None, before the program runs;
        absolute and plain.
    shell
        The shell that the command would be run by, or None.
    """

    __slots__ = ("enter", "kind", "make", "shell", "words")

    def __init__(
        self, kind: str, words: Sequence[str], make: Sequence[str], enter: str | None, shell: str | None
    ) -> None:
        self.kind = kind
        self.words = words
        self.make = make
        self.enter = enter
        self.shell = shell


def read_command(command: Sequence[str], environment: Mapping[str, str]) -> Line | None:
    """Return what a command will run, or None if that is not plain to see."""
    if len(command) == 3 and command[0] in _SHELLS and command[1] == "-c":
        return _read_line(command[0], command[2], environment)
    kind = _kind_of(command)
    return Line(kind, command, (), None, None) if kind else None


def _kind_of(words: Sequence[str]) -> str | None:
    name = os.path.basename(words[0])
    if re.fullmatch(r"python[0-9.]*", name):
        return MODULES.get(words[2]) if len(words) > 2 and words[1] == "-m" else None
    if name == "jupyterhub-singleuser":
        return "server"
    return "worker" if name == "dask" and words[1:2] == ["worker"] else None


def _read_line(shell: str, line: str, environment: Mapping[str, str]) -> Line | None:
    # Every task of ours has PWD, and `environment_from_shell` knows what becomes of it.
    if (_OF_THE_SHELL & environment.keys()) - {"PWD"} or not all(map(_NAME.fullmatch, environment)):
        return None
    *steps, last = line.split(" && ")
    make: list[str] = []
    enter: str | None = None
    for step in steps:
        words = _read_words(step, environment)
        if words is None:
            return None
        match words:
            case ["mkdir", "-p", "-m", "0700", "--", path] if enter is None and _is_plain(path):
                make.append(path)
            case ["cd", "--", path] if enter is None and _is_plain(path):
                enter = path
            case _:
                return None
    words = _read_words(last, environment)
    if words is None or len(words) < 2 or words[0] != "exec" or not words[1] or words[1][0] == "-":
        return None
    kind = _kind_of(words[1:])
    return Line(kind, words[1:], make, enter, shell) if kind else None


def _is_plain(path: str) -> bool:
    """Whether a directory is found the same way by everybody, from wherever."""
    return path.startswith("/") and not path.startswith("//") and os.path.normpath(path) == path


def _read_words(text: str, environment: Mapping[str, str]) -> list[str] | None:
    """Return the words of a simple command, or None if a shell might find others."""
    words = []
    for word in _split(text):
        if not _WORD.fullmatch(word):
            return None
        value = ""
        for part in _PART.finditer(word):
            single, double, variable, literal = part.groups()
            if variable is not None:
                expanded = _value_of(variable, environment)
                if expanded is None or not _UNSPLIT.fullmatch(expanded):
                    return None
                value += expanded
            elif double is not None:
                if any(_value_of(name, environment) is None for name in _VARIABLE.findall(double)):
                    return None
                value += _VARIABLE.sub(lambda match: environment[match[1]], double)
            else:
                value += literal if single is None else single
        words.append(value)
    return words


def _split(text: str) -> list[str]:
    """Split at the blanks that are not in quotes."""
    return re.findall(r"""(?:[^ '"]|'[^']*'|"[^"]*"|['"])+""", text)


def environment_from_shell(
    shell: str, environment: Mapping[str, str], before: str, after: str
) -> dict[str, str]:
    """Return the environment that a shell gives a program.

    Parameters
    ----------
    shell
        ``dash`` or ``bash``.
    environment
        The shell's own, of a `Line` that was understood.
    before, after
        The directory that the shell was started in, as its PWD names it or else as the kernel does, and the
        one that it entered, if so.
    """
    given = {**environment, "PWD": after}
    if after != before:
        given["OLDPWD"] = before
    if shell == "bash":
        given["SHLVL"] = "0"
    return given


def _value_of(name: str, environment: Mapping[str, str]) -> str | None:
    return None if name in _OF_THE_SHELL else environment.get(name)
