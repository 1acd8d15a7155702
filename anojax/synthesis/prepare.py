"""From a request to a plan: every mistake is found here, before any device works."""

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anojax
from anojax.builders import make_synthesizer
from anojax.config import digest, to_dict
from anojax.core import Synthesizer, settings
from anojax.data.dataset import Dataset, open_dataset
from anojax.data.plan import Loaded, Plan
from anojax.data.visible import RULE
from anojax.environment import versions
from anojax.errors import DataError, SettingError, UnsupportedControl
from anojax.synthesis.config import REQUESTED, SynthConfig
from anojax.synthesis.learned import Parameters, check_channels, with_parameters
from anojax.synthesis.parts import clean_files, sources_folder, split
from anojax.types import Controls, Exemplar, Inputs


@dataclass(frozen=True)
class Prepared:
    """A request with everything that follows from it."""

    config: SynthConfig
    methods: tuple[Synthesizer, ...]
    """As they are set; those of the plan may have learned parameters."""
    data: Dataset
    plan: Plan
    parameters: Parameters | None
    """Of the method that learns, if there is one."""
    resolved: dict[str, Any]
    """What goes into config.yaml."""
    clean: dict[str, Path] = field(default_factory=dict)
    """Images of the run that no defect is made from: name in the run -> source."""

    @property
    def settings(self) -> tuple[dict[str, Any], ...]:
        """Hyper-parameters, controls and checkpoint of each method, for the manifest."""
        controls = self.config.controls()
        return tuple(
            settings(synth) | controls | self._learned(synth) for synth in self.methods
        )

    def _learned(self, synth: Synthesizer) -> dict[str, Any]:
        if self.parameters is None or self.parameters.method != synth.name:
            return {}
        facts = {"checkpoint": self.parameters.sha256}
        if "label" in synth.needs:
            facts |= {"category": self.data.category, "label": self.data.label}
        return facts

    def with_banks(self) -> "Prepared":
        """Read what the methods draw from before anything is written, and note it.

        Raises:
          DataError: a texture cannot be read.
        """
        needs = {need for synth in self.plan.methods for need in synth.needs}
        found = self.data.fill_banks(needs)
        if not found:
            return self
        resolved = {k: v for k, v in self.resolved.items() if k != "hash"}
        resolved |= {"banks": found}
        return replace(self, resolved=resolved | {"hash": digest(resolved)})


def prepare(config: SynthConfig, parameters: Parameters | None = None) -> Prepared:
    """Check a request against the methods and the images.

    Args:
      config: the request.
      parameters: of the method that learns; see `load_parameters`.

    Raises:
      AnojaxError: a method cannot support a control, a folder is missing or empty, no
        image can be read, severity 0 would leave every image unchanged, the
        parameters do not fit, or a network does not know the images' category.
    """
    methods = make_methods(config)
    known = None if parameters is None else parameters.categories
    # Where exemplars are drawn, their labels come with them.
    asking = next((s.name for s in methods if _wants_category(s)), None)
    if asking is not None and known is None:
        raise DataError(
            f"{asking} tells categories apart with these settings, and nothing says "
            "which it knows; train it on a data set of several, or leave the setting "
            "classes out"
        )
    data = open_dataset(
        config.data,
        seed=config.seed,
        known=None if asking is None else known,
        fit=config.fit,
        part=(lambda count: split(count, config).sources) if config.split else None,
    )
    clean = {}
    if config.split:
        parts = split(len(data.every), config)
        clean = clean_files(parts, data.every, data.category)

    def load(index: int) -> Loaded:
        loaded = data.load(index)
        check_channels(parameters, loaded.image, data.first, data.images[index])
        return loaded

    requested = config.controls()
    plan = Plan(
        methods=tuple(with_parameters(s, parameters, data.shape) for s in methods),
        images=data.images,
        seed=config.seed,
        load=load,
        bank=data.bank,
        controls=Controls(
            **{k: v[0] if isinstance(v, tuple) else v for k, v in requested.items()}
        ),
        ranges={k: v for k, v in requested.items() if isinstance(v, tuple)},
        per_image=config.per_image,
        count=config.count,
        weights=tuple(config.weights.values()),
        keep_empty=config.keep_empty,
        label=data.label,
        native=(lambda i: data.reading.image(data.images[i]))
        if config.native
        else None,
        min_contrast=config.min_contrast,
        fit=config.fit,
        mm_per_pixel=config.mm_per_pixel,
        bits=data.reading.bits,
        normal_folder=sources_folder(config),
    )
    resolved = _resolved(config, methods, data, parameters)
    return Prepared(config, methods, data, plan, parameters, resolved, clean)


def _wants_category(synth: Synthesizer) -> bool:
    return "label" in synth.needs and "exemplar" not in synth.needs


def make_methods(config: SynthConfig) -> tuple[Synthesizer, ...]:
    """The methods with their settings, checked against the controls requested.

    Raises:
      SettingError: severity 0, `native` with a method of whole images, or exemplars
        that no method imitates.
      UnsupportedInput: a method changes features that are decoded to no image.
    """
    if config.severity in (0, (0, 0)) and not config.keep_empty:
        raise SettingError(
            "severity 0 leaves every image unchanged; raise --severity, or add "
            "--keep-empty to write unchanged images"
        )
    region = None if config.data.region is None else 0
    controls = Controls(**config.controls())
    # Images, banks, labels and prompts are there when the work begins.
    given = Inputs(0, source=0, exemplar=Exemplar(0, 0), label=0, text=0, region=region)
    given, methods = given.replace(controls=controls), []
    for name in config.methods:
        synth = make_synthesizer(name, config.settings.get(name, {}))
        synth.check_shown()
        _check_controls(synth, given)
        if config.native and synth.card.level == "full_image":
            raise SettingError(
                f"{name} makes whole images at the working size, which have no own "
                "resolution; leave --native out"
            )
        methods.append(synth)
    imitates = any("exemplar" in synth.needs for synth in methods)
    if config.data.exemplars is not None and not imitates:
        raise SettingError(
            f"data.exemplars is given, and {' and '.join(config.methods)} imitates no "
            "real defect; leave it out"
        )
    return tuple(methods)


def _check_controls(synth: Synthesizer, given: Inputs) -> None:
    """As `Synthesizer.check`, naming a control as the request does."""
    try:
        synth.check(given)
    except UnsupportedControl as error:
        sentence = str(error)
        for control, name in REQUESTED.items():
            sentence = sentence.replace(f"over '{control}'", f"over '{name}'")
        raise UnsupportedControl(sentence) from None


def _resolved(
    config: SynthConfig,
    methods: tuple[Synthesizer, ...],
    data: Dataset,
    parameters: Parameters | None,
) -> dict[str, Any]:
    """The request with every default spelled out, the versions, and a hash of both."""
    # Absolute paths: the run can be verified from any working folder.
    spelled = dataclasses.replace(
        config,
        data=config.data.absolute(),
        settings={s.name: settings(s) for s in methods},
        checkpoint=None if parameters is None else parameters.where,
    )
    resolved = {
        "request": to_dict(spelled),
        "category": data.category,
        "mask_rule": RULE,
        "pictures": data.facts,
        "versions": {"anojax": anojax.__version__, **versions()},
    }
    if parameters is not None:
        resolved["checkpoint"] = parameters.facts
    return resolved | {"hash": digest(resolved)}
