"""Writing a program down as Python that needs nothing but Python."""

import json
import textwrap
from collections.abc import Sequence

from microtome.lab.rasp.learned.ladder import INDENT, literal, predicate, returns
from microtome.lab.rasp.learned.options import BOS, EOS
from microtome.lab.rasp.learned.program import Classifier, Embedding, Head, Points, Program, Table

INPUTS = {"positions": "list(range(len(tokens)))", "ones": "[1] * len(tokens)"}
SINGULAR = {"tokens": "token", "positions": "position", "ones": "one"}
WIDTH = 100
"""Columns of a line, where the text can be broken."""

CLOSEST = '''def select_closest(keys, queries, predicate):
    """For each query, the place of the nearest key that matches{seen}; 0 if none does.

    Of two keys equally near the earlier one is taken, and the query's own place only if no other key matches.
    """
    selected = []
    for i, query in enumerate(queries):
        matches = [j for j, key in enumerate(keys{up_to}) if predicate(query, key)]
        selected.append(min(matches, key=lambda j: (j == i, abs(i - j)), default=0))
    return selected
'''
ALL = '''def select(keys, queries, predicate):
    """For each query, the places of all keys that match{seen}."""
    selected = []
    for i, query in enumerate(queries):
        selected.append([j for j, key in enumerate(keys{up_to}) if predicate(query, key)])
    return selected
'''
AGGREGATE = '''def aggregate(selected, values):
    """The value at each selected place."""
    return [values[j] for j in selected]
'''
AGGREGATE_SUM = '''def aggregate_sum(selected, values):
    """The sum of the values over each set of selected places."""
    return [sum(values[j] for j in places) for places in selected]
'''


def write(program: Program) -> str:
    """The program's text: `run(tokens)` first, then what it calls."""
    parts = [_title(program), _run(program), *map(_function, program.steps), *_answer(program), *_primitives(program)]
    return "\n\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def _title(program: Program) -> str:
    o = program.options
    parts = o.n_layers * (o.n_cat_heads + o.n_num_heads + o.n_cat_mlps + o.n_num_mlps)
    kept = len([step for step in program.steps if not isinstance(step, Embedding)])
    mask = "itself and the words before it" if o.causal else "all words"
    return (
        '"""A program read off a trained network (a Transformer Program).\n\n'
        f"run(tokens) answers for each word of a sentence of at most {o.n_ctx}; each word sees {mask}.\n"
        f"Of the network's {parts} heads and lookup tables, the answer depends on {kept}.\n"
        '"""\n'
    )


def _run(program: Program) -> str:
    used = {name for step in program.steps for name in step.reads} | set(program.answer.reads)
    lines = ["def run(tokens):", *(f"{INDENT}{name} = {text}" for name, text in INPUTS.items() if name in used)]
    layer = None
    for step in program.steps:
        own = None if isinstance(step, Embedding) else step.name.removeprefix("num_").split("_")[1]
        if own != layer:
            lines += ["", f"{INDENT}# Layer {own}"]
        layer = own
        lines.append(f"{INDENT}{step.name} = {_call(step)}")
    reads, classes = program.answer.reads, program.options.classes[1:]
    if isinstance(program.answer, Table) and not reads:
        answers = f"[{literal(classes[int(program.answer.outputs)])}] * len(tokens)"
    else:
        answers = f"list(map(answer, {', '.join(reads)}))"
    lines += ["", _broken(f"answers = {answers}", "answers = list(map(", INDENT)]
    marked = [literal(word) for word in (BOS, EOS) if word in program.options.tokens]
    test = f"token in {{{', '.join(marked)}}}" if len(marked) > 1 else f"token == {''.join(marked)}"
    said = f"[token if {test} else said for token, said in zip(tokens, answers)]" if marked else "answers"
    return "\n".join([*lines, f"{INDENT}return {said}"])


def _call(step: Embedding | Head | Table) -> str:
    match step:
        case Embedding():
            return f"[{step.name.upper()}[token] for token in tokens]"
        case Head(counts=True):
            return f"aggregate_sum(select({step.key}, {step.query}, {step.name}_matches), {step.value})"
        case Head():
            return f"aggregate(select_closest({step.key}, {step.query}, {step.name}_matches), {step.value})"
        case Table(reads=()):
            return f"[{int(step.outputs)}] * len(tokens)"
        case _:
            return f"list(map({step.name}_table, {', '.join(step.reads)}))"


def _function(step: Embedding | Head | Table) -> str:
    """What `_call` calls, or an empty text."""
    match step:
        case Embedding():
            return f"{step.name.upper()} = {json.dumps(dict(step.values), indent=4, ensure_ascii=False)}"
        case Head():
            query = _singular(step.query)
            key = f"key_{query}" if step.key == step.query else _singular(step.key)
            return _define(f"{step.name}_matches", [query, key], predicate(query, key, step.wanted))
        case Table(reads=()):
            return ""
        case _:
            arguments = [_singular(name) for name in step.reads]
            return _define(f"{step.name}_table", arguments, returns(arguments, step, str))


def _define(name: str, arguments: Sequence[str], body: Sequence[str]) -> str:
    signature = _broken(f"def {name}({', '.join(arguments)}):", f"def {name}(")
    return "\n".join([signature, *(INDENT + line for line in body)])


def _broken(line: str, hang: str, indent: str = "") -> str:
    """The line, broken at blanks if it is too long, what follows under the end of `hang`."""
    return textwrap.fill(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _answer(program: Program) -> list[str]:
    """The function `answer` with its table of points, if it has any."""
    answer, classes = program.answer, program.options.classes[1:]
    arguments = [_singular(name) for name in answer.reads]
    if isinstance(answer, Table):
        if not arguments:
            return []
        return [_define("answer", arguments, returns(arguments, answer, lambda c: literal(classes[c])))]
    rows = ['POINTS["always"]']
    for name, argument in zip(answer.reads, arguments, strict=True):
        row = f'POINTS["{name}"]'
        rows.append(f"{row}[{argument}]" if name in answer.points else f"[{argument} * rate for rate in {row}]")
    body = ['"""The class with the most points."""', "points = [", *(f"{INDENT}{row}," for row in rows), "]"]
    body += ["total = [sum(column) for column in zip(*points)]", "return CLASSES[total.index(max(total))]"]
    return [_define("answer", arguments, body), _points(answer, classes)]


def _points(classifier: Classifier, classes: Sequence[str]) -> str:
    lines = [f"CLASSES = {json.dumps(classes, ensure_ascii=False)}", "POINTS = {"]
    lines.append(f'{INDENT}"always": ({_aligned([classifier.always])[0]}),')
    for name, rows in classifier.points.items():
        labels = [literal(value) + ":" for value in rows]
        lines.append(f'{INDENT}"{name}": {{')
        for label, row in zip(labels, _aligned(list(rows.values())), strict=True):
            lines.append(f"{INDENT * 2}{label:<{max(map(len, labels))}} ({row}),")
        lines.append(f"{INDENT}}},")
    lines += [f'{INDENT}"{name}": ({_aligned([row])[0]}),' for name, row in classifier.rates.items()]
    return "\n".join([*lines, "}"])


def _aligned(rows: Sequence[Points]) -> list[str]:
    """Rows of numbers as text, with the numbers below each other; a comma keeps a single one a tuple."""
    texts = [[repr(number) for number in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    last = "," if len(widths) == 1 else ""
    return [", ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)) + last for row in texts]


def _primitives(program: Program) -> list[str]:
    """The functions that heads call, those that are."""
    heads = [step for step in program.steps if isinstance(step, Head)]
    words = {"seen": " so far", "up_to": "[: i + 1]"} if program.options.causal else {"seen": "", "up_to": ""}
    parts = [CLOSEST.format(**words), AGGREGATE] if any(not head.counts for head in heads) else []
    return parts + ([ALL.format(**words), AGGREGATE_SUM] if any(head.counts for head in heads) else [])


def _singular(name: str) -> str:
    return SINGULAR.get(name, name)
