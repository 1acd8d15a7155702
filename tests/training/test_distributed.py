"""Two processes with four devices each reach the parameters of one with eight."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_task import Stripe, StripeTask, source

from anojax.optim import Optimizer
from anojax.training import checkpoint, metrics_log
from anojax.training.loop import Timetable, Watch
from anojax.training.parallel import Pmap
from anojax.training.run import CHECKPOINTS, MODEL, train

HERE = Path(__file__).parent
STEPS = 4
TASK = StripeTask(Stripe(), steps=STEPS, optimizer=Optimizer("sgd", 0.5), ema_decay=0.9)
RULES = (("Conv_0/kernel$", (None, None, None, "model")),)


def run(folder, strategy):
    """The same run on whatever devices there are; it keeps what it could generate with."""

    def sample(state):
        name = f"process_{jax.process_index()}_step_{int(state.step)}.npy"
        np.save(folder / name, state.params["Conv_0"]["kernel"])

    return train(
        TASK,
        source(20),
        batch_size=16,
        seed=3,
        folder=folder,
        timetable=Timetable(STEPS, log_every=2, save_every=2, sample_every=2),
        strategy=strategy,
        watch=Watch(sample=sample),
    )


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    address = free_address()
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    paths = [str(HERE.parents[1]), environment.get("PYTHONPATH", "")]
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)}
    started = [
        subprocess.Popen(
            [sys.executable, HERE / "one_of_two.py", str(i), address, tmp_path],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in (0, 1)
    ]
    outcome = run(tmp_path / "alone", Pmap())
    try:
        for process in started:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started:
            process.kill()
    alone = checkpoint.flatten(outcome.state)
    for name in ("pmap", "mesh"):
        folder = tmp_path / name
        both, record = checkpoint.restore_flat(folder / CHECKPOINTS, method=TASK.name)
        assert (record.step, record.position) == (4, 64)
        assert both.keys() == alone.keys()
        for key, value in alone.items():
            np.testing.assert_allclose(both[key], value, atol=1e-6, err_msg=key)
        rows = metrics_log.read(folder / "metrics.jsonl")
        assert [row["step"] for row in rows] == [2, 4]
        assert all(row["tflop_per_s"] > 0 for row in rows if "samples_per_s" in row)
        kept = sorted(path.name for path in folder.glob("*.npy"))
        assert kept == ["process_0_step_2.npy", "process_0_step_4.npy"]
        whole = np.load(folder / kept[-1])
        np.testing.assert_allclose(whole, alone["params/Conv_0/kernel"], atol=1e-6)
        assert rows[1]["loss"] == pytest.approx(outcome.metrics["loss"], abs=1e-6)
        variables, _ = checkpoint.load_variables(folder / MODEL)
        assert set(variables) == {"params", "statistics", "density"}
