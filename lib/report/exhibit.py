"""Exhibits and pages: an exhibit is declared once with its name, its function and what it reads; a page shows it by its name.

exhibit("table-2", robustness_table, runs("table-2"), published("table-2"))
page = report.page(globals())
page.show("table-2")
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import get_type_hints

import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from lib.report.plot import stack
from lib.report.table import Table
from lib.report.words import badge, stamp
from lib.run import experiments
from lib.store import grid, results


@dataclass(frozen=True, eq=False)
class Source:
    """An input of an exhibit.

    - `read`: the function that gives it to a page.
    - `records`: the exhibits of the grid and the benchmarks whose records it comes from.
    - `everything`: whether it is read from all records there are.
    - `has_badge`: whether a table or figure of it has a badge, and the page's stamp names it.
    - `badge_line`: a function from what is read to the line that stands below a table in place of the badge.
    - `auto`: the scale of its records where the page names none.
    """

    read: Callable[["Page"], object]
    records: tuple[str, ...] = ()
    everything: bool = False
    has_badge: bool = True
    badge_line: Callable[..., str] | None = None
    auto: str = "auto"


@dataclass(frozen=True)
class Exhibit:
    """A declaration: `make` takes what `reads` gives, in that order, and the options.

    Sources may stand in mappings and tuples.
    """

    name: str
    make: Callable[..., object]
    reads: tuple[object, ...]
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def kind(self) -> type:
        """`Table`, `Figure`, `HTML` or `str`."""
        return get_type_hints(self.make)["return"]

    def sources(self) -> list[Source]:
        """All that it reads."""
        return list(_sources(self.reads))

    def records(self) -> list[str]:
        """The exhibits of the grid and the benchmarks whose records it reads, by name."""
        return sorted({name for source in self.sources() for name in source.records})

    def everything(self) -> bool:
        """Whether it is read from all records there are."""
        return any(source.everything for source in self.sources())

    def badged(self) -> bool:
        """Whether it is a table or figure of records, which a badge stands below."""
        return self.kind in (Table, Figure) and any(
            source.badge_line or (source.has_badge and source.records) for source in self.sources()
        )


EXHIBITS: dict[str, Exhibit] = {}


def exhibit(name: str, make: Callable[..., object], /, *reads: object, **options: object) -> None:
    """Declare an exhibit. ValueError where the name is taken."""
    if name in EXHIBITS:
        raise ValueError(f"exhibit {name!r} is declared twice")
    EXHIBITS[name] = Exhibit(name, make, reads, options)


def _sources(source: object) -> Iterator[Source]:
    if isinstance(source, Source):
        yield source
    elif isinstance(source, Mapping):
        yield from _sources(tuple(source.values()))
    elif isinstance(source, (tuple, list)):
        for each in source:
            yield from _sources(each)


# --- what is read -----------------------------------------------------------------------------------------------------


@cache
def runs(name: str, auto: str = "auto") -> Source:
    """The records of an exhibit of the grid, as `results.select` gives them; where the page names a scale, computed before.

    `auto`: the scale, where the page names none.
    """
    return Source(lambda page: page.collected(name, results.select, trains=True, auto=auto), (name,), auto=auto)


@cache
def tables(name: str) -> Source:
    """The tables of an exhibit's measurements, as `results.tables` gives them."""
    return Source(lambda page: page.collected(name, results.tables), (name,))


@cache
def histograms(name: str) -> Source:
    """The pixel histograms of an exhibit, as `results.histograms` gives them."""
    return Source(lambda page: page.collected(name, results.histograms), (name,))


@cache
def measurements(name: str) -> Source:
    """The numbers measured on an exhibit's sets, as `results.select` gives them."""
    return Source(lambda page: page.collected(name, results.select), (name,))


@cache
def outcomes(name: str, auto: str = "auto") -> Source:
    """The outcome of each image of an exhibit, as `results.outcomes` gives it. `auto`: the scale, where the page names none."""

    def read(page: Page) -> pd.DataFrame:
        page.value(runs(name, auto))
        return results.outcomes(name, page.scale_of(name, auto), seeds=page.seeds)

    return Source(read, (name,), auto=auto)


@cache
def lucky(name: str) -> Source:
    """As `results.lucky` gives it."""
    return Source(lambda page: results.lucky(name, page.scale_of(name), seeds=page.seeds), (name,), has_badge=False)


@cache
def benchmark(name: str) -> Source:
    """The record of a benchmark."""
    return Source(lambda page: results.benchmark(name), (name,), has_badge=False)


@cache
def published(name: str = "") -> Source:
    """The paper's numbers of one of its exhibits; without a name all of them."""
    return Source(lambda page: results.published(name) if name else results.published(), has_badge=False)


@cache
def pictures(*sets: str, names: Callable[["Page"], list[str]], count: int = 2, beside: Source | None = None) -> Source:
    """Test images under the transforms that `names` gives, and where they come from; `beside`: of the data of these records."""

    def read(page: Page) -> object:
        sources = set(page.value(beside)["source"].dropna()) if beside else set()
        return experiments.pictures(*sets, names=names(page), count=count, of=sources)

    return Source(read, has_badge=False)


def computed(read: Callable[["Page"], object], badge_line: Callable[..., str] | None = None) -> Source:
    """A source that reads all existing records; `badge_line` as a `Source` has it."""
    return Source(read, everything=True, has_badge=False, badge_line=badge_line)


# --- pages ------------------------------------------------------------------------------------------------------------


class Page:
    """A page of one scale, seeds and device, as a notebook asks for it. It reads each source once, and shows exhibits."""

    def __init__(self, scale: str = "auto", seeds: int | str = "all", device: str = "auto", *, compute: bool = True) -> None:
        self.scale, self.seeds, self.device, self.compute = scale, seeds, device, compute
        self._computes = compute
        self._read: dict[Hashable, object] = {}
        self._frames: dict[tuple[str, str], pd.DataFrame] = {}  # by exhibit and the scale where the page names none

    def scale_of(self, name: str, auto: str = "auto") -> str:
        """The page's scale, or, where the exhibit is not declared at it, `auto`."""
        return self.scale if self.scale in grid.exhibit(name)["scales"] else auto

    def collected(self, name: str, read: Callable, *, trains: bool = False, auto: str = "auto") -> pd.DataFrame:
        """The records of an exhibit of the grid, computed before unless the page only reads."""
        scale, seeds = self.scale_of(name, auto), {"seeds": self.seeds_of(name)} if trains else {}
        if self._computes:
            experiments.compute(name, scale, **seeds, device=self.device)
        frame = read(name, scale, **seeds)
        self._frames.setdefault((name, auto), frame)
        return frame

    def seeds_of(self, name: str) -> int | str:
        """The number of seeds that the page names, at most as many as the exhibit declares."""
        if self.seeds == "all" or self.scale_of(name) == "auto":
            return self.seeds
        seeds = {run.seed for run in grid.runs(name, self.scale) if isinstance(run, grid.Run)}
        return min(int(self.seeds), len(seeds))

    def value(self, source: object, only: Collection[str] | None = None) -> object:
        """The value of a source for this page, or of a mapping or tuple of sources; of a mapping the names in `only`."""
        if isinstance(source, Mapping):
            return {name: self.value(part) for name, part in source.items() if only is None or name in only}
        if isinstance(source, (tuple, list)):
            return type(source)(self.value(part) for part in source)
        if not isinstance(source, Source):
            return source
        if source not in self._read:
            self._read[source] = source.read(self)
        return self._read[source]

    def make(self, name: str, only: Collection[str] | None = None) -> Figure | Table | HTML | str:
        """The exhibit of that name, of all its data sets or of those in `only`. ValueError for an unknown exhibit."""
        if name not in EXHIBITS:
            raise ValueError(f"unknown exhibit {name!r}; allowed: {', '.join(EXHIBITS)}")
        declaration = EXHIBITS[name]
        return declaration.make(*(self.value(read, only) for read in declaration.reads), **declaration.options)

    def badge(self, name: str) -> str:
        """The badge below an exhibit: of its frames, and what its sources say of themselves."""
        sources = EXHIBITS[name].sources()
        names = dict.fromkeys((record, source.auto) for source in sources if source.has_badge for record in source.records)
        frames = [self._frames[record] for record in names if record in self._frames]
        lines = [badge(*frames)] if frames else []
        lines += [source.badge_line(self.value(source)) for source in sources if source.badge_line]
        return "\n\n".join(dict.fromkeys(lines))

    def show(self, *names: str, only: Collection[str] | None = None, compute: bool = True) -> None:
        """Display exhibits in the notebook, tables and figures with a badge below, and hand them to the page that shows them.

        `only`: the data sets to show, all by default; `compute`: False reads the records there are.
        """
        self._computes = self.compute and compute
        for name in names:
            content = self.make(name, only)
            show(name, content)
            if EXHIBITS[name].badged() and (badge_text := self.badge(name)):
                show(f"{name}-badge", badge_text)

    def stamp(self) -> None:
        """Show the line at the end of a page: scale, data, device, commit and date of the records it has read."""
        show("stamp", stamp([*self._frames.values()]))


def page(namespace: Mapping[str, object] | None = None, *, compute: bool = True, **allowed: tuple[str, ...]) -> Page:
    """The page of a notebook, whose parameters are checked first: `experiments.check_parameters`. Without any, a page reads."""
    if namespace is None:
        return Page(compute=False)
    experiments.check_parameters(namespace, **allowed)
    return Page(namespace["scale"], namespace["seeds"], namespace["device"], compute=compute)


def show(name: str, content: Figure | Table | HTML | str) -> None:
    """Display what an exhibit is in the notebook and hand it, under `name`, to the page that refers to it.

    A figure without images is handed over a second time, as `NAME-phone`, as wide as a phone's screen. It is changed by that.
    """
    from matplotlib_inline.backend_inline import set_matplotlib_formats
    from myst_nb import glue

    if isinstance(content, (Figure, HTML)):
        set_matplotlib_formats("svg")
        glue(name, content)
        if isinstance(content, Figure) and stack(content):
            glue(f"{name}-phone", content, display=False)
    else:
        glue(name, Markdown(content.markdown() if isinstance(content, Table) else content))
