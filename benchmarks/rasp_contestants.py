"""The nine programs of the comparison, and the two compilers behind one face."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 1e-4
"""How far a number may be off before an output counts as wrong; ours must also keep to its certified error."""
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
