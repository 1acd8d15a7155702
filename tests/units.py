"""How several workers share the suite: what compiles or trains once stays together.

A unit is a file; in the contract batteries, which run over the registry, it is one
method. The long units come first, so that no worker is left alone with one at the end.
"""

BATTERIES = "tests/contract/"
LONG = (BATTERIES, "tests/training/", "tests/methods/", "tests/cli/", "tests/test_")


def unit_of(test: str) -> str:
    """The unit of a test, from its id.

    Tests of a battery have the method's name as their first parameter.
    """
    file, _, rest = test.partition("::")
    if not file.startswith(BATTERIES) or "[" not in rest:
        return file
    method = rest[rest.index("[") + 1 : -1].split("-")[0]
    return f"{file}[{method}]"


def rank(test: str) -> int:
    """Which tests begin: those of a small rank."""
    for place, start in enumerate(LONG):
        if test.startswith(start):
            return place
    return len(LONG)


def scheduler(config, log):
    """What pytest-xdist asks for: every worker takes whole units, in turn."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False  # many tests are not long tests
    return Units(config, log)
