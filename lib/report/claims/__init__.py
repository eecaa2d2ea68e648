"""Every claim that the paper makes in words: a sentence, its section, and a function that checks it on a frame of records.

claims.check("3.3-clean-accuracy-is-stable", records)   # of one or more scales; a claim never mixes two of them
claims.verdicts("3", claims.recorded())                 # a section's claims, on our records and on the paper's own numbers

The words of the claims mean the same in all checks:

- *More*, *less*, *rises*, *falls*: the 95% interval of the difference excludes 0. The interval of an accuracy is made of
  Wilson's over its images and Student's over trainings, whose standard deviation is pooled over a network's several seeds
  (`intervals.pooled`). A single seed has this interval as well. So have the paper's numbers, with the deviation of our
  trainings in the place of theirs. Two accuracies of one training (clean and attacked, or two attacks) differ by the images'
  part alone. The interval of a difference follows from the two (MOVER; for two Wilson intervals it is Newcombe's, 1998). The
  images are the same on both sides, so this interval is wider than necessary.
- *Comparable*, *slightly*, *almost the same*, *nearly 100%*: within 3 points, with the whole interval, since Section 1 calls a
  difference of less than 3% comparable. The scorecard's marks have the same margin. *Largely*, *far*, *significantly*: more
  than 3 points, and beyond the interval.
- *Plateau*, *does not depend*: within 1 point, with the whole interval. That is the half width of the 95% interval of a
  difference between two accuracies of 85% on 10,000 images.
- *Much more*: at least twice.

A claim holds where the records show it in this sense, fails where they show the opposite, and is undecided where the intervals
allow both.

A claim that follows from definitions or proofs cannot fail on honest records. Where the records support it, its verdict is
*certain*, and it does not count among the claims that hold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

import pandas as pd

from lib.report.claims.evidence import COMPARABLE, NOT_COMPUTED, PUBLISHED, Finding, Records, finding_of
from lib.report.claims.judging import CLAIMS, Claim
from lib.store import grid, results
from lib.store.intervals import Spreads, pooled

for _section in ("sec1_2", "sec3_4", "sec5_6", "appD"):
    import_module(f"{__name__}.{_section}")

__all__ = [
    "CERTAIN", "CLAIMS", "COMPARABLE", "FAILS", "HOLDS", "MEASURED", "NOT_COMPUTED", "PUBLISHED", "THE_PAPER", "THE_REST",
    "THE_REST_OR_WIDTH", "THE_WIDTH", "UNDECIDED", "UNTOLD", "Verdict", "check", "names", "published", "recorded", "verdicts",
]  # fmt: skip

HOLDS, FAILS, UNDECIDED, CERTAIN = "holds", "fails", "undecided", "certain"
_SIMULATED = ("example_1_simulation", "sphere_separation", "linear_margin", "pairwise_distances")  # they leave tables
# Why a claim fails on our records, as far as the same check on the paper's own numbers tells.
THE_PAPER = "the claim fails on the paper's own numbers, too"
THE_WIDTH = "the claim fails on the paper's numbers of our width, too"
THE_REST = (
    "the claim holds on the paper's numbers of our width; possible causes are our shorter training, our data and the random "
    "difference between trainings"
)
THE_REST_OR_WIDTH = (
    "the claim holds on the paper's numbers; possible causes are our narrower networks, our shorter training, our data and the "
    "random difference between trainings"
)
MEASURED = "the numbers are measured on the images, and no training takes part"
UNTOLD = "the cause is open, since the paper prints no numbers for this check"
_TRAIN_SIZE = {"mnist": 60000, "fashion_mnist": 60000, "cifar10": 50000}


@dataclass(frozen=True)
class Verdict:
    """The verdict of a check with evidence, scale, images, seeds and data.

    `holds`; `fails`, where the numbers contradict the claim; `undecided`, where their intervals allow both; `certain`; `not
    computed`.
    """

    claim: str
    section: str
    sentence: str
    verdict: str
    evidence: str  # the numbers; what is lacking, where it is not computed; of what is certain also why
    scale: str = ""
    n: tuple[int, ...] = ()  # test or training images behind each number
    seeds_by_source: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the data are from."""
        return tuple(sorted(self.seeds_by_source))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all trainings behind the verdict."""
        return tuple(sorted({seed for seeds in self.seeds_by_source.values() for seed in seeds}))

    def __str__(self) -> str:
        return f"{self.verdict}: {self.evidence}{f' ({basis})' if (basis := self.basis) else ''}"

    @property
    def basis(self) -> str:
        """Scale, data, number of images and seeds behind the verdict, in words; empty where it is not computed."""
        if not self.scale:
            return ""
        if self.scale == PUBLISHED:
            return "the paper's own numbers"
        parts = [f"scale {self.scale}", *self.sources]
        parts += [f"n = {', '.join(map(str, self.n))}"] if self.n else []
        parts += [f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"] if self.seeds else []
        return " · ".join(parts)


def published() -> pd.DataFrame:
    """The paper's own numbers in the form of `results.frame`, at the scale `published`: one seed, all images."""
    return _as_records(results.published())


def _as_records(numbers: pd.DataFrame) -> pd.DataFrame:
    # A number printed twice counts as it stands in the table listed first.
    rows = numbers.drop_duplicates([name for name in numbers.columns if name not in ("exhibit", "value")])
    without_model = (rows["model"] == "") & (rows["training"] == "pgd")  # footnote 1
    size = rows["dataset"].map(_TRAIN_SIZE).astype("Int64")
    return rows.assign(
        scale=PUBLISHED,
        model=rows["model"].mask(without_model, rows["dataset"].map({"mnist": "lenet5", "cifar10": "wide_resnet28"})),
        widen_factor=rows["widen_factor"].mask(without_model, rows["dataset"].map({"mnist": 1.0, "cifar10": 4.0})),
        train_size=size,
        recipe="default",
        seed=0,
        n=size.where(rows["split"] == "train", 10000),
        status="recorded",
        source="the paper",
    )


def recorded(scale: str = "auto") -> pd.DataFrame:
    """The records of `scale`, or, for `auto`, of every scale, as `check` takes them."""
    scales = grid.SCALES if scale == "auto" else [scale]
    frames = [results.load(name) for name in scales]
    tables = [
        results.tables(name, at_scale, cifar10=cifar10)
        for name in grid.exhibits()
        for at_scale in scales
        if grid.exhibit(name).get("quantity") in _SIMULATED and at_scale in grid.exhibit(name)["scales"]
        for cifar10 in (grid.CIFAR10_SETS if "cifar10" in grid.exhibit(name)["dataset"] else grid.CIFAR10_SETS[:1])
    ]
    # An exhibit of several sets has the sets other than CIFAR10 twice.
    if tables := [table for table in tables if len(table)]:
        frames.append(_with_points(pd.concat(tables, ignore_index=True).drop_duplicates()))
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else results.frame([])


def _with_points(table: pd.DataFrame) -> pd.DataFrame:
    """A histogram of pairwise distances is of so many points as make up its pairs."""
    if "count" not in table:
        return table
    pairs = table.groupby(["scale", "dataset", "transform", "d"])["count"].transform("sum")
    points = ((1 + (1 + 8 * pairs) ** 0.5) / 2).round()
    return table.assign(n=points.where(table["count"].notna(), table.get("n")))


def check(name: str, records: pd.DataFrame) -> Verdict:
    """The verdict on the claim `name` from `records`, a frame as `results.frame` or `results.published` gives it.

    The tables that simulations leave, one row a case, may stand below it, with columns of their own and without a metric.
    A verdict rests on one scale and one CIFAR10 set: those with the most of the numbers it needs, of equals the highest scale
    and the exact set; `smoke` only where no other is computed. Rows without a value (stale, failed) are not read. ValueError
    for an unknown name.
    """
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}; allowed: {', '.join(CLAIMS)}")
    return _judged(CLAIMS[name], _readers(records))


def _readers(records: pd.DataFrame, spreads: Spreads | None = None) -> list[Records]:
    """The records of each scale, the highest first, and of each CIFAR10 set that is there.

    `spreads`: of trainings; by default those of the records of the scale, for the paper's settings else those of `laptop`.
    """
    if "scale" not in records:
        records = _as_records(records)
    records = records.reindex(columns=[*dict.fromkeys([*results.COLUMNS, *records.columns])])
    rows = records[(records["status"] == "recorded") & (records["value"].notna() | records["metric"].isna())]
    rows = rows.reset_index(drop=True)
    readers = []
    for scale in (PUBLISHED, *grid.SCALES):
        at_scale = rows[rows["scale"] == scale]
        sets = [name for name in grid.CIFAR10_SETS if (at_scale["dataset"] == name).any()] or grid.CIFAR10_SETS[:1]
        scale_spreads = _spreads(rows, scale) if spreads is None else spreads
        readers += [Records(at_scale, scale, name, scale_spreads) for name in sets if len(at_scale)]
    return readers


def _spreads(rows: pd.DataFrame, scale: str) -> Spreads:
    """Of the records of `scale`; without several seeds of any, those of `laptop` stand in for the paper's own settings.

    The trainings of other lengths, which other exhibits have, say nothing of these: as in `results.spreads`.
    """
    rows = rows.reindex(columns=list(results.COLUMNS))
    for name in ("paper", "laptop") if scale in (PUBLISHED, "paper") else (scale,):
        if spreads := pooled(rows[(rows["scale"] == name) & results.of_usual_length(rows, name)]):
            return spreads
    return {}


def _judged(claim: Claim, readers: Iterable[Records]) -> Verdict:
    best, best_rank, missing = None, (False, -1), "there is no record"
    for reader in readers:
        reader.rows_read.clear()
        finding = finding_of(claim.judge, reader)
        if finding.absent:
            missing = finding.evidence
            continue
        rank = (reader.scale != "smoke", len(reader.rows_read))
        if rank > best_rank:
            best, best_rank = _verdict(claim, finding, reader), rank
    return best or Verdict(claim.name, claim.section, claim.sentence, NOT_COMPUTED, missing)


def _verdict(claim: Claim, finding: Finding, reader: Records) -> Verdict:
    rows = reader.rows_read.values()
    evidence = f"{claim.certain}; {finding.evidence}" if finding.holds and claim.certain else finding.evidence
    return Verdict(
        claim.name,
        claim.section,
        claim.sentence,
        (CERTAIN if claim.certain else HOLDS) if finding.holds else UNDECIDED if finding.undecided else FAILS,
        evidence,
        reader.scale if rows else "",  # a formula is of no scale
        tuple(sorted({int(row.n) for row in rows})),
        {
            source: tuple(sorted({int(row.seed) for row in rows if row.training and row.source == source}))
            for source in {row.source for row in rows}
        },
    )


def _paper_readers(records: pd.DataFrame) -> list[Records]:
    """The paper's numbers, one training each: our trainings' spread stands for the paper's, which is not known."""
    return _readers(published(), _spreads(records, PUBLISHED))


def _narrow_readers(records: pd.DataFrame) -> list[Records]:
    """The paper's numbers of networks as narrow as ours, in the place of those that its text speaks of."""
    rows = published()
    for dataset, exhibit in (("mnist", "table-2"), ("cifar10", "table-3")):
        paper_width, our_width = (grid.runs(exhibit, scale)[0].widen_factor for scale in ("paper", "laptop"))
        is_dataset = rows["dataset"] == dataset
        rows = rows[~is_dataset | rows["widen_factor"].isna() | (rows["widen_factor"] == our_width)]
        rows = rows.assign(
            widen_factor=rows["widen_factor"].mask((rows["dataset"] == dataset) & rows["widen_factor"].notna(), paper_width)
        )
    return _readers(rows[rows["dataset"] != "fashion_mnist"], _spreads(records, PUBLISHED))


def _reason(ours: Verdict, paper_verdict: str, narrow_verdict: str) -> str:
    """Why a claim fails on ours, by the verdicts on the paper's numbers and on its numbers of our width."""
    if paper_verdict == FAILS:
        return THE_PAPER
    if narrow_verdict == FAILS:
        return THE_WIDTH
    if narrow_verdict == HOLDS:
        return THE_REST
    if paper_verdict == HOLDS:
        return THE_REST_OR_WIDTH
    return UNTOLD if ours.seeds else MEASURED


def names(section: str = "") -> list[str]:
    """The claims of a section and of those within it (`3` has those of `3.3`, `D` those of `D.1`); all by default.

    ValueError for a section without any.
    """
    claim_names = [name for name, claim in CLAIMS.items() if not section or f"{claim.section}.".startswith(f"{section}.")]
    if not claim_names:
        sections = ", ".join(dict.fromkeys(claim.section for claim in CLAIMS.values()))
        raise ValueError(f"no claim belongs to section {section!r}; allowed: {sections}, or a section that contains them")
    return claim_names


def verdicts(sections: str | Iterable[str], records: pd.DataFrame) -> pd.DataFrame:
    """The claims of a section or of several, one row each: `claim`, `section`, `sentence`, `verdict` and `evidence`.

    The verdict is on `records`; `scale`, `n` and `seeds_by_source` are those of `Verdict`. `paper_verdict` and
    `paper_evidence` are of the same check on the numbers that the paper prints, `narrow_verdict` on those that it prints of
    our width. `reason`: of a claim that fails, which of these fail too.
    """
    our_readers, paper_readers, narrow_readers, rows = _readers(records), _paper_readers(records), _narrow_readers(records), []
    for name in [name for section in ([sections] if isinstance(sections, str) else sections) for name in names(section)]:
        ours, theirs, narrower = (_judged(CLAIMS[name], readers) for readers in (our_readers, paper_readers, narrow_readers))
        rows.append(
            {
                "claim": name,
                "section": ours.section,
                "sentence": ours.sentence,
                "verdict": ours.verdict,
                "evidence": ours.evidence,
                **{name: getattr(ours, name) for name in ("scale", "n", "seeds_by_source")},
                "paper_verdict": theirs.verdict,
                "paper_evidence": theirs.evidence,
                "narrow_verdict": narrower.verdict,
                "reason": _reason(ours, theirs.verdict, narrower.verdict) if ours.verdict == FAILS else "",
            }
        )
    return pd.DataFrame(rows)
