"""torch's own words on how it maps an operation, of which the caller knows nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quiet_vmap() -> Iterator[None]:
    """Without torch's warnings of operations that ``vmap`` takes one example after the other.

    The switch is torch's own, and can't be asked; afterwards it is on, as it is by default. A filter of Python's,
    put in and taken out, would have every warning of the process told again that is told once.
    """
    switch = getattr(torch._C._functorch, "_set_vmap_fallback_warning_enabled", None)
    if switch is None:  # of a torch that has another one by then: its words are no harm
        yield
        return
    switch(False)
    try:
        yield
    finally:
        switch(True)
