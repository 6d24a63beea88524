"""Makes the virtual environment of `make demo`, `make test` or `make bench`, or says why it cannot.

Runs under any Python 3, so that one that is too old is told so and not shown a traceback.
"""

import hashlib
import os
import shutil
import subprocess
import sys

LEAST_PYTHON = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The bench has an environment of its own: the peers that it measures are nobody else's need, and it
# has the versions that its figures are told with.
REQUIREMENTS = os.path.join(ROOT, "bench", "requirements.txt")
ENVIRONMENTS = {
    "demo": (".venv", ["-e", ".[hub,dask,notebook]"]),
    "test": (".venv", ["-e", ".[test]"]),
    "bench": (".bench", ["-r", REQUIREMENTS, "-e", ".[hub,dask,notebook]"]),
}

# What pip's output says, and what to do about it; the first that is found is shown.
CAUSES = [
    ("No space left on device", "the disk is full; make room (about 600 MB) and try again"),
    ("Permission denied", "a file cannot be written; is the project's folder yours?"),
    ("gcc", "a package must be compiled and there is no compiler; `apt install build-essential python3-dev`"),
    ("NewConnectionError", "the package index cannot be reached; check the network, or pip's configuration"),
    ("No matching distribution", "the package index lacks a package; check pip's configuration"),
]


def stop(sentence):
    """End with one sentence."""
    sys.exit("hubfleet: " + sentence)


def run(command, log):
    """Run a command with its output in a file; return whether it succeeded."""
    with open(log, "ab") as output:
        return subprocess.call(command, stdout=output, stderr=output, cwd=ROOT) == 0


def make_venv(venv, log):
    """Make the virtual environment if there is none of this Python."""
    python = os.path.join(venv, "bin", "python")
    if os.path.exists(python) and subprocess.call([python, "-c", ""]) == 0:
        return
    if not run([sys.executable, "-m", "venv", "--clear", venv], log):
        with open(log, errors="replace") as output:
            text = output.read()
        if "ensurepip" in text:
            stop("this Python cannot make virtual environments; `apt install python3-venv`")
        explain(log, f"the virtual environment in {venv} cannot be made")


def explain(log, failure):
    """End with the cause that the log shows."""
    with open(log, errors="replace") as output:
        text = output.read()
    for sign, cause in CAUSES:
        if sign in text:
            stop(f"{failure}: {cause}")
    last = [line for line in text.splitlines() if line.strip()][-1:] or ["no reason was given"]
    stop(f"{failure}: {last[0].strip()} (all of it is in {log})")


def install(venv, kind, arguments, log):
    """Install what a kind needs, unless that was done before with the same setup.cfg and requirements."""
    stamp = os.path.join(venv, "installed-" + kind)
    wanted = hashlib.sha256()
    for name in [os.path.join(ROOT, "setup.cfg")] + [REQUIREMENTS] * (REQUIREMENTS in arguments):
        with open(name, "rb") as file:
            wanted.update(file.read())
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted.hexdigest():
                return
    print(f"hubfleet: installing into {venv} (a minute or two, once)", flush=True)
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "--disable-pip-version-check"]
    if not run([*pip, "install", *arguments], log):
        explain(log, "the packages cannot be installed")
    with open(stamp, "w") as file:
        file.write(wanted.hexdigest())


def find_browser(log):
    """Make sure that there is a Chromium for the tests of pages."""
    if shutil.which("chromium") or shutil.which("google-chrome"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop("the tests of pages need Chromium; `apt install chromium` as root, then try again")
    print("hubfleet: installing Chromium for the tests of pages", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with open(log, "ab") as output:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            if subprocess.call(["apt-get", *command], stdout=output, stderr=output, env=environment):
                explain(log, "Chromium cannot be installed")


def main():
    """Make the environment named on the command line."""
    kind = sys.argv[1]
    if sys.version_info < LEAST_PYTHON:
        stop(
            f"Python 3.11 or newer is needed, {sys.executable} is "
            f"{sys.version_info[0]}.{sys.version_info[1]}; name another one: make PYTHON=python3.12 {kind}"
        )
    log = os.path.join(ROOT, "install.log")
    folder, arguments = ENVIRONMENTS[kind]
    venv = os.path.join(ROOT, folder)
    try:
        open(log, "wb").close()
        make_venv(venv, log)
        install(venv, kind, arguments, log)
        if kind == "test":
            find_browser(log)
        os.remove(log)
    except OSError as error:
        stop(f"the environment cannot be made: {error.strerror}: {error.filename}")


if __name__ == "__main__":
    main()
