"""Nine RASP programs compiled by us and by tracr: sizes at max_len 10, then wrong outputs at lengths up to 256.

tracr is run beside us where `import tracr` works, each compiler in a process of its own; elsewhere its sizes are those
that were measured before, and the second table has our rows alone. Both compile with default settings and are held
against the interpreter of their own language on 15 inputs. A compilation that fails, or that takes longer than the
limit, ends the program's row for that compiler.
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

from rasp_contestants import CONTESTANTS, MEASURED_ELSEWHERE, TOLERANCE, VOCABULARIES, Size
from timing import machine

LENGTHS = (10, 20, 30, 64, 128, 256)
INPUTS = 15
MEMORY = 12 * 2**30
COMPILE_ROUNDS = 5


@dataclass(frozen=True)
class Outcome:
    """Of one program at one length: how many inputs came out wrong and the seconds to compile, or why neither."""

    wrong: int = 0
    seconds: float = math.nan
    error: float = 0.0
    refusal: str = ""

    def __str__(self) -> str:
        return self.refusal or f"{self.wrong:>2} {self.seconds:>6.2f}s"


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
