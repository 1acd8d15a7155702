"""Rehearse a run on several hosts with several CPU processes on this one.

    python train/rehearse.py --processes 2 --devices-each 4 -- CONFIG --output RUN

What runs here runs on a pod: the processes speak through the same interface.
"""

import argparse
import os
import socket
import subprocess
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices-each", type=int, default=4)
    parser.add_argument("words", nargs="+", help="words for 'anojax train', after --")
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "anojax", "train", *args.words, "--distributed"]
    common = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(args.devices_each),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(args.processes),
    }
    started = [
        subprocess.Popen(command, env=common | {"JAX_PROCESS_ID": str(i)})
        for i in range(args.processes)
    ]
    try:
        return max(process.wait() for process in started)
    except KeyboardInterrupt:  # they got it too, and save
        return max(process.wait() for process in started)


if __name__ == "__main__":
    sys.exit(main())
