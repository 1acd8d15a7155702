"""What a user writes, for the type checker of `make lint`; no test runs it."""

from pathlib import Path

import numpy as np

import anojax
from anojax import compose
from anojax.core import Synthesizer
from anojax.data.samples import make
from anojax.evaluation.detection import Result, evaluate


def synthesize(folder: Path) -> anojax.Synthesis:
    images, foregrounds = make("bottle", 4, size=64)
    names: tuple[str, ...] = anojax.find(needs="texture", controls="severity")
    synth: Synthesizer = anojax.get(names[0])()
    both = compose.one_of(synth, anojax.get("cutpaste")(), weights=(3, 1))
    controls = anojax.Controls(severity=0.5)
    inputs = anojax.Inputs(image=images, foreground=foregrounds, controls=controls)
    run = anojax.batch(both, bank=anojax.Bank(images), uint8=True)
    out = run({}, 0, range(4), inputs.replace(region=foregrounds))
    np.save(folder / "masks.npy", np.asarray(out.mask))
    return out.replace(aux={})


def measure(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    scores = [float(one.max()) for one in maps]
    labels = [int(mask.any()) for mask in masks]
    result: Result = evaluate(maps, masks, scores, labels, ["hole"] * len(maps))
    return result["aupro"]
