"""Write generations.json: an early and a converged generation of our own evolution, over which the trie is measured.

The objective is a sum of one random number per block and choice, plus noise of the same spread that is fixed for each
architecture: a validation score that half tells the truth. Nothing is trained: anyone gets the same file at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from imbnas.params.space_options import SpaceParams
from imbnas.search.archive import Archive, Score
from imbnas.search.methods import Field, evolution
from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space

SPACE = {
    "name": "shufflenet",
    "stem": {"channels": 16, "stride": 1},
    "stages": {"channels": [64, 160, 320, 640], "repeats": [4, 4, 8, 4], "strides": [1, 2, 2, 1]},
    "last_channels": 1024,
}
"""Single Path One-Shot at 32x32, as in presets/cifar10-lt.yaml."""
POPULATION, GENERATIONS, PARENTS, MUTATION = 50, 20, 10, 0.1
"""The published search (Guo et al. 2020)."""


def main() -> None:
    """Evolve and write generation 1, the first that is bred, and the last."""
    space = make_space(SpaceParams.model_validate(SPACE))
    worth = np.random.default_rng(0).normal(size=(len(space.choices), max(space.choices)))
    spread = float(np.sqrt(worth.var(axis=1).sum()))
    table = space.cost_table((32, 32, 3), 10)

    def scored(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Score]]:
        for architecture in architectures:
            truth = sum(worth[block, choice] for block, choice in enumerate(architecture))
            noise = stream(0, "noise", *architecture).normal(0.0, spread)
            yield architecture, Score(truth + noise)

    archive = Archive(scored, table.cost)
    evolution(
        Field(space, lambda architecture: True, space.sample),
        archive,
        population=POPULATION,
        generations=GENERATIONS,
        parents=PARENTS,
        mutation=MUTATION,
        seed=0,
    )
    bred: dict[int, list[Architecture]] = {}
    for entry in archive.entries.values():
        bred.setdefault(entry.generation, []).append(entry.architecture)
    lines = [f'"space": {json.dumps(SPACE)}']
    for name, generation in (("early", 1), ("converged", GENERATIONS - 1)):
        paths = ",\n  ".join(json.dumps(path) for path in bred[generation])
        lines.append(f'"{name}": [\n  {paths}\n ]')
    text = "{\n " + ",\n ".join(lines) + "\n}\n"
    Path(__file__).with_name("generations.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
