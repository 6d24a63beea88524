"""The NVIDIA GPUs of this machine, as its kernel module tells of them: no library of theirs is needed."""

from __future__ import annotations

import re
from pathlib import Path

_MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)


def count_gpus(proc: Path = Path("/proc"), dev: Path = Path("/dev")) -> int:
    """Return how many GPUs our processes can open; 0 where there is no driver of NVIDIA's.

    Parameters
    ----------
    proc, dev
        Where the kernel's files are looked for.

    Notes
    -----
    A GPU counts if its device file is there: in a container the kernel shows all GPUs of
    the machine, but only those handed in have one. Those that count are numbered in the
    order of their PCI addresses, which is CUDA's with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    try:
        told = [path.read_text() for path in (proc / "driver/nvidia/gpus").glob("*/information")]
    except OSError:
        return 0
    minors = [found[1] for text in told if (found := _MINOR.search(text))]
    return sum(1 for minor in minors if (dev / f"nvidia{minor}").exists())
