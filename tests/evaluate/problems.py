"""Problems of our own, in HumanEval's format, with a solution each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from genus.evaluate.code.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

PROBLEMS = [
    Problem(
        f"own/{name}", f'{before}def {name}({takes}):\n    """{what}"""\n', name,
        f"def check(candidate):\n{tests}", f"    {solution}\n",
    )
    for name, before, takes, what, tests, solution in [
        ("double", "", "x", "Return twice x.", "    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
         "return 2 * x"),
        ("mean", "from typing import List\n\n", "xs: List[float]", "Return the mean.",
         "    assert abs(candidate([1.0, 2.0]) - 1.5) < 1e-9\n", "return sum(xs) / len(xs)"),
        ("rotated", "", "text", "Return the text, its last character first.",
         "    assert candidate('abc') == 'cab'\n    assert candidate('') == ''\n", "return text[-1:] + text[:-1]"),
    ]
]  # fmt: skip


def write_problems(path: Path, problems: list[Problem] = PROBLEMS) -> Path:
    """Write problems as JSON lines."""
    path.write_text("".join(json.dumps(vars(problem)) + "\n" for problem in problems), encoding="utf-8")
    return path
