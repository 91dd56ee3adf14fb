"""One training step of an in-context learner beside the usual way: `transformers`' GPT2Model under torch's Adam.

Both draw a fresh batch of 64 prompts of 41 points, run forward, backward and the optimiser. The peer is written as in
Garg et al. 2022: a linear map to GPT-2, a linear map off it, loss over the x positions, torch.optim.Adam as it comes.
Prints milliseconds and our share of the peer's time. Run: python benchmarks/train_step.py
"""

import warnings

import torch
from timing import machine, medians
from torch import nn
from transformers import GPT2Config, GPT2Model

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression

DIM, POINTS, BATCH = 20, 41, 64
SIZES = [{"d_model": 64, "n_layers": 3, "n_heads": 2}, {"d_model": 128, "n_layers": 6, "n_heads": 2}]


class Peer(nn.Module):
    """GPT-2 as an in-context learner."""

    def __init__(self, d_model: int, n_layers: int, n_heads: int):
        super().__init__()
        config = GPT2Config(
            n_positions=2 * POINTS,
            n_embd=d_model,
            n_layer=n_layers,
            n_head=n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
        self.read_in = nn.Linear(DIM + 1, d_model)
        self.backbone = GPT2Model(config)
        self.read_out = nn.Linear(d_model, 1)

    def forward(self, xs, ys):
        tokens = torch.zeros(len(xs), POINTS, 2, DIM + 1)
        tokens[:, :, 0, 1:], tokens[:, :, 1, 0] = xs, ys
        hidden = self.backbone(inputs_embeds=self.read_in(tokens.flatten(1, 2))).last_hidden_state
        return self.read_out(hidden)[:, ::2, 0]


def peer_step(size: dict):
    model = Peer(**size).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    task = LinearRegression(DIM)
    generator = torch.Generator().manual_seed(0)

    def step():
        prompt = task.sample(BATCH, POINTS, generator)
        optimizer.zero_grad()
        loss = (model(prompt.xs, prompt.ys) - prompt.ys).square().mean()
        loss.backward()
        optimizer.step()

    return step


def our_step(size: dict):
    mixer = {"name": "softmax", "fused_qkv": True}  # as GPT-2's c_attn
    model = zoo.sequence(dim=DIM, n_ctx=2 * POINTS, mixer=mixer, **size).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    objective = InContextRegression(LinearRegression(DIM), BATCH, POINTS)
    generator = torch.Generator().manual_seed(0)

    def step():
        batch = objective.batch(0, generator)
        optimizer.zero_grad(set_to_none=True)
        objective.loss(model, batch).backward()
        optimizer.step()

    return step


def main() -> None:
    warnings.filterwarnings("ignore")
    print(f"training step, batch {BATCH}, {2 * POINTS} positions, prompts drawn included; {machine()}")
    for size in SIZES:
        ms = medians({"GPT2Model + Adam": peer_step(size), "microtome": our_step(size)})
        ratio = ms["microtome"] / ms["GPT2Model + Adam"]
        shape = ", ".join(f"{k}={v}" for k, v in size.items())
        print(f"{shape}: " + ", ".join(f"{k} {v:.1f} ms" for k, v in ms.items()) + f", ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
