"""Programs read back from weights alone compute what the weights compute, on all inputs, or are refused."""

import itertools

import pytest
import torch

from microtome.lab import rasp, zoo
from microtome.lab.rasp.decompiler import DecompileError, decompile
from microtome.lab.rasp.library import examples

EXAMPLES = {example.name: example for example in examples()}
READ = (
    "length",
    "hist",
    "count",
    "parity",
    "shift_by",
    "double_letters",
    "first_occurrence",
    "sort",
    "frac_prevs",
    "pair_balance",
    "induct",
)


def compiled(name, max_len):
    example = EXAMPLES[name]
    vocab = tuple(example.vocab[:4])
    return rasp.compile(example.program, vocab=vocab, max_len=max_len, causal=example.causal), vocab


def check(model, found, vocab, max_len, sink, numeric):
    """The program's value is the model's largest logit, or its only one, on every input."""
    for n in range(1, max_len + 1):
        inputs = list(itertools.product(vocab, repeat=n))
        ids = [[*[0] * sink, *(vocab.index(x) + sink for x in tokens)] for tokens in inputs]
        with torch.no_grad():
            logits = model(torch.tensor(ids))[:, sink:]
        wanted = (logits[..., 0] if numeric else logits.argmax(-1)).tolist()
        for tokens, expected in zip(inputs, wanted, strict=True):
            values = rasp.evaluate(found, tokens, causal=model.blocks[0].attn.causal)
            assert values == pytest.approx(expected, abs=1e-5), tokens


@pytest.mark.parametrize("name", READ)
def test_a_program_of_the_library_comes_back_equivalent_on_all_inputs(name):
    program, vocab = compiled(name, 3)
    found = decompile(program.model, vocab=vocab, max_len=3)
    check(program.model, found, vocab, 3, program.sink, len(program.lowered.readout.forms) == 1)
    assert not set(rasp.language.topological(found)) & set(rasp.language.topological(program.program)) - {
        rasp.tokens,
        rasp.indices,
    }


def test_the_sink_is_seen_in_the_weights_and_ids_stand_for_themselves():
    program, _ = compiled("hist", 3)
    found = decompile(program.model)
    known = decompile(program.model, max_len=3)
    ids = program.encode([list(program.lowered.plan.setting.vocab[:3])])[0, program.sink :].tolist()
    assert rasp.evaluate(found, ids) == rasp.evaluate(known, ids)


def test_it_is_the_weights_that_are_read():
    program, vocab = compiled("shift_by", 3)
    with torch.no_grad():
        program.model.unembed.weight.copy_(program.model.unembed.weight.roll(1, 0))
        program.model.unembed.bias.copy_(program.model.unembed.bias.roll(1, 0))
    found = decompile(program.model, vocab=vocab, max_len=3)
    check(program.model, found, vocab, 3, program.sink, False)


def test_a_head_that_attends_softly_is_refused_by_name():
    program, vocab = compiled("shift_by", 3)
    with torch.no_grad():
        program.model.blocks[0].attn.q.weight.mul_(0.01)
        program.model.blocks[0].attn.q.bias.mul_(0.01)
    with pytest.raises(DecompileError, match=r"head 0\.0 "):
        decompile(program.model, vocab=vocab, max_len=3)


def test_values_that_never_meet_can_make_it_refuse():
    """Of an index at or beyond the length no input tells, but the tables list it."""
    program, vocab = compiled("reverse", 3)
    with pytest.raises(DecompileError, match=r"head 1\.0 shares its attention with the sink unevenly"):
        decompile(program.model, vocab=vocab, max_len=3)


def test_other_models_and_sizes_are_refused_in_a_sentence():
    program, vocab = compiled("shift_by", 3)
    with pytest.raises(DecompileError, match="takes inputs of"):
        decompile(program.model, vocab=vocab, max_len=9)
    with pytest.raises(DecompileError, match="does not fit an embedding"):
        decompile(program.model, vocab=tuple(range(99)), max_len=3)
    shape = {"d_model": 8, "n_layers": 1, "n_heads": 1, "n_ctx": 4, "stem": {"name": "tokens", "d_vocab": 3}}
    with pytest.raises(DecompileError, match="without norm"):
        decompile(zoo.sequence(position="learned", norm="layernorm", **shape))
