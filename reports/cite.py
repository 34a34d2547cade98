"""The section "How to cite": what to name beside a number, and whose work it stands on."""

from __future__ import annotations

from shiftbench.reports.merge import sources
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.results.tables import Results

PAPERS = (
    "D. Hendrycks, T. Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations. ICLR 2019 (the corruptions, mCE).",
    "L. Hubert, P. Arabie. Comparing Partitions. Journal of Classification 2, 1985 (ARI).",
    "N. X. Vinh, J. Epps, J. Bailey. Information Theoretic Measures for Clusterings Comparison. JMLR 11, 2010 (AMI).",
    "R. Taori et al. Measuring Robustness to Natural Distribution Shifts in Image Classification. NeurIPS 2020 "
    "(effective robustness).",
)


def content(chapter: Chapter) -> Content:
    """This package's version, the papers, and what the shifts ask to be cited as."""
    evaluations = sources(chapter.results)
    return {
        "version": evaluations[0].get("version", "") if evaluations else "",
        "references": [*PAPERS, *citations(chapter.results)],
    }


SECTION = Section("end", TEMPLATES / "cite.html", content, anchor="cite")


def citations(results: Results) -> list[str]:
    """What the shifts of a result ask to be cited as."""
    shifts = [shift for source in sources(results) for shift in source.get("shifts", ())]
    texts = [f"{shift['citation']} (the shift {shift['name']})." for shift in shifts if shift.get("citation")]
    return list(dict.fromkeys(texts))
