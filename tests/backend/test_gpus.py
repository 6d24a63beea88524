"""GPUs: found in a tree of files that stands for /proc and /dev, since no machine of the tests has one."""

from __future__ import annotations

from pathlib import Path

from instances import app, instance

from hubfleet.backend.drivers.gpus import count_gpus
from hubfleet.backend.orchestrator import environment
from hubfleet.backend.records import Condition

INFORMATION = """Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 204
GPU UUID: \t GPU-8c3a7c2e-0000-0000-0000-000000000000
Bus Type: \t PCIe
Device Minor: \t {minor}
GPU Excluded:\t No
"""


def test_gpus_with_a_device_file_are_counted(tmp_path: Path) -> None:
    proc, dev = tmp_path / "proc", tmp_path / "dev"
    assert count_gpus(proc, dev) == 0
    dev.mkdir()
    for minor in range(3):
        gpu = proc / f"driver/nvidia/gpus/0000:0{minor}:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(INFORMATION.format(minor=minor))
    for minor in (0, 2):  # the second was not handed into this container
        (dev / f"nvidia{minor}").touch()
    assert count_gpus(proc, dev) == 2


def test_a_task_sees_its_gpus_and_no_others() -> None:
    def variables(gpus: list[int]) -> dict[str, str]:
        task = instance(Condition.PROVISIONED, host="h", gpus=gpus)
        return environment.environment(app(gpus=len(gpus)), task, {}, "/sandbox")

    two = variables([1, 3])
    assert (two["CUDA_VISIBLE_DEVICES"], two["NVIDIA_VISIBLE_DEVICES"]) == ("1,3", "1,3")
    assert two["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    none = variables([])
    assert (none["CUDA_VISIBLE_DEVICES"], none["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
