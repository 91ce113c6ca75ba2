"""Loggers, writers, profilers and progress bars in a measurement: they take everything and show nothing."""

from contextlib import suppress
from typing import Any

from lightning_stiffness.trainer_view.plain import PLAIN


class Silent:
    """Takes any call, attribute or item and does nothing: the logger of a measurement.

    Args:
        target: what it stands for; its class, and what it says of itself in plain values, such as names and
            folders, can be read.

    Example:
        >>> Silent().experiment.add_scalar("loss", 1.0) is None
        False
        >>> bool(Silent())
        False
        >>> from types import SimpleNamespace
        >>> Silent(SimpleNamespace(log_dir="logs", experiment=None)).log_dir
        'logs'
    """

    def __init__(self, target: Any = None) -> None:
        object.__setattr__(self, "_target", target)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # so that a step finds a logger by isinstance
        return Silent if self._target is None else type(self._target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._target is None:
            return Silent()
        value = None
        with suppress(Exception):  # what stands for something silent has nothing to complain of
            value = getattr(self._target, name)
            if isinstance(value, PLAIN):
                return value
        return Silent(value if name == "experiment" else None)

    def __call__(self, *_: Any, **__: Any) -> "Silent":  # noqa: D102
        return Silent()

    def __getitem__(self, _: Any) -> "Silent":
        return Silent()

    def __setitem__(self, *_: Any) -> None:
        return None

    def __setattr__(self, *_: Any) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return self._target is not None

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def __deepcopy__(self, _: Any) -> "Silent":
        return self
