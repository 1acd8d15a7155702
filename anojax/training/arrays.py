"""Trees of arrays under flat names, ``params/Conv_0/kernel``, and whether they fit."""

from pathlib import Path
from typing import Any

import jax

from anojax.errors import CheckpointError
from anojax.types import PyTree

Flat = dict[str, Any]
Shapes = dict[str, tuple[tuple[int, ...], str]]


def flatten(tree: PyTree) -> Flat:
    """Arrays of a tree by their path, ``{"params/Conv_0/kernel": ...}``.

    >>> flatten({"params": {"bias": 1, "kernel": 2}})
    {'params/bias': 1, 'params/kernel': 2}
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unflatten(flat: Flat) -> PyTree:
    """Nested dictionaries from flat names, for trees without a template.

    >>> unflatten({"params/bias": 1, "step": 2})
    {'params': {'bias': 1}, 'step': 2}
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def shapes_of(tree: PyTree) -> Shapes:
    """Shape and dtype of every array of a tree, by name."""
    return {k: (tuple(x.shape), str(x.dtype)) for k, x in flatten(tree).items()}


def check_shapes(path: Path | str, stored: Shapes, ours: Shapes) -> None:
    """Compare what a checkpoint holds with what is wanted.

    Raises:
      CheckpointError: an array is missing, not wanted, or of another shape or dtype.
    """
    wrong = [
        f"{k} is {theirs[0]}, here {ours[k][0]}"
        if theirs[1] == ours[k][1]
        else f"{k} is {theirs[1]}, here {ours[k][1]}"
        for k, theirs in stored.items()
        if k in ours and ours[k] != theirs
    ]
    wrong += [f"{k} is not in it" for k in ours if k not in stored]
    wrong += [f"{k} is not wanted here" for k in stored if k not in ours]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"checkpoint {path} has another shape: {'; '.join(wrong[:3])}{more}; "
            "use the settings and the kind of images it was trained with"
        )


def arrange(flat: Flat, template: PyTree, *, path: Path | str) -> PyTree:
    """Arrays by name, in the structure of a template.

    Args:
      flat: as `checkpoint.load_params` gives it.
      template: arrays or their shapes.
      path: where they come from, for the message.

    Raises:
      CheckpointError: they are not the arrays of the template.
    """
    check_shapes(path, shapes_of(flat), shapes_of(template))
    leaves = [flat[name] for name in flatten(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
