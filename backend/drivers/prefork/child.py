"""A process that was forked from a template becomes the program of its task, as if it had been executed.

It has its account, sandbox, control group and standard files by then. First comes all that may turn out not
to fit, in which case the command is executed as it stands; what changes the process for good comes last.
"""

from __future__ import annotations

import ast
import importlib.machinery
import os
import re
import runpy
import signal
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..order import Order
from ..proctree import MARKER
from .imports import Stock, Unfit
from .line import Line, environment_from_shell, read_command
from .repairs import Stale, repair
from .visible import show

_LONGEST_SCRIPT = 4096
_ENTRY_POINTS = {"dask.__main__": "worker", "jupyterhub.singleuser": "server"}
"""Modules that console scripts take their function from, and the kind of template that suits them."""


class Program:
    """A Python program, and how the kernel and the interpreter would have been told of it.

    Attributes
    ----------
    interpreter
        Path of the interpreter, as ``sys.executable`` has it.
    executed
        Path of the file that exec would have been given.
    module, script
        What runs: the one or the other.
    arguments
        All of the command line, the interpreter first.
    folder
        Where modules are looked for first.
    """

    __slots__ = ("arguments", "executed", "folder", "interpreter", "module", "script")

    def __init__(
        self,
        interpreter: str,
        executed: str,
        module: str | None,
        script: str | None,
        arguments: Sequence[str],
    ) -> None:
        self.interpreter = interpreter
        self.executed = executed
        self.module = module
        self.script = script
        self.arguments = list(arguments)
        self.folder = os.getcwd() if script is None else os.path.dirname(os.path.realpath(script))


def become(order: Order, kind: str, stock: Stock) -> Callable[[], None]:
    """Make this process that of a task, up to the first line of its program; return what runs that.

    Raises
    ------
    Unfit
        If the command must be executed instead. Nothing is different then for what is executed.
    """
    line = read_command(order.command, order.environment)
    if line is None or line.kind != kind:
        raise Unfit("the command is not plain to see")
    sandbox = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        environment = _through_shell(line, {**order.environment, MARKER: order.task_id})
        program = find_program(line, environment.get("PATH", ""))
        stock.check_environment(environment)
        stock.check_access()
        stock.check_precedence(program.folder)
        # What the task sees of the disk may be another thing.
        if order.mounts and (reason := stock.changed()):
            raise Unfit(reason)
        _show(program, environment)
        os.environ.clear()
        os.environ.update({**stock.added, **environment})
        repair(stock.settings, stock.generators)
    except BaseException as error:
        os.fchdir(sandbox)
        if isinstance(error, Unfit):
            raise
        raise Unfit(str(error) if isinstance(error, Stale) else repr(error)) from error
    os.close(sandbox)
    _set_interpreter(program)
    _set_signals()
    _forget_template(stock.launcher_modules)
    return _run_module(program.module) if program.module else _run_script(program)


def _through_shell(line: Line, environment: dict[str, str]) -> dict[str, str]:
    """Do what the shell would do before it becomes the program; return the environment that it would give."""
    if line.shell is None:
        return environment
    shell = os.path.basename(os.path.realpath(line.shell))
    if shell not in ("bash", "dash"):
        raise Unfit(f"{line.shell} is {shell}, which is not known well enough")
    before = environment.get("PWD", "")
    if not before.startswith("/") or not os.path.samefile(before, "."):
        before = os.getcwd()
    for directory in line.make:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    if line.enter is not None:
        os.chdir(line.enter)
    return environment_from_shell(shell, environment, before, line.enter or before)


def find_program(line: Line, path: str) -> Program:
    """Return the program of a command, looked up on a ``PATH``.

    Raises
    ------
    Unfit
        If it is none of this interpreter's own environment.
    """
    word, *arguments = line.words
    found = word if "/" in word else _look_up(word, path)
    if found is None or not os.access(found, os.X_OK) or not os.path.isfile(found):
        raise Unfit(f"{word} is not there, or not for this account")
    found = os.path.abspath(found)
    if arguments[:1] == ["-m"]:
        _check_interpreter(found)
        return Program(found, found, arguments[1], None, line.words)
    interpreter, module = _read_script(found)
    if _ENTRY_POINTS.get(module) != line.kind:
        raise Unfit(f"{found} is not the console script that it is known as")
    _check_interpreter(interpreter)
    return Program(interpreter, found, None, found, [interpreter, found, *arguments])


def _look_up(word: str, path: str) -> str | None:
    for directory in path.split(":"):
        candidate = os.path.join(directory, word)
        # An empty part is the current directory, where a task may have put anything.
        if directory.startswith("/") and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
        if not directory.startswith("/"):
            return None
    return None


def _check_interpreter(path: str) -> None:
    ours = sys.executable
    if os.path.dirname(path) != os.path.dirname(ours) or os.path.realpath(path) != os.path.realpath(ours):
        raise Unfit(f"{path} is not the interpreter of the template, {ours}")


def _read_script(path: str) -> tuple[str, str]:
    """Return the interpreter of a console script, and the module whose import is all that it begins with."""
    with open(path, "rb") as file:
        content = file.read(_LONGEST_SCRIPT + 1)
    shebang = re.match(rb"#!(/[^\s]+)[ \t]*\n", content)
    if shebang is None or len(content) > _LONGEST_SCRIPT:
        raise Unfit(f"{path} is not a console script")
    modules = []
    for statement in ast.parse(content).body:
        match statement:
            case ast.Import(names=names) if {name.name for name in names} <= {"re", "sys"}:
                pass
            case ast.ImportFrom(module=str(module), level=0):
                modules.append(module)
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                pass
            case _:
                raise Unfit(f"{path} does more than a console script")
    if len(modules) != 1:
        raise Unfit(f"{path} is not a console script")
    return os.fsdecode(shebang[1]), modules[0]


def _show(program: Program, environment: dict[str, str]) -> None:
    show(
        [os.fsencode(argument) for argument in program.arguments],
        [os.fsencode(f"{name}={value}") for name, value in environment.items()],
        os.fsencode(os.path.basename(program.executed)),
    )


def _set_interpreter(program: Program) -> None:
    """Set what the interpreter sets at its start."""
    sys.executable = program.interpreter
    sys.orig_argv[:] = program.arguments
    if program.module is not None:
        # The interpreter's own, until the module has been found.
        sys.argv[:] = ["-m", *program.arguments[3:]]
    else:
        sys.argv[:] = program.arguments[1:]
    sys.path.insert(0, program.folder)
    for name, descriptor, mode in (("stdin", 0, "rb"), ("stdout", 1, "wb"), ("stderr", 2, "wb")):
        _reopen(name, descriptor, mode)


def _reopen(name: str, descriptor: int, mode: str) -> None:
    """Open a standard file again, in the same object, since handlers of logs may have it."""
    stream = getattr(sys, name)
    encoding, errors = stream.encoding, stream.errors
    stream.detach()
    buffer: Any = open(descriptor, mode, closefd=False)  # noqa: SIM115 - for as long as the process
    buffer.raw.name = f"<{name}>"
    lines = name == "stderr" or buffer.isatty()
    stream.__init__(buffer, encoding, errors, newline="\n", line_buffering=lines)


def _set_signals() -> None:
    """Give signals the meaning that they have in a new interpreter."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_IGN)


def _forget_template(modules: Iterable[str]) -> None:
    """Leave nothing behind that a new interpreter has not, but modules that the program will need."""
    for name in modules:
        del sys.modules[name]
    main = types.ModuleType("__main__")
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    main.__loader__ = importlib.machinery.BuiltinImporter
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main


def _run_module(name: str) -> Callable[[], None]:
    return lambda: runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_script(program: Program) -> Callable[[], None]:
    path = program.arguments[1]
    with open(path, "rb") as file:
        source = file.read()
    names = vars(sys.modules["__main__"])
    names.update(
        __file__=path, __cached__=None, __loader__=importlib.machinery.SourceFileLoader("__main__", path)
    )
    code = compile(source, path, "exec", dont_inherit=True)
    return lambda: exec(code, names)  # noqa: S102 - the program


def run(program: Callable[[], None], kept: Stock) -> None:
    """Run a program; what it raises is reported without a trace of how it came to run.

    `kept` is not let go meanwhile: to free so many objects would copy the pages that they are in.
    """
    try:
        program()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)
