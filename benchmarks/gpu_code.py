"""What every Triton kernel of the house takes of a GPU: registers, spills and shared memory for sm_80 and sm_90.

Compiled ahead of time, without a GPU, so that nothing here is a speed. Run: python benchmarks/gpu_code.py [word …]
A word keeps the kernels whose module or function contains it.
"""

import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from microtome.kernels.ahead_of_time import SHARED_MEMORY, TYPES, Compiled, Variant, compile_for, discover

BATCH = 8  # kernels a child process, so that progress shows


def row(compiled: Compiled) -> list[str]:
    variant = compiled.variant
    return [
        variant.kernel.removeprefix("microtome.kernels."),
        TYPES.get(variant.dtype, ""),
        "" if variant.head_dim is None else str(variant.head_dim),
        f"sm_{compiled.target}",
        str(variant.num_warps),
        str(variant.num_stages),
        str(compiled.registers),
        str(compiled.spilled),
        f"{compiled.shared / 1024:.1f}" + ("" if compiled.fits else " too much"),
        str(compiled.ptx.count("\n")),
    ]


def chosen(words: list[str]) -> list[Variant]:
    return [v for v in discover() if not words or any(word in v.kernel for word in words)]


def main() -> None:
    variants = chosen(sys.argv[1:])
    table = Table(
        "kernel", "dtype", "head dim", "target", "warps", "stages", "registers", "spilled B", "shared KiB", "PTX lines"
    )
    jobs = [(variants[i : i + BATCH], target) for i in range(0, len(variants), BATCH) for target in SHARED_MEMORY]
    compiled = [c for job in track(jobs, "compiling", console=Console(stderr=True)) for c in compile_for(*job)]
    for c in compiled:
        table.add_row(*row(c))
    Console(width=160 if not sys.stdout.isatty() else None).print(table)
    spilling, too_large = sum(c.spilled > 0 for c in compiled), sum(not c.fits for c in compiled)
    print(f"{len(compiled)} compiled; {spilling} spill; {too_large} ask for too much shared memory")


if __name__ == "__main__":
    main()
