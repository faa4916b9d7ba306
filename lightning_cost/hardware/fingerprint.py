"""What identifies this machine and the runtimes on it, to be stored beside what was measured."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_cost.runtime.standalone import cpu_name

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimddp")
_PACKAGES = ("torch", "onnxruntime", "openvino")


def machine_fingerprint(cpu_info: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """CPU model, cores, instruction sets that matter for latency, system, runtime versions.

    Args:
        cpu_info: Linux's description of the processor; on other systems Python is asked.
    """
    flags = _all_flags(cpu_info)
    return {
        "cpu": cpu_name(cpu_info),
        "num_cores": os.cpu_count(),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "versions": _versions(),
    }


def _all_flags(cpu_info: Path) -> list[str]:
    """The first processor's instruction sets, or none where the system does not tell."""
    if not cpu_info.is_file():
        return []
    for line in cpu_info.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return value.split()
    return []


def _versions() -> dict[str, str]:
    installed = [package for package in _PACKAGES if find_spec(package) is not None]
    return {package: version(package) for package in installed}
