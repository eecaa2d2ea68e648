"""Computes missing records in one process or in several side by side. A recorded result is never computed again.

processes.complete(grid.runs("table-2", "laptop"))
"""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children, get_context, parent_process

import torch
from tqdm import tqdm

from lib import training
from lib.run import checking, devices, evaluations, groups, material, measurements
from lib.store import plans, records
from lib.store.grid import Item, Measurement, Run

log = logging.getLogger(__name__)


class WorkerDiedError(RuntimeError):
    """A process of `complete`'s was killed from outside."""


def complete_one(item: Item, device: torch.device) -> bool:
    """Compute what `item` lacks. Returns whether there was anything to do.

    A second process that is to compute the same run waits for the first, then finds it recorded. A dead process's lock is free.
    """
    if not records.missing(item):
        return False
    if isinstance(item, Measurement):
        with records.alone(item):
            if not records.missing(item):
                return False
            records.prepare(item)
            measurements.measure(item)
        return True
    return bool(_complete_runs([item], device))


def complete_group(group: Sequence[Item], device: torch.device) -> int:
    """`complete_one` of items that are trained together where there are several; returns how many were computed.

    Memory is estimated: where a group does not fit after all, each half of it goes on from its checkpoints by itself.
    MemoryError for a run that does not fit alone.
    """
    try:
        return complete_one(group[0], device) if len(group) == 1 else _complete_runs(group, device)
    except torch.cuda.OutOfMemoryError as error:
        if len(group) == 1:
            raise MemoryError(f"{group[0]} does not fit into the memory of {device}: {str(error).splitlines()[0]}") from None
        log.warning("%d runs together do not fit into the memory of %s: half of them at a time", len(group), device)
    gc.collect()  # frees what the frames of the error held before the next one begins
    half = len(group) // 2
    return complete_group(group[:half], device) + complete_group(group[half:], device)


def _complete_runs(runs: Sequence[Run], device: torch.device) -> int:
    """Compute what runs of one shape lack, their trainings together; returns how many lacked anything."""
    with ExitStack() as locks:
        for run in sorted(runs, key=str):  # in one order everywhere, so that no two processes wait for each other
            locks.enter_context(material.alone(run))
        lacking = [run for run in runs if records.missing(run)]
        if not lacking:
            return 0
        for run in lacking:
            records.prepare(run)
            material.clear(run)
        for run, model in zip(lacking, material.trained_models(lacking, device), strict=True):
            if isinstance(model, training.TrainingFailedError):
                log.warning("%s failed and is recorded as failed: %s", run, model)
                continue
            # Checked again: once the new weights are recorded, the evaluations of the earlier ones are stale.
            for name in records.missing(run):
                try:
                    evaluations.evaluate(run, name, model, device)
                except training.TrainingFailedError as failure:
                    log.warning("%s lacks %s: the model that its attack is crafted on failed: %s", run, name, failure)
            if plans.of(run).keeps_weights:
                checking.check_kept(run)
        return len(lacking)


def complete(items: Iterable[Item], device: torch.device | str = "auto", *, jobs: int = 1) -> int:
    """Compute all that is missing or stale among `items`, in order; returns how many were computed.

    `jobs` runs go side by side, each in a process of its own with its share of the processor's threads: for narrow
    networks that is more than one run with all threads. More processes than there are runs or processors (two at least) are
    not begun. On a GPU runs of one shape are trained together, as many as its memory holds. Raises ValueError for jobs < 1, and
    what a run raises.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be ≥ 1, given {jobs}")
    waiting, device = [item for item in items if records.missing(item)], _start(device, torch.get_num_threads())
    # More processes than processors or runs would only take memory.
    most = min(jobs, max(1, len(waiting)), max(2, os.cpu_count() or 1))
    if most < jobs:
        log.info("%d jobs side by side, not %d: %d runs wait for %d processors", most, jobs, len(waiting), os.cpu_count())
    if most == 1:
        computed, begun = 0, 0
        for group in _groups(waiting, device, 1):
            begun += len(group)
            log.info("%d of %d: %s", begun, len(waiting), _names(group))
            computed += complete_group(group, device)
        return computed
    jobs, threads = most, max(1, torch.get_num_threads() // most)
    tasks = [(group, device) for group in _groups(waiting, device, jobs)]
    with side_by_side(complete_group, tasks, jobs, device, threads) as futures:
        for i, future in enumerate(as_completed(futures)):
            try:
                future.result()
            except BrokenProcessPool:
                running = ", ".join(_names(group) for f, (group, _) in futures.items() if not f.done() or f.exception())
                raise WorkerDiedError(
                    f"a process that computed one of these ended without an error message; the system may have killed it for "
                    f"lack of memory: {running}; the records are kept, and the same command continues from there"
                ) from None
            log.info("%d of %d done: %s", i + 1, len(futures), _names(futures[future][0]))
    return len(waiting)


@contextmanager
def side_by_side(
    function: Callable, tasks: Iterable[tuple], jobs: int, device: torch.device | str, threads: int
) -> Iterator[dict[Future, tuple]]:
    """`function` of the arguments of each task, in `jobs` processes of so many threads: the block gets each future's task.

    The processes end with this one, however it ends, and show no progress bars. What the block raises cancels what is not
    begun; an interrupt does not wait for what is.
    """
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # for the processes started here: their bars would overwrite one another
    others = active_children()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_worker, initargs=(device, threads)) as pool:
        # The workers inherit this: an interrupt from the keyboard, which all of them get, is this process's to handle.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        futures = {pool.submit(function, *task): task for task in tasks}
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            yield futures
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt
                for worker in set(active_children()) - set(others):
                    worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            os.environ.pop("TQDM_DISABLE")
            if bars is not None:
                os.environ["TQDM_DISABLE"] = bars


def _groups(items: list[Item], device: torch.device, jobs: int) -> list[list[Item]]:
    """The items as they are computed: on a GPU, which `jobs` processes share, those trained together; else each alone."""
    if device.type not in groups.DEVICES:
        return [[item] for item in items]
    return groups.groups(items, groups.free_memory(device) / jobs)


def _names(group: Sequence[Item]) -> str:
    return str(group[0]) if len(group) == 1 else f"{group[0]} and {len(group) - 1} trained together with it"


def _start(device: torch.device | str, threads: int) -> torch.device:
    """Make this process ready to compute."""
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # the default is a semaphore of the system's, which a terminated worker would leave behind
    records.provenance()  # the commit of the code that runs, not of what the checkout holds hours later
    return devices.device(str(device))


def _start_worker(device: torch.device | str, threads: int) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _start(device, threads)


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would go on with its run, then wait for ever for the next one."""
    parent_process().join()
    os._exit(1)
