"""The Once-for-All space of MobileNetV3 (Cai et al. 2020, arXiv 1908.09791): elastic kernel, expansion and depth.

Five stages of two to four blocks; all of a supernet's forms of a block share one set of weights (`elastic`), so that
the published supernets can be read as they are (`ofa_names`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from imbnas.params.ofa_options import (
    DEPTHS,
    EXPANSIONS,
    HARD_SWISH,
    KERNELS,
    SQUEEZED,
    STRIDES,
    OfaChoices,
)
from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm, of_operation
from imbnas.spaces.chain import ChoiceBlockSpec
from imbnas.spaces.cost import Cost, Meter, Run, classifier, counting
from imbnas.spaces.elastic import Chosen, ElasticBlock, FeatureMix, MobileV3Block, chosen_state, inner_width
from imbnas.spaces.networks import Architecture, Subnet, Supernet
from imbnas.spaces.ofa_costs import WIDTH, TailCosts
from imbnas.spaces.space import META, SearchSpace

FORMS = tuple(itertools.product(KERNELS, EXPANSIONS))
"""The forms of a block, the expansion counting fastest."""
SKIP = len(FORMS)
"""The choice of a stage's third or fourth block that leaves it out, the fourth with the third."""


class OfaSupernet(Supernet):
    """One elastic block for each choice, `blocks.<i>.`; the other parts are those of all its networks."""

    def __init__(
        self, stem: nn.Module, blocks: Iterable[ElasticBlock], last: nn.Module, head: nn.Module, pool: nn.Module
    ) -> None:
        """Take the parts, whose channels must fit each other."""
        super().__init__(stem, [], last, head, pool)
        self.blocks = nn.ModuleList(blocks)

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules, stem to pooling; those of blocks share the supernet's weights."""
        modules: list[nn.Module] = []
        for block, choice in zip(self.blocks, architecture, strict=True):
            assert isinstance(block, ElasticBlock)
            modules.append(nn.Identity() if choice == SKIP else Chosen(block, *FORMS[choice]))
        return [self.stem, *modules, self.last, self.pool]

    def capturable_modules(self) -> list[tuple[nn.Module, str]]:
        """Return what is the same in all passes; blocks are not."""
        return [(part, "forward") for part in (self.stem, self.last, self.pool)]


class OfaSpace(SearchSpace):
    """Choices are kernel x expansion for each of four blocks in five stages, with `skip` last in the third and fourth.

    Nothing follows a skip: canonical is an architecture whose fourth block is left out where the third is.
    """

    name = "ofa-mobilenetv3"

    def __init__(self, options: OfaChoices) -> None:
        """Lay out the blocks."""
        self.options = options
        super().__init__(list(_places(options)), options.mixed)
        pairs = SKIP * (SKIP + 1) + 1
        self.size = (SKIP * SKIP * pairs) ** len(options.stages)

    # Which tuples are architectures

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with `skip` wherever it follows one."""
        chosen = list(architecture)
        for third in range(WIDTH - 2, len(chosen), WIDTH):
            if chosen[third] == SKIP:
                chosen[third + 1] = SKIP
        return tuple(chosen)

    # Networks

    def supernet_on_meta(self, num_classes: int, channels: int) -> OfaSupernet:
        """Return a supernet without memory for its weights."""
        with torch.device(META):
            return OfaSupernet(
                self._stem(channels), map(self._elastic, self._specs), self._last(), *self._end(num_classes)
            )

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights."""
        with torch.device(META):
            return Subnet(self._stem(channels), self._chosen(architecture), self._last(), *self._end(num_classes))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the last stage and the end are there twice."""
        with torch.device(META):
            trunk = self._chosen(architecture)[:-WIDTH]
            branches = [Branch(self._chosen(architecture)[-WIDTH:], self._last(), self._pool()) for _ in range(2)]
            head = nn.Linear(2 * self.num_features, num_classes)
            return BilateralSubnet(self._stem(channels), trunk, (branches[0], branches[1]), head)

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: parts of them, kernels mapped."""
        kept = {key: value for key, value in supernet_state.items() if not key.startswith("blocks.")}
        for place, choice in enumerate(self.canonical(self.check(architecture))):
            prefix = f"blocks.{place}."
            if choice == SKIP:
                continue
            own = {key.removeprefix(prefix): v for key, v in supernet_state.items() if key.startswith(prefix)}
            kept |= {f"{prefix}{key}": value for key, value in chosen_state(own, *FORMS[choice]).items()}
        return kept

    @property
    def _specs(self) -> list[ChoiceBlockSpec]:
        return [spec for spec in self.blocks if isinstance(spec, ChoiceBlockSpec)]

    def _elastic(self, spec: ChoiceBlockSpec) -> ElasticBlock:
        return ElasticBlock(
            spec.in_channels,
            spec.out_channels,
            spec.stride,
            _activation(spec.stage),
            squeeze=SQUEEZED[spec.stage - 1],
        )

    def _form(self, spec: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a block of one form, or the identity for `skip`."""
        if choice == SKIP:
            return of_operation(spec.choices[choice], nn.Identity())
        kernel, expansion = FORMS[choice]
        inner = inner_width(spec.in_channels, expansion)
        block = MobileV3Block(
            spec.in_channels,
            spec.out_channels,
            inner,
            kernel,
            spec.stride,
            _activation(spec.stage),
            squeeze=SQUEEZED[spec.stage - 1],
        )
        return of_operation(spec.choices[choice], block)

    def _chosen(self, architecture: Architecture) -> list[nn.Module]:
        chosen = zip(self._specs, self.canonical(architecture), strict=True)
        return [self._form(spec, choice) for spec, choice in chosen]

    def _stem(self, channels: int) -> nn.Sequential:
        """Return the first convolution and the block that all networks have."""
        stem, first = self.options.stem, self.options.first
        layers = conv_norm(channels, stem, 3, 2, activation=nn.Hardswish)
        return nn.Sequential(*layers, MobileV3Block(stem, first, stem, 3, 1, nn.ReLU, squeeze=False, expand=False))

    def _last(self) -> nn.Sequential:
        options = self.options
        return nn.Sequential(*conv_norm(options.stages[-1], options.expanded, 1, activation=nn.Hardswish))

    def _pool(self) -> FeatureMix:
        return FeatureMix(self.options.expanded, self.num_features)

    def _end(self, num_classes: int) -> tuple[nn.Linear, FeatureMix]:
        return nn.Linear(self.num_features, num_classes), self._pool()

    # Descriptions and costs

    def describe(self, architecture: Sequence[int]) -> list[str]:
        """Return a line per block, such as "stage 2 block 1: inverted 5x5 expansion 4, stride 2, 24 -> 40"."""
        chosen = self.canonical(self.check(architecture))
        return [
            f"{spec.label}: {spec.choices[choice]}, stride {spec.stride}, {spec.in_channels} -> {spec.out_channels}"
            for spec, choice in zip(self._specs, chosen, strict=True)
        ]

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> TailCosts:
        """Return the costs of all parts; the blocks of a stage behind its first are alike."""
        most = (SKIP - 1,) * len(self.blocks)
        network = self.subnet_on_meta(most, num_classes, image[2]).eval()
        rows: list[tuple[Cost, ...]] = []
        with meter(image) as (run, x):
            x, fixed = run(network.stem, x, "stem")
            for stage in range(len(self.options.stages)):
                first, second = self._specs[stage * WIDTH : stage * WIDTH + 2]
                x, begin = self._measured(run, first, x)
                _, others = self._measured(run, second, x)
                pairs = [one + other for one in others for other in (*others, Cost(0, 0))]
                rows += [begin, others, (*pairs, Cost(0, 0))]
            x, last = run(network.last, x, "last")
            fixed += last + classifier(run, network, x)
        return TailCosts(fixed, tuple(rows), SKIP)

    def _measured(self, run: Run, spec: ChoiceBlockSpec, x: Tensor) -> tuple[Tensor, tuple[Cost, ...]]:
        """Return a block's output and the cost of each of its forms."""
        with torch.device(META):
            forms = [self._form(spec, choice).eval() for choice in range(SKIP)]
        results = [run(form, x) for form in forms]
        return results[0][0], tuple(cost for _, cost in results)


def _activation(stage: int) -> type[nn.Module]:
    return nn.Hardswish if HARD_SWISH[stage - 1] else nn.ReLU


def _places(options: OfaChoices) -> Iterator[ChoiceBlockSpec]:
    """Yield the blocks with their shapes and choices."""
    names = tuple(f"inverted {kernel}x{kernel} expansion {expansion}" for kernel, expansion in FORMS)
    inputs = options.first
    for stage, (channels, stride) in enumerate(zip(options.stages, STRIDES, strict=True), 1):
        for place in range(1, max(DEPTHS) + 1):
            choices = names if place <= min(DEPTHS) else (*names, "skip")
            yield ChoiceBlockSpec(stage, place, inputs, channels, stride if place == 1 else 1, choices)
            inputs = channels
