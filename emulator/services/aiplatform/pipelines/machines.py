"""The machine type that a container's resources come to.

Source: https://cloud.google.com/vertex-ai/docs/pipelines/machine-types
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.api_core.exceptions import InvalidArgument

from emulator.services.aiplatform.pipelines.plan import Resources

DEFAULT = "e2-standard-4"
MOST_CPUS = 96.0
MOST_GIB = 624.0
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]{0,2})")
#: Suffix -> GiB. Those with `i` and those without differ by less than machine types do.
_GIB = {"": 1 / (1 << 30), "K": 1 / (1 << 20), "M": 1 / (1 << 10), "G": 1.0, "T": 1024.0}


def machine_type(resources: Resources) -> str:
    """The smallest type that has what is asked for; the service's default where nothing is.

    Raises InvalidArgument for a quantity that is none, or is more than any machine has.
    """
    if not (resources.cpu or resources.memory or resources.accelerator_count):
        return DEFAULT
    cpus, gib = _cpus(resources.cpu), _gib(resources.memory)
    for name, has_cpus, has_gib in _types(bool(resources.accelerator_count)):
        if has_cpus >= cpus and has_gib >= gib:
            return name
    raise InvalidArgument(
        f"No machine has {resources.cpu or 0} CPUs and {resources.memory or 0} of memory: "
        f"at most {MOST_CPUS:.0f} and {MOST_GIB:.0f} GB."
    )


def _types(with_accelerator: bool) -> Iterator[tuple[str, float, float]]:
    """Name, CPUs and GiB, the smallest first. Accelerators are for n1 machines, which train from 4 CPUs on."""
    sizes = (4, 8, 16, 32, 64, 96) if with_accelerator else (2, 4, 8, 16, 32)
    family, standard, highmem = ("n1", 3.75, 6.5) if with_accelerator else ("e2", 4, 8)
    for size in sizes:
        yield f"{family}-standard-{size}", size, size * standard
        if with_accelerator or size <= 16:
            yield f"{family}-highmem-{size}", size, size * highmem
    if not with_accelerator:
        for size in (64, 96):
            yield f"n1-standard-{size}", size, size * 3.75
            yield f"n1-highmem-{size}", size, size * 6.5


def _cpus(text: str) -> float:
    number, unit = _quantity(text, "CPUs")
    if unit not in ("", "m"):
        raise InvalidArgument(f"{text!r} is no number of CPUs, such as 2 or 500m.")
    return number / 1000 if unit == "m" else number


def _gib(text: str) -> float:
    number, unit = _quantity(text, "memory")
    if unit.removesuffix("i") not in _GIB:
        raise InvalidArgument(f"{text!r} is no amount of memory, such as 4G or 512Mi.")
    return number * _GIB[unit.removesuffix("i")]


def _quantity(text: str, what: str) -> tuple[float, str]:
    found = _QUANTITY.fullmatch(text or "0")
    if found is None:
        raise InvalidArgument(f"{text!r} is no quantity of {what}.")
    return float(found[1]), found[2]
