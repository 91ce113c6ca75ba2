"""What a report says before its script runs, and where scripts are switched off: verdicts and numbers."""

from html import escape

from lightning_stiffness.figures.moment import moment
from lightning_stiffness.report.runs import Run, Standing, standing
from lightning_stiffness.report.words import ranged, ranged_length

MEASURES = ("cos", "sign")


def plain_page(title: str, about: list[str], runs: list[Run]) -> str:
    """The verdict on each run and the numbers of its last step, as HTML; every name in it is escaped.

    Example:
        >>> from lightning_stiffness.result import StiffnessResult
        >>> "&lt;b&gt;" in plain_page("Title", [], [Run.of("<b>", [StiffnessResult(0, 0)])])
        True
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in about)]
    for run in runs:
        parts.append(f"<h2>{escape(run.name)}</h2>")
        if not run.results:
            parts.append("<p>This run has no result.</p>")
            continue
        last = standing(run, len(run.results) - 1, "train-val", "cos")
        parts += [
            f"<p><strong>{escape(last.verdict.headline)}</strong></p>",
            f"<p>{escape(last.verdict.detail)}</p>",
        ]
        parts.append(_table(run))
    return "\n".join(parts)


def _table(run: Run) -> str:
    last = run.results[-1]
    titles = ("step on → effect on", "measure", "same class", "other classes", "reach ξ")
    rows = [
        _row(f"{block}", measure, standing(run, len(run.results) - 1, block, measure))
        for block, measures in last.summary.items()
        for measure in measures
    ]
    caption = f"{moment(last)}; in brackets 95% intervals; ≈: beyond the distances measured"
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(block: str, measure: str, at: Standing) -> list[str]:
    own = _with(*ranged(at.own)) + (" (any two)" if at.own_name == "overall" else "")
    return [block, measure, own, _with(*ranged(at.between)), _with(*ranged_length(at.length))]


def _with(text: str, range_: str) -> str:
    return f"{text} ({range_})" if range_ else text
