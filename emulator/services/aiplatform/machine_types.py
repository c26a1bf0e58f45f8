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


#: Accelerators by the families of machines that take them; where a machine comes with its own, the number is its too.
_ACCELERATORS = {
    "n1": frozenset(
        {"NVIDIA_TESLA_K80", "NVIDIA_TESLA_P100", "NVIDIA_TESLA_V100", "NVIDIA_TESLA_P4", "NVIDIA_TESLA_T4"}
    ),
    "a2": frozenset({"NVIDIA_TESLA_A100", "NVIDIA_A100_80GB"}),
    "a3": frozenset({"NVIDIA_H100_80GB", "NVIDIA_H100_MEGA_80GB", "NVIDIA_H200_141GB"}),
    "a4": frozenset({"NVIDIA_B200"}),
    "g2": frozenset({"NVIDIA_L4"}),
    "cloud": frozenset({"TPU_V2", "TPU_V3"}),
}
_MOST_ACCELERATORS = 16


def check_accelerator(machine_type: str, accelerator_type: str, count: int) -> None:
    """Raises InvalidArgument for an accelerator that a machine cannot have.

    accelerator_type: name of the enum's value. TPU machines bring theirs, and name none.
    """
    if accelerator_type == "ACCELERATOR_TYPE_UNSPECIFIED":
        if count:
            raise InvalidArgument("accelerator_count is set without an accelerator_type.")
        return
    if count < 1:
        raise InvalidArgument(f"accelerator_count must be positive for {accelerator_type}.")
    family = machine_type.partition("-")[0]
    if machine_type and accelerator_type not in _ACCELERATORS.get(family, ()):
        raise InvalidArgument(
            f'Accelerator type "{accelerator_type}" is not supported for machine type "{machine_type}".'
        )
    is_power_of_two = count & (count - 1) == 0
    if count > _MOST_ACCELERATORS or not (is_power_of_two or accelerator_type.startswith("TPU")):
        raise InvalidArgument(f'Accelerator count {count} is not supported for accelerator type "{accelerator_type}".')


def check_machine_type(machine_type: str, *, training: bool) -> None:
    """Raises InvalidArgument, in Vertex AI's words, for a type that it does not take."""
    kind, _, size = machine_type.rpartition("-")
    known = size in _SIZES.get(kind, "").split() or _OTHERS.fullmatch(machine_type)
    if not known or (training and machine_type in _SERVING_ONLY):
        raise InvalidArgument(f'Machine type "{machine_type}" is not supported.')
