"""The section "How scores fall with severity": curves of the shifts that have severities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shiftbench.reports import figures
from shiftbench.reports.headline import COMMON
from shiftbench.reports.names import metric_name
from shiftbench.reports.panels import PanelGroup, choices, file_name, filled, shift_choice
from shiftbench.reports.section import TEMPLATES, Chapter, Content, Section
from shiftbench.reports.style import WIDE
from shiftbench.reports.view import Curve, View


def content(chapter: Chapter) -> Content | None:
    """Curves of the mean and of each corruption; of the other clusterers those of the mean."""
    view, *others = chapter.views
    mean = mean_curves(view)
    if not mean:
        return None
    return {
        "mean": mean,
        "corruptions": corruption_curves(view),
        "others": {other.clusterer: curves for other in others if (curves := mean_curves(other))},
        "some_incomplete": len(view.complete(COMMON)) < len(view.corruptions(COMMON)),
        "drawn": view.drawn,
        "n_candidates": len(view.candidates),
    }


SECTION = Section(
    "figures", TEMPLATES / "severity.html", content, needs=("graded",), anchor="severity", title="Severity"
)  # fmt: skip


def mean_curves(view: View) -> list[PanelGroup]:
    """The mean over all corruptions by severity, the protocols side by side."""
    groups = []
    for shift in view.graded:
        corruptions = view.complete(shift)
        mean = f" over {len(corruptions)} corruptions" if len(corruptions) > 1 else ""
        for metric in view.headline:
            panels = []
            for protocol in view.protocols:
                lines = _score_curves(view, protocol, metric, shift, corruptions)
                if lines:
                    panels.append(
                        figures.curves(
                            file_name("severity", view, metric, protocol, shift),
                            f"{metric_name(metric)}, {protocol} clusters",
                            lines,
                            what=f"mean {metric_name(metric)}{mean}",
                            size=WIDE,
                            labelled=True,
                            chance=view.chance(protocol, metric, shift),
                            top=view.top,
                        )
                    )
            groups.append(PanelGroup(panels, metric, shift=shift_choice(view, shift)))
    return filled(groups)


def corruption_curves(view: View) -> list[PanelGroup]:
    """One small panel per corruption."""
    return filled(
        PanelGroup(
            [
                figures.curves(
                    file_name("severity", view, metric, protocol, shift, corruption),
                    corruption.replace("_", " "),
                    lines,
                    what=f"{metric_name(metric)} with {protocol} clusters",
                    chance=view.chance(protocol, metric, shift),
                    top=view.top,
                )
                for corruption in view.corruptions(shift)
                if (lines := _score_curves(view, protocol, metric, shift, [corruption]))
            ],
            metric,
            protocol,
            shift_choice(view, shift),
        )
        for shift in view.detailed
        for metric, protocol in choices(view)
    )


def _score_curves(view: View, protocol: str, metric: str, shift: str, corruptions: Sequence[str]) -> list[Curve]:
    lines = [view.score_curve(candidate, protocol, metric, shift, corruptions) for candidate in view.drawn]
    return [line for line in lines if line is not None and np.isfinite(line.mean).any()]
