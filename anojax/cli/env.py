"""``anojax env``: versions, devices and folders, to paste into a bug report."""

import argparse
import json
import os
import platform

from anojax.cli.arguments import add_common, start_devices

PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "pillow",
    "tensorflow-datasets",
    "array-record",
)


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "env",
        help="print versions and devices",
        description="Print versions, devices and folders, to paste into a bug report.",
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    facts = gather()
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {value}")
    return 0


def gather() -> dict[str, str]:
    """Everything that a bug report should hold."""
    import anojax
    from anojax.compile_cache import keep_programs

    devices = start_devices()
    kinds = {}
    for device in devices:
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    return {
        "anojax": anojax.__version__,
        "python": platform.python_version(),
        **versions(),
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
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
