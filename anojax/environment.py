"""The machine: devices, the folder of compiled programs, versions of packages."""

import os
import platform

from anojax.compile_cache import keep_programs
from anojax.errors import SettingError

PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "pillow",
    "tensorflow-datasets",
    "array-record",
)


MOST_CPU_DEVICES = 256
"""More than any machine's cores would only cost memory."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_bytes() -> int | None:
    """Memory of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def workers() -> int:
    """Threads that read, and threads that write: decoding, packing and hashing leave
    the interpreter to the others, so one for each core keeps it busy."""
    return min(cores(), 64)


def start_devices(count: int | None = None) -> list:
    """Start JAX: all cores as devices, and compiled programs kept between runs.

    Args:
      count: use that many devices.

    Raises:
      SettingError: there are fewer devices than requested.
    """
    import jax

    if count is not None and count < 1:
        raise SettingError(f"--devices is {count}; give at least 1")
    if count is not None and count > max(MOST_CPU_DEVICES, cores()):
        raise SettingError(
            f"--devices is {count}; a machine has at most {MOST_CPU_DEVICES} here; "
            "leave it out to use all there are"
        )
    # A CPU shows itself as one device per core, unless the user decided otherwise.
    decided = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not decided:
        try:
            wanted = max(os.cpu_count() or 1, count or 1)
            jax.config.update("jax_num_cpu_devices", wanted)
        except RuntimeError:
            pass  # JAX runs already, as in a notebook: take the devices it has
    keep_programs()
    devices = jax.local_devices()
    if count is not None and count > len(devices):
        raise SettingError(f"--devices is {count}; this machine has {len(devices)}")
    return devices[:count]


def connect() -> None:
    """Join the other processes; the environment says who they are.

    Raises:
      SettingError: there are none, or they cannot be reached.
    """
    import jax

    number, process = (
        int(os.environ[name]) if name in os.environ else None
        for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    )
    try:
        jax.distributed.initialize(num_processes=number, process_id=process)
    except (ValueError, RuntimeError) as error:
        raise SettingError(
            f"--distributed finds no other processes ({str(error).splitlines()[0]}); "
            "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error


def gather() -> dict[str, str]:
    """Everything that a bug report should hold."""
    import anojax

    devices = start_devices()
    kinds = {}
    for device in devices:
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    return {
        "anojax": anojax.__version__,
        "python": platform.python_version(),
        **versions(),
        "platform": platform.platform(),
        "cores": str(cores()),
        "devices": ", ".join(f"{n} x {kind}" for kind, n in kinds.items()),
        "backend": devices[0].platform,
        "compilation cache": keep_programs() or "off",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "not set"),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "not set"),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that can change an image or a file."""
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
