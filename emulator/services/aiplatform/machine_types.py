"""Machine types of Compute Engine that Vertex AI takes. All of them are the machine you sit at.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#machine-types and
https://cloud.google.com/vertex-ai/docs/predictions/configure-compute#machine-types
"""

from __future__ import annotations

import re

from google.api_core.exceptions import InvalidArgument

#: Family and kind -> the sizes there are.
_SIZES = {
    "e2-standard": "2 4 8 16 32", "e2-highmem": "2 4 8 16", "e2-highcpu": "2 4 8 16 32",
    "n1-standard": "2 4 8 16 32 64 96", "n1-highmem": "2 4 8 16 32 64 96", "n1-highcpu": "2 4 8 16 32 64 96",
    "n2-standard": "2 4 8 16 32 48 64 80 96 128", "n2-highmem": "2 4 8 16 32 48 64 80 96 128",
    "n2-highcpu": "2 4 8 16 32 48 64 80 96",
    "n2d-standard": "2 4 8 16 32 48 64 80 96 128 224", "n2d-highmem": "2 4 8 16 32 48 64 80 96",
    "n2d-highcpu": "2 4 8 16 32 48 64 80 96 128 224",
    "c2-standard": "4 8 16 30 60",
    "c2d-standard": "2 4 8 16 32 56 112", "c2d-highmem": "2 4 8 16 32 56 112",
    "c2d-highcpu": "2 4 8 16 32 56 112",
    "c3-standard": "4 8 22 44 88 176", "c3-highmem": "4 8 22 44 88 176", "c3-highcpu": "4 8 22 44 88 176",
    "m1-ultramem": "40 80 160", "m1-megamem": "96",
    "g2-standard": "4 8 12 16 24 32 48 96",
}  # fmt: skip
_OTHERS = re.compile(
    r"a2-(?:highgpu-[1248]g|megagpu-16g|ultragpu-[1248]g)|a3-(?:highgpu-[1248]g|edgegpu-8g|megagpu-8g|ultragpu-8g)"
    r"|a4-highgpu-8g|cloud-tpu|ct5lp-hightpu-[148]t|ct5p-hightpu-[124]t|ct6e-standard-[148]t|tpu7x-standard-4t"
)
#: Types that serve and do not train: the smallest n1 for training is n1-standard-4.
_SERVING_ONLY = frozenset({"n1-standard-2", "n1-highmem-2", "n1-highcpu-2", "n1-highcpu-4", "n1-highcpu-8"})


def check_machine_type(machine_type: str, *, training: bool) -> None:
    """Raises InvalidArgument, in Vertex AI's words, for a type that it does not take."""
    kind, _, size = machine_type.rpartition("-")
    known = size in _SIZES.get(kind, "").split() or _OTHERS.fullmatch(machine_type)
    if not known or (training and machine_type in _SERVING_ONLY):
        raise InvalidArgument(f'Machine type "{machine_type}" is not supported.')
