"""Processes that end: in the middle of a training, or with the test that started them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lib import training


@contextmanager
def popen(command: list, **options) -> Iterator[subprocess.Popen]:
    """A process that is killed when the block ends: a test that fails must not wait for it."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class Killed(Exception):
    """The process ends here."""


def kill_at(patch, step: int) -> None:
    """Trainings end when they come to `step`, until the patch is undone."""
    rate = training.learning_rate

    def killed(at, **keywords):
        if at == step:
            raise Killed
        return rate(at, **keywords)

    patch.setattr(training, "learning_rate", killed)
