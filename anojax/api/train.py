"""`anojax.train`: a configuration in, a trained run out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anojax.api.request import merged, with_data
from anojax.config import from_dict, nest, read_yaml, to_dict
from anojax.data.manifest import INPUTS
from anojax.errors import RunError
from anojax.shipped import find_config
from anojax.training.config import TrainConfig
from anojax.training.session import open_session, train_run
from anojax.training.trained import Trained, load_trained


def train(
    config: str | Path | Mapping[str, Any] | TrainConfig,
    input: Any,
    output: str | Path,
    *,
    devices: int | None = None,
    distributed: bool = False,
    quiet: bool = False,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> Trained:
    """Train a method's networks on images of good parts.

    Defects are made inside the training step. A run that was interrupted goes on.

    Args:
      config: a configuration that comes with anojax (`anojax.configs()`), for instance
        the name of a method; or a YAML file, a mapping, or a `TrainConfig`.
      input: a folder of normal images or of a data set, a list of arrays, or a
        `Dataset`; ``None`` where the configuration names the images.
      output: folder of the run.
      devices: how many to use; all by default.
      distributed: this is one of several processes, which the environment names.
      quiet: print nothing.
      note: told what is about to happen, instead of printing it.
      options: what differs from the configuration, by the names of its keys: size,
        length, batch_size, seed, eval_every, settings={...}, task={...} and so on.

    Raises:
      AnojaxError: an option that does not exist (with the nearest match), a
        configuration that cannot be met, or a metric that is not finite.
    """
    folder = Path(output)
    given = with_data(nest(TrainConfig, options), input, folder / INPUTS)
    session = open_session(
        from_dict(TrainConfig, merged(_values(config), given)),
        devices=devices,
        distributed=distributed,
    )
    if note is None:
        silent = quiet or not session.first
        note = (lambda text: None) if silent else lambda text: print(text, flush=True)
    note(session.words(folder))
    outcome = train_run(session, folder, quiet=quiet or not session.first, note=note)
    if outcome.stopped_by is not None:
        raise RunError(
            f"stopped at step {outcome.step}, and saved; the same call goes on"
        )
    return load_trained(folder)


def _values(config: Any) -> dict[str, Any]:
    if isinstance(config, TrainConfig):
        return to_dict(config, differences=True)
    if isinstance(config, Mapping):
        return dict(config)
    return read_yaml(find_config(config))
