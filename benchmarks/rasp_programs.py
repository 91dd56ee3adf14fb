"""Nine RASP programs compiled by us and by tracr: sizes at max_len 10, then wrong outputs at lengths up to 256.

tracr is run beside us where `import tracr` works, each compiler in a process of its own; elsewhere its sizes are the
constants below and the second table has our column alone. Both compile with default settings and are held against the
interpreter of their own language on 15 inputs. A compilation that fails, or that takes longer than the limit, ends the
program's row for that compiler.
Run: python benchmarks/rasp_programs.py [--limit SECONDS]
"""

import argparse
import importlib.util
import math
import multiprocessing
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from timing import machine

LENGTHS = (10, 20, 30, 64, 128, 256)
INPUTS = 15
TOLERANCE = 1e-4
"""How far a number may be off before an output counts as wrong; ours must also keep to its certified error."""
MEMORY = 12 * 2**30
COMPILE_ROUNDS = 5

LETTERS, NUMBERS = ("a", "b", "c", "d"), (1, 2, 3, 4)
VOCABULARIES = {
    "length": LETTERS,
    "hist": LETTERS,
    "reverse": LETTERS,
    "sort_unique": NUMBERS,
    "sort": NUMBERS,
    "frac_prevs": LETTERS,
    "sort_freq": LETTERS,
    "pair_balance": ("(", ")"),
    "shuffle_dyck2": ("(", ")", "{", "}"),
}


@dataclass(frozen=True)
class Size:
    layers: int
    heads: int
    width: int
    mlp: int
    parameters: int
    milliseconds: float = math.nan

    def __str__(self) -> str:
        shape = f"{self.layers}×{self.heads}"
        return f"{shape:>4} {self.width:>5} {self.mlp:>5} {self.parameters:>10,} {self.milliseconds:>8.0f}"


@dataclass(frozen=True)
class Outcome:
    """Of one program at one length: how many of the inputs came out wrong and the seconds to compile, or why neither."""

    wrong: int = 0
    seconds: float = math.nan
    error: float = 0.0
    refusal: str = ""

    def __str__(self) -> str:
        return self.refusal or f"{self.wrong:>2} {self.seconds:>6.2f}s"


MEASURED_ELSEWHERE = {
    "length": Size(1, 1, 29, 22, 2_563),
    "hist": Size(1, 1, 29, 22, 2_563),
    "reverse": Size(4, 1, 73, 110, 92_465),
    "sort_unique": Size(2, 1, 33, 22, 6_881),
    "sort": Size(3, 1, 73, 40, 56_489),
    "frac_prevs": Size(2, 1, 19, 1, 2_373),
    "sort_freq": Size(5, 1, 166, 110, 561_152),
    "pair_balance": Size(2, 2, 20, 4, 4_692),
    "shuffle_dyck2": Size(8, 4, 70, 804, 1_026_950),
}
"""tracr 9ce2b8c at max_seq_len 10; the vocabularies are those above."""


class Microtome:
    name = "microtome"

    def program(self, name: str, n: int):
        from microtome.lab import rasp
        from microtome.lab.rasp import library

        tokens = rasp.tokens
        return {
            "length": library.make_length,
            "hist": library.make_hist,
            "reverse": lambda: library.make_reverse(tokens),
            "sort_unique": lambda: library.make_sort_unique(tokens, tokens),
            "sort": lambda: library.make_sort(tokens, tokens),
            "frac_prevs": lambda: library.make_frac_prevs(tokens == "a"),
            "sort_freq": library.make_sort_freq,
            "pair_balance": lambda: library.make_pair_balance(tokens, "(", ")"),
            "shuffle_dyck2": lambda: library.make_shuffle_dyck(["()", "{}"]),
        }[name]()

    def compile(self, program, vocab: Sequence, n: int):
        from microtome.lab import rasp

        return rasp.compile(program, vocab=vocab, max_len=n)

    def size(self, compiled) -> Size:
        cfg = compiled.model.cfg
        parameters = sum(p.numel() for p in compiled.model.parameters())
        return Size(cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_mlp or 0, parameters)

    def outputs(self, compiled, inputs: list[list]) -> list[list]:
        return [list(values) for values in compiled.run(inputs)]

    def expected(self, program, tokens: list) -> list:
        from microtome.lab import rasp

        return rasp.evaluate(program, tokens)

    def tolerance(self, compiled) -> float:
        # Where numbers are told apart the certified error is 0, and an output is the interpreter's own float or wrong.
        return min(TOLERANCE, compiled.certificate.output_error)


class Tracr:
    name = "tracr"

    def program(self, name: str, n: int):
        from tracr.compiler import lib
        from tracr.rasp import rasp

        tokens = rasp.tokens
        return {
            "length": lib.make_length,
            "hist": lib.make_hist,
            "reverse": lambda: lib.make_reverse(tokens),
            "sort_unique": lambda: lib.make_sort_unique(tokens, tokens),
            "sort": lambda: lib.make_sort(tokens, tokens, max_seq_len=n, min_key=1),
            "frac_prevs": lambda: lib.make_frac_prevs(tokens == "a"),
            "sort_freq": lambda: lib.make_sort_freq(n),
            "pair_balance": lambda: lib.make_pair_balance(tokens, "(", ")"),
            "shuffle_dyck2": lib.make_shuffle_dyck2,
        }[name]()

    def compile(self, program, vocab: Sequence, n: int):
        from tracr.compiler import compiling

        return compiling.compile_rasp_to_model(program, set(vocab), n)

    def size(self, compiled) -> Size:
        import jax

        cfg = compiled.model_config
        parameters = sum(x.size for x in jax.tree_util.tree_leaves(compiled.params))
        return Size(cfg.num_layers, cfg.num_heads, len(compiled.residual_labels), cfg.mlp_hidden_size, parameters)

    def outputs(self, compiled, inputs: list[list]) -> list[list]:
        return [compiled.apply(["compiler_bos", *tokens]).decoded[1:] for tokens in inputs]

    def expected(self, program, tokens: list) -> list:
        return program(tokens)

    def tolerance(self, compiled) -> float:
        return TOLERANCE


CONTESTANTS = {"microtome": Microtome, "tracr": Tracr}


def sampled(vocab: Sequence, n: int) -> list[list]:
    """All equal, all distinct, in turn, in blocks, in falling order; the rest drawn, of length n − 2 to n."""
    rng = random.Random(n)
    by_block = [token for token in vocab for _ in range(n // len(vocab))]
    fixed = [
        [vocab[0]] * n,
        rng.sample(vocab, len(vocab)),
        [vocab[i % len(vocab)] for i in range(n)],
        by_block,
        by_block[::-1],
    ]
    return fixed + [rng.choices(vocab, k=n - i % 3) for i in range(INPUTS - len(fixed))]


def distance(found, expected) -> float:
    """How far off an output is: for numbers their distance, for others 0 or infinity."""
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return abs(float(found) - float(expected))
    return 0.0 if found == expected else math.inf


def size_of(contestant, name: str, n: int) -> Size:
    """Its size, and the median of several compilations in milliseconds."""
    vocab, times = VOCABULARIES[name], []
    for _ in range(COMPILE_ROUNDS):
        start = time.perf_counter()
        compiled = contestant.compile(contestant.program(name, n), vocab, n)
        times.append(1e3 * (time.perf_counter() - start))
    found = contestant.size(compiled)
    return Size(found.layers, found.heads, found.width, found.mlp, found.parameters, sorted(times)[len(times) // 2])


def outcome_of(contestant, name: str, n: int) -> Outcome:
    program, vocab = contestant.program(name, n), VOCABULARIES[name]
    start = time.perf_counter()
    compiled = contestant.compile(program, vocab, n)
    seconds = time.perf_counter() - start
    inputs, tolerance, wrong, worst = sampled(vocab, n), contestant.tolerance(compiled), 0, 0.0
    for tokens, found in zip(inputs, contestant.outputs(compiled, inputs), strict=True):
        pairs = zip(found, contestant.expected(program, tokens), strict=True)
        # tracr has no code for None, so that what it says there is not counted.
        off = max(distance(f, e) for f, e in pairs if e is not None or contestant.name != "tracr")
        wrong += off > tolerance
        worst = max(worst, off)
    return Outcome(wrong, seconds, worst)


def serve(name: str, connection) -> None:
    """A compiler's process: answers (function, arguments) until its parent ends it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    contestant = CONTESTANTS[name]()
    while True:
        function, arguments = connection.recv()
        try:
            connection.send(function(contestant, *arguments))
        except Exception as error:
            connection.send(Outcome(refusal=type(error).__name__))


class Worker:
    """A compiler in a process of its own, started anew after an answer that took too long."""

    def __init__(self, name: str):
        self.name, self.process = name, None

    def ask(self, function, *arguments, limit: float):
        """What the function returns, or a refusal that says how it failed or that it took longer than the limit."""
        if self.process is None:
            self._start()
        self.connection.send((function, arguments))
        try:
            if self.connection.poll(limit):
                return self.connection.recv()
            refusal = f">{limit:.0f} s"
        except EOFError:
            refusal = "died"
        self.stop()
        return Outcome(refusal=refusal)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.name, theirs), daemon=True)
        self.process.start()
        theirs.close()
        # The imports are not part of anyone's time.
        self.connection.send((size_of, ("hist", 2)))
        self.connection.recv()


def sizes(workers: dict[str, Worker], limit: float) -> None:
    installed = "tracr" in workers
    print("at max_len 10: layers × heads, width, MLP, parameters, milliseconds to compile")
    title = "tracr" if installed else "tracr, measured elsewhere at max_seq_len 10"
    print(f"{'':14}{'microtome':^37} | {title:^37} | parameters")
    logs = []
    for name in VOCABULARIES:
        ours = workers["microtome"].ask(size_of, name, 10, limit=limit)
        theirs = workers["tracr"].ask(size_of, name, 10, limit=limit) if installed else MEASURED_ELSEWHERE[name]
        ratio = "not compared"
        if isinstance(ours, Size) and isinstance(theirs, Size):
            logs.append(math.log(ours.parameters / theirs.parameters))
            ratio = f"{math.exp(logs[-1]):.3f}" + ("" if ours.layers <= theirs.layers else ", more layers")
        print(f"{name:14}{ours!s:37} | {theirs!s:37} | {ratio}")
    print(f"geometric mean of the ratios of parameters: {math.exp(sum(logs) / len(logs)):.3f}\n")


def lengths(workers: dict[str, Worker], limit: float) -> None:
    print(f"same programs, default settings: of {INPUTS} inputs how many came out wrong, and seconds to compile")
    print(f"{'':25}" + "".join(f"{f'n = {n}':>16}" for n in LENGTHS))
    worst = 0.0
    for name in VOCABULARIES:
        for contestant, worker in workers.items():
            row, ended = [], False
            for n in LENGTHS:
                outcome = Outcome(refusal="·") if ended else worker.ask(outcome_of, name, n, limit=limit)
                ended = bool(outcome.refusal)
                if contestant == "microtome" and not math.isinf(outcome.error):
                    worst = max(worst, outcome.error)
                row.append(f"{outcome!s:>16}")
            print(f"{name:14} {contestant:10}" + "".join(row), flush=True)
    print(f"our numbers were off by {worst:.1e} at most; those of {TOLERANCE:g} and more count as wrong")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=60, help="seconds for a program at one length")
    limit = parser.parse_args().limit
    names = [name for name in CONTESTANTS if name == "microtome" or importlib.util.find_spec("tracr")]
    workers = {name: Worker(name) for name in names}
    print(machine())
    sizes(workers, limit)
    lengths(workers, limit)
    for worker in workers.values():
        worker.stop()


if __name__ == "__main__":
    main()
