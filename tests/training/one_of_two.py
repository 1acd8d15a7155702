"""One process of a distributed run; started by test_distributed.py."""

import sys
from pathlib import Path

import jax


def main(process: int, address: str, folder: Path) -> None:
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=process)
    assert (jax.device_count(), jax.local_device_count()) == (8, 4)
    from test_distributed import RULES, run

    from anojax.training.parallel import MeshJit, Pmap

    run(folder / "pmap", Pmap())
    run(folder / "mesh", MeshJit(2, RULES))
    jax.distributed.shutdown()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
