"""Pictures drawn in a process of their own, so that training need not wait for them.

Drawing is Python's work from beginning to end: a thread would take turns with the training.
"""

import contextlib
import gc
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import lightning_stiffness
from lightning_stiffness.loggers import Picture
from lightning_stiffness.pictures import draw_picture
from lightning_stiffness.result import StiffnessResult


class Painter:
    """Draws pictures elsewhere, in order, and hands them over when they are asked for.

    The other process is started with the first picture and ends with :meth:`close`. Where it cannot be started,
    or ends early, the pictures are drawn here.

    Args:
        apart: whether to draw in another process; by default where there is a processor core that training leaves
            free. Where torch's threads have all of them, each would wait for the one that draws.

    Example:
        >>> painter = Painter()
        >>> painter.finished(wait=True)
        []
        >>> painter.close()
    """

    def __init__(self, *, apart: bool | None = None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: queue.SimpleQueue[tuple[StiffnessResult, Sequence[str]] | None] = queue.SimpleQueue()
        self._drawn: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: list[tuple[StiffnessResult, str]] = []
        self._here = not (_spare_core() if apart is None else apart)

    def order(self, result: StiffnessResult, tags: Sequence[str]) -> None:
        """Have pictures of a result drawn."""
        self._waiting += [(result, tag) for tag in tags]
        if tags and not self._here and self._running():
            self._orders.put((result, list(tags)))

    def finished(self, *, wait: bool = False) -> list[tuple[StiffnessResult, str, Picture]]:
        """The pictures drawn since the last call, in the order they were asked for; those to draw here are drawn.

        Args:
            wait: until all of them are there.

        Returns:
            Result, tag, and picture uint8 ``[height, width, 3]``.
        """
        done = []
        while self._waiting:
            if self._here:  # there is no other process, or it has ended
                result, tag = self._waiting.pop(0)
                done.append((result, tag, draw_picture(result, tag)))
                continue
            try:
                drawn = self._drawn.get(block=wait)
            except queue.Empty:
                break
            if drawn is None:  # the other process has ended
                self._here = True
            elif isinstance(drawn, Exception):
                self._waiting.pop(0)
                raise drawn
            else:
                done.append((*self._waiting.pop(0), drawn))
        return done

    def close(self) -> None:
        """End the other process; what it has not drawn is dropped."""
        self._waiting, process, self._process = [], self._process, None
        if process is not None:
            self._orders.put(None)
            process.kill()
            process.wait()

    def _running(self) -> bool:
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **_surroundings()},
                    # Ctrl-C is for the training
                    start_new_session=True,
                )
            except OSError:
                self._here = True
                return False
            for talk in (_send, _receive):
                threading.Thread(
                    target=talk, args=(self._process, self._orders, self._drawn), daemon=True, name=talk.__name__
                ).start()
        return True


def _spare_core() -> bool:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch = sys.modules.get("torch")
    return cores > (1 if torch is None else int(torch.get_num_threads()))


def _surroundings() -> dict[str, str]:
    """This package where this process found it, and one thread: the training needs the others."""
    home = str(Path(lightning_stiffness.__file__).parents[1])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _send(process: "subprocess.Popen[bytes]", orders: Any, _: Any) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # the receiver tells of a process that has ended
        while (order := orders.get()) is not None:
            pickle.dump(order, process.stdin)
            process.stdin.flush()


def _receive(process: "subprocess.Popen[bytes]", _: Any, drawn: Any) -> None:
    assert process.stdout is not None
    for picture in _read(process.stdout):
        drawn.put(picture)
    drawn.put(None)


def _read(stream: IO[bytes]) -> Iterator[Any]:
    """Everything that is sent through a stream until it ends."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            yield pickle.load(stream)


def main() -> None:
    """Draw what comes in; ends with the process that asks."""
    # Whatever a library prints must not get between the pictures
    out, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    gc.disable()  # a figure is tens of thousands of objects that are all still in use while it is drawn
    for result, tags in _read(sys.stdin.buffer):
        gc.collect()
        for tag in tags:
            try:
                drawn: Any = draw_picture(result, tag)
            except Exception as error:
                drawn = RuntimeError(f"{tag}: {type(error).__name__}: {error}")
            pickle.dump(drawn, out)
            out.flush()


if __name__ == "__main__":
    main()
