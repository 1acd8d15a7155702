"""What an update costs: multiplications and additions, and how much a device could do.

The count follows from shapes alone: the update is traced, never compiled. It holds what
the model needs, not what a program happens to do, so that a run which computes its
activations twice to save memory looks no faster for it.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from anojax.task import Examples, Reduce, Task


@dataclass(frozen=True)
class Cost:
    """Of one update of a task."""

    flops: int
    """Of matrix products and convolutions: a multiplication and an addition are two.
    With all images of the batch, forward and backward."""
    parameters: int
    """That are trained."""
    peak: float | None = None
    """FLOP/s that all devices together could do; ``None`` where that is not known."""

    def rates(self, updates_per_s: float) -> dict[str, float]:
        """``tflop_per_s`` of all devices together and, where their peak is known,
        ``mfu``: the share of it in [0, 1] (model FLOP utilization, Chowdhery et al.,
        PaLM, 2022, appendix B)."""
        done = self.flops * updates_per_s
        rates = {"tflop_per_s": done / 1e12}
        return rates if self.peak is None else rates | {"mfu": done / self.peak}

    def __str__(self) -> str:
        return f"{_short(self.flops, 'FLOP')}, {_short(self.parameters, ' parameters')}"


def update_cost(
    task: Task, example: Examples, batch_size: int, devices: Sequence[jax.Device]
) -> Cost:
    """What an update takes, whole batch and all devices together.

    A task that can compute blocks twice (`remat`) is counted as if it did not.

    Args:
      task: what is trained.
      example: a batch of any size; only shapes matter.
      batch_size: images in an update.
      devices: that share it; of one kind.
    """
    if "remat" in {field.name for field in dataclasses.fields(task)}:
        task = dataclasses.replace(task, remat=False)
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype),
        example.replace(bank=None),
    ).replace(bank=example.bank)
    state = jax.eval_shape(task.init, key, batch)
    flops = count(lambda *given: task.step(*given, Reduce()), state, key, batch)
    each = peak(devices[0].device_kind, getattr(task, "dtype", "float32"))
    return Cost(
        flops=flops,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        peak=None if each is None else each * len(devices),
    )


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of all matrix products and convolutions in a function, from shapes alone.

    Products with the zeros of a padding or between the elements of a dilated input are
    no work and not counted, as XLA does it; hence the two gradients of a convolution
    cost as much as the convolution each. Of the branches of a condition the dearest
    counts. The body of a ``while`` counts once, for nobody knows how often it runs;
    `jax.lax.scan`, and a ``fori_loop`` of known length, count every turn. Everything
    else, as additions, means and random numbers, and what fused kernels do inside,
    counts nothing.

    Args:
      function: a pure one.
      arguments: arrays or their shapes (`jax.ShapeDtypeStruct`).
    """
    return _of_program(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_program(program: Jaxpr) -> int:
    return sum(map(_of_equation, program.eqns))


def _of_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_product(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    inner = [_of_program(program) for program in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "shard_map":  # its program is that of one device
        return params["mesh"].size * sum(inner)
    return sum(inner)


def _of_product(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    terms = math.prod(shape[axis] for axis in contracted)
    return 2 * terms * math.prod(equation.outvars[0].aval.shape)


def _of_convolution(equation: JaxprEqn) -> int:
    params = equation.params
    names = params["dimension_numbers"]
    image, kernel = (each.aval.shape for each in equation.invars)
    out = equation.outvars[0].aval.shape
    # Of a grouped convolution the kernel's shape has the channels of one group.
    total = 2 * kernel[names.rhs_spec[1]] * out[names.out_spec[0]]
    total *= out[names.out_spec[1]]
    for axis, (before, _) in enumerate(params["padding"]):
        total *= _meetings(
            size=image[names.lhs_spec[2 + axis]],
            taps=kernel[names.rhs_spec[2 + axis]],
            places=out[names.out_spec[2 + axis]],
            stride=params["window_strides"][axis],
            dilation=params["rhs_dilation"][axis],
            spread=params["lhs_dilation"][axis],
            before=before,
        )
    return total


def _meetings(
    size: int,
    taps: int,
    places: int,
    stride: int,
    dilation: int,
    spread: int,
    before: int,
) -> int:
    """How often a tap of the kernel meets an element of the input, along one axis."""
    found = 0
    # A loop over the smaller one: a weight's gradient has a kernel as large as the image.
    for tap in range(taps):
        first = tap * dilation - before
        # Places p with 0 <= first + p * stride <= last and a multiple of the spread.
        last = (size - 1) * spread
        low = max(0, -(first // stride))
        high = min(places - 1, (last - first) // stride)
        if spread == 1:
            found += max(0, high - low + 1)
        else:
            found += sum(
                (first + p * stride) % spread == 0 for p in range(low, high + 1)
            )
    return found


# TFLOP/s of one JAX device, dense: the makers' sheets give twice as much for NVIDIA's
# sparse matrices. Under "float32" stands what JAX does with float32 at its default
# precision: bfloat16 passes on TPUs, TF32 on NVIDIA's GPUs since Ampere, and real
# float32 on the older ones, which have no bfloat16 units.
#   TPU: docs.cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e, per chip; v2: 180 for a
#   board of four chips. In v2 and v3 a JAX device is one of the two cores of a chip.
#   NVIDIA: the data sheets "A100 Tensor Core GPU", "H100 ...", "H200 ...", "L4 ...",
#   "Tesla T4", "Tesla V100".
_PEAKS: dict[str, dict[str, float]] = {
    r"TPU v2": {"bfloat16": 22.5, "float32": 22.5},
    r"TPU v3": {"bfloat16": 61.5, "float32": 61.5},
    r"TPU v4": {"bfloat16": 275, "float32": 275},
    r"TPU v5( lite|e)": {"bfloat16": 197, "float32": 197},
    r"TPU v5p?": {"bfloat16": 459, "float32": 459},
    r"TPU v6( lite|e)": {"bfloat16": 918, "float32": 918},
    r"NVIDIA A100(-SXM4-(40|80)GB|-PCIE-40GB| 80GB PCIe)": {
        "bfloat16": 312,
        "float32": 156,
    },
    r"NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "float32": 494.7},
    r"NVIDIA H100 PCIe": {"bfloat16": 756, "float32": 378},
    r"NVIDIA H[12]00 NVL": {"bfloat16": 835, "float32": 417},
    r"NVIDIA H200": {"bfloat16": 989.4, "float32": 494.7},
    r"NVIDIA L4": {"bfloat16": 121, "float32": 60},
    r"Tesla T4": {"float32": 8.1},
    r"Tesla V100-SXM2-(16|32)GB": {"float32": 15.7},
    r"Tesla V100-PCIE-(16|32)GB": {"float32": 14.0},
}


def peak(kind: str, dtype: str) -> float | None:
    """FLOP/s of matrix products that one device can do at most.

    Args:
      kind: `jax.Device.device_kind`.
      dtype: what networks compute in, ``"float32"`` or ``"bfloat16"``.

    Returns:
      ``None`` for CPUs, parts of a GPU (MIG) and whatever else is not in the table.
    """
    for pattern, peaks in _PEAKS.items():
        if re.fullmatch(pattern, kind):
            return peaks[dtype] * 1e12 if dtype in peaks else None
    return None


def _short(number: int, unit: str) -> str:
    """Three digits and a prefix: 12.3 GFLOP."""
    for factor, prefix in (
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number} {unit.strip()}"
