"""Each Python example of the README, run as it is printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_there_are_five_examples_of_three_lines():
    assert [example.count("\n") for example in EXAMPLES] == [3] * 5


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.splitlines()[-1][:30] for e in EXAMPLES])
def test_example_runs_and_prints(example, capsys):
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text()):
        assert target.startswith("http") or (README.parent / target).exists(), target
