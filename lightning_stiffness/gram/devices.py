"""What is otherwise on a GPU: how much is worked on at a time, and that to look at a value is to wait for it."""

import torch

BUDGET = 2 << 30
"""Bytes for gradients where no budget is given: 2 GiB."""

ROOM = 24 << 20
"""Bytes for what a processor forms at a time. The system's allocator hands out larger ones page by page, which
takes longer than to fill them."""

GPU_ROOM = 512 << 20
"""The same on a GPU, for which each call takes its time however little it has to do."""


def is_far(device: torch.device) -> bool:
    """Whether what is computed there comes later: the processor goes ahead, and waits where it asks for a value.

    So it is with CUDA and ROCm. Other devices are treated as a processor: not all of them know ``torch.frexp``,
    which a GPU's ways take more often.

    Example:
        >>> is_far(torch.device("cuda")), is_far(torch.device("cpu"))
        (True, False)
    """
    return device.type == "cuda"


def default_budget(device: torch.device) -> int:
    """Bytes for gradients where no budget is given: 2 GiB, or a quarter of what a GPU has left if that is more.

    What torch keeps for later allocations counts as left. Down to a power of two: measurements are to be divided
    alike, though each finds a little more or less.
    """
    if device.type != "cuda":
        return BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    stats = torch.cuda.memory_stats_as_nested_dict(device)  # memory_reserved() and its like list all of them twice
    reserved, allocated = (stats.get(f"{what}_bytes", {}) for what in ("reserved", "allocated"))
    kept = int(reserved.get("all", {}).get("current", 0) - allocated.get("all", {}).get("current", 0))
    quarter = (free + kept) // 4
    return max(BUDGET, 1 << max(0, quarter.bit_length() - 1))


def room_of(device: torch.device) -> int:
    """Bytes for what is formed at a time, where the budget allows it."""
    return GPU_ROOM if is_far(device) else ROOM
