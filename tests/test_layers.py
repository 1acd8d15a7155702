"""A lower level never imports a higher one; methods never import each other."""

import ast
from functools import cache
from pathlib import Path

import pytest

from anojax import registry
from anojax import task as tasks

ROOT = Path(__file__).parents[1] / "anojax"

# Level of each module or package; the longest matching prefix decides.
LEVELS = {
    "types": 0,
    "errors": 0,
    "jax_settings": 0,
    "random": 0,
    "pixels": 0,
    "component": 0,
    "fields": 0,
    "arrays": 0,
    "ops": 1,
    "nn": 2,
    "diffusion": 2,
    "core": 3,
    "detector": 3,
    "task": 3,
    "optim": 3,
    "registry": 3,
    "compose": 3,
    "batching": 3,
    "compile_cache": 3,
    "device_memory": 3,
    "methods": 4,
    "config": 5,
    "builders": 5,
    "environment": 5,
    "progress": 5,
    "shipped": 5,
    "skeleton": 5,
    "training": 5,
    "data": 5,
    "weights": 5,
    "evaluation": 5,
    "report": 5,
    "synthesis": 6,
    "api": 7,
    "__init__": 7,
    "cli": 8,
    "__main__": 8,
}
# What the modules of the command line may share among each other.
CLI_SHARED = {"cli.arguments", "cli.outcome"}
# What does the work of a command; the command line only calls it and prints.
WORKS = {"jax", "numpy", "PIL", "flax", "optax", "orbax", "grain", "concurrent"}
# Levels 0-4 do no file I/O and know no image library.
FORBIDDEN_BELOW_5 = {"PIL", "cv2", "absl", "skimage", "rich", "yaml", "pathlib", "os"}
FILES = sorted(ROOT.rglob("*.py"))
METHODS = "anojax.methods."


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def level_of(module: str) -> int:
    return LEVELS[module.split(".")[0]]


@cache
def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path):
    module = module_of(path)
    level = level_of(module)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top != "anojax":
            assert level > 4 or top not in FORBIDDEN_BELOW_5, f"{module} imports {top}"
            continue
        if rest.split(".")[0] not in LEVELS:  # a name of the front door
            assert level >= 5, f"{module} imports {name} from the front door"
            continue
        assert level_of(rest) <= level, f"{module} imports {name}, a higher level"
        if module.startswith("methods.") and rest.startswith("methods."):
            reached = rest.split(".")
            # What several methods share stands in family modules with an underscore.
            family = reached[1].startswith("_")
            own = module.split(".")[1:3] == reached[1:3]
            assert family or own, f"{module} reaches into another method: {name}"
        if module.startswith("training."):
            assert not rest.startswith("methods."), "training knows no concrete method"


@pytest.mark.parametrize("name", registry.names())
def test_all_of_a_method_has_its_name(name):
    """Keys, checkpoints and messages go by it, in whatever file of a folder."""
    synth = registry.get(name)()
    assert synth.name == name
    for task in tasks.stages(name).values():
        assert object.__new__(task).name == name  # whatever its settings


def modules() -> dict[str, Path]:
    return {module_of(path).removesuffix(".__init__"): path for path in FILES}


def graph() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, at its top or in a function."""
    known, edges = modules(), {}
    for module, path in known.items():
        edges[module] = set()
        for name in imports(path):
            top, _, rest = name.partition(".")
            while top == "anojax" and rest and rest not in known:
                rest = rest.rpartition(".")[0]
            if top == "anojax" and rest:
                edges[module].add(rest)
    return edges


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other: what no order of loading can untangle."""
    reach = {}
    for module in edges:
        seen, ahead = set(), list(edges[module])
        while ahead:
            if (one := ahead.pop()) not in seen:
                seen.add(one)
                ahead += edges[one]
        reach[module] = seen
    return [
        {m} | {o for o in reach[m] if m in reach[o]} for m in reach if m in reach[m]
    ]


def test_no_circles():
    assert circles(graph()) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})[0] == {*"abc"}


CLI = [m for m in modules() if m.startswith("cli.")]


@pytest.mark.parametrize("module", CLI)
def test_commands_parse_and_print(module):
    edges = graph()[module]
    others = {m for m in edges if m.startswith("cli")} - CLI_SHARED
    assert not others, f"{module} reaches into {others}"
    for name in imports(modules()[module]):
        assert name.split(".")[0] not in WORKS, f"{module} works with {name}"


def test_nothing_builds_on_the_command_line():
    for module, edges in graph().items():
        if not module.startswith("cli") and module != "__main__":
            reached = {m for m in edges if m.startswith("cli")}
            assert not reached, f"{module} imports {reached}"


@pytest.mark.parametrize("name", registry.names())
def test_no_method_overrides_another(name):
    """What methods share, they call; what a family leaves open is abstract."""
    own = [c for c in registry.get(name).__mro__ if c.__module__.startswith(METHODS)]
    for number, above in enumerate(own[1:], 1):
        for key, value in vars(above).items():
            if key.startswith("__") or not callable(getattr(value, "fget", value)):
                continue
            if getattr(value, "__isabstractmethod__", False):
                continue
            below = [c.__name__ for c in own[:number] if key in vars(c)]
            assert not below, f"{below} override {above.__name__}.{key}"


def test_no_grab_bags():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [p for p in FILES if p.stem in vague]


def test_every_module_opens_with_a_docstring():
    bare = [p for p in FILES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not bare
