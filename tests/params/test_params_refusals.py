"""Wrong parameters: refused, and told in one line that names file, dotted parameter, what was found and expected."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from params_trees import DEFAULT, FREE, OTHERS, altered, default_tree, leaves

from imbnas.errors import UserError
from imbnas.params.config import load, parse
from imbnas.params.reading import read


def complaint(tree: Any) -> str:
    with pytest.raises(UserError) as raised:
        parse(tree, "p.yaml")
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith("p.yaml: ")
    return line.removeprefix("p.yaml: ")


CELLS = {
    "space.name": "darts",
    "supernet.sampling": "mixture",
    "adapt.sampling": "mixture",
    "search.method": "darts",
    "search.max_macs": None,
}
# A single-stage search.
MIXTURE: dict[str, Any] = {
    "space.name": "nasbench201",
    "space.last_channels": None,
    "supernet.sampling": "uniform",
    "adapt.sampling": "uniform",
    "adapt.strategy": "scratch",
    "search.method": "darts",
    "search.max_macs": None,
    "search.darts.outcome": "mixture",
    "retrain.init": "handed",
    "retrain.finetune.epochs": 0,
    "retrain.references": False,
}
ONE_LEVEL = {
    "search.darts.optimization": "one-level",
    "search.darts.relaxation": "sigmoid",
    "search.darts.pruning.per_epoch": 4,
}
BENCHMARK = {
    "space.name": "nasbench201",
    "space.last_channels": None,
    "search.method": "darts",
    "search.max_macs": None,
}
FIXED = {"search.method": "fixed", "search.architecture": [0] * 6, "target.validation.per_class": 0}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("dotted", "value", "line"),
    [
        ("retrain.epoch", 3, "retrain.epoch: unknown parameter, did you mean epochs?"),
        ("sed", 3, "sed: unknown parameter, did you mean seed?"),
        (
            "space.stem.foo",
            3,
            "space.stem.foo: unknown parameter, expected one of channels, stride",
        ),
        ("target.validation.from_", "reserve", "target.validation.from_: unknown parameter, did you mean from?"),
        ("retrain.a\nb", 1, None),
        ("seed", "0", "seed: found text '0', expected a whole number; to YAML that is text, write 0"),
        ("seed", 1.0, "seed: found 1.0, expected a whole number"),
        ("seed", True, "seed: found true, expected a whole number"),
        ("seed", None, "seed: found null, expected a whole number"),
        ("seed", -1, "seed: found -1, expected a number of at least 0"),
        ("seed", 2**31, "seed: found 2147483648, expected a number below 2147483648"),
        ("imbalance.seed", 2**32, "imbalance.seed: found 4294967296, expected a number below 4294967296"),
        ("imbalance.ratio", 0, "imbalance.ratio: found 0, expected a number above 0"),
        ("imbalance.ratio", -20.0, "imbalance.ratio: found -20.0, expected a number above 0"),
        ("imbalance.ratio", True, "imbalance.ratio: found true, expected a number"),
        ("imbalance.ratio", NAN, "imbalance.ratio: found NaN, expected a finite number"),
        ("imbalance.ratio", INF, "imbalance.ratio: found Infinity, expected a finite number"),
        ("evaluate.confidence", NAN, "evaluate.confidence: found NaN, expected a finite number"),
        ("retrain.weighting.beta", 1.0, "retrain.weighting.beta: found 1.0, expected a number below 1"),
        ("search.mutation", 1.5, "search.mutation: found 1.5, expected a number of at most 1"),
        ("runtime.state_interval", -INF, "runtime.state_interval: found -Infinity, expected a finite number"),
        (
            "retrain.optimizer.lr",
            "1e-3",
            "retrain.optimizer.lr: found text '1e-3', expected a number; to YAML that is text, write 0.001",
        ),
        (
            "retrain.optimizer.lr",
            "1e-5",
            "retrain.optimizer.lr: found text '1e-5', expected a number; to YAML that is text, write 1.0e-05",
        ),
        ("retrain.optimizer.lr", "nan", "retrain.optimizer.lr: found text 'nan', expected a number"),
        (
            "retrain.epochs",
            "1e2",
            "retrain.epochs: found text '1e2', expected a whole number; to YAML that is text, write 100",
        ),
        ("retrain.epochs", "1.5", "retrain.epochs: found text '1.5', expected a whole number"),
        *(
            (
                "search.max_macs",
                value,
                f"search.max_macs: found {text}, expected a whole number or a share of the largest up to 1, "
                "such as 0.6x",
            )
            for value, text in [
                ("0.6", "text '0.6'"),
                ("60%", "text '60%'"),
                ("1.5x", "text '1.5x'"),
                ("0x", "text '0x'"),
                ("0.6X", "text '0.6X'"),
                (0.6, "0.6"),
                (True, "true"),
            ]
        ),
        (
            "search.max_params",
            0,
            "search.max_params: found 0, expected a number above 0 or a share of the largest up to 1, such as 0.6x",
        ),
        ("runtime.channels_last", 1, "runtime.channels_last: found 1, expected true or false or tiled"),
        ("source.root", 3, "source.root: found 3, expected text"),
        ("space", [1], "space: found [1], expected a mapping of parameters"),
        ("space.stem", None, "space.stem: found null, expected a mapping of parameters"),
        ("space.stages.channels", 16, "space.stages.channels: found 16, expected a list"),
        ("space.stages.strides", [1, 3, 2], "space.stages.strides[1]: found 3, expected 1 or 2"),
        ("search.architecture", [0, "a"], "search.architecture[1]: found text 'a', expected a whole number"),
        ("search.architecture", "0", "search.architecture: found text '0', expected a list"),
        (
            "target.validation.from",
            "test",
            "target.validation.from: found text 'test', expected reserve, longtail or published",
        ),
        ("target.channels", 2, "target.channels: found 2, expected 1 or 3"),
        ("retrain.augment.pad", -1, "retrain.augment.pad: found -1, expected auto or a number of at least 0"),
        ("retrain.augment.pad", "x", "retrain.augment.pad: found text 'x', expected auto or a whole number"),
        ("retrain.augment.pad", [1], "retrain.augment.pad: found [1], expected auto or a whole number"),
        ("adapt.head.augment.flip", 1, "adapt.head.augment.flip: found 1, expected auto or true or false"),
        ("study.axes", ["seed"], 'study.axes: found ["seed"], expected a mapping'),
        ("study.axes", {"seed": 3}, "study.axes.seed: found 3, expected a list"),
        ("study.axes", {"seed": []}, "study.axes.seed is [], expected at least one value and none twice"),
        ("study.axes", {"seed": [1, 1]}, "study.axes.seed is [1, 1], expected at least one value and none twice"),
        ("study.axes", {"study.axes": [{}]}, "study.axes.study.axes is given, expected a parameter outside the study"),
        ("source.root", "datasets/digits/", "source.root: found datasets/digits/, expected it spelt datasets/digits"),
        ("source.root", "./digits", "source.root: found ./digits, expected it spelt digits"),
        ("target.root", "", "target.root: found '', expected a directory of the dataset's own, as in datasets/cifar10"),
        (
            "target.root",
            ".",
            "target.root: found '.', expected a directory of the dataset's own, as in datasets/cifar10",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_line(dotted: str, value: object, line: str | None) -> None:
    found = complaint(altered(dotted, value))
    assert line is None or found == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"source.share": 1.0},
            "source.share is 1.0 and source and target are both digits, expected a share below 1 that leaves rows for "
            "the target",
        ),
        (
            # A published dataset is the same in whatever directory it lies.
            {"source.share": 1.0, "source.root": "datasets/copy"},
            "source.share is 1.0 and source and target are both digits, expected a share below 1 that leaves rows for "
            "the target",
        ),
        (
            {"target.splits.train": "train"},
            "target.splits.train is set for digits, expected null: only folder and list",
        ),
        (
            {"source.dataset": "folder", "source.splits.test": "test"},
            "source.splits.test is set, expected null: the source takes all its rows from splits.train",
        ),
        (
            {"target.dataset": "list", "target.image_size": 32},
            "target.splits.train is null for a list dataset, expected",
        ),
        (
            {"target.dataset": "folder", "target.root": "photos", "target.image_size": 64},
            "source.dataset is digits with target.dataset folder and supernet.epochs 40, expected images like the "
            "target's: source.dataset: folder with source.root: photos takes source.share of the target's own, another "
            "dataset takes none of them, and supernet.epochs: 0 trains nothing on the source",
        ),
        (
            {
                "target.dataset": "list",
                "target.root": "photos",
                "target.image_size": 64,
                "target.splits.train": "train.txt",
            },
            "source.dataset is digits with target.dataset list and supernet.epochs 40, expected images like the "
            "target's: source.dataset: list with source.root: photos (and splits.train: train.txt) takes",
        ),
        ({"target.resize": "pad"}, "target.resize is pad for digits, expected auto: only folder and list take it"),
        ({"source.exif_rotation": False}, "source.exif_rotation is false for digits, expected true: arrays are never"),
        ({"target.dataset": "folder"}, "target.image_size is null for folder, expected a number of pixels"),
        ({"source.download": True}, "source.download is true for digits, expected false: there is nothing to download"),
        (
            {"target.validation.from": "published"},
            "target.validation.from is published and splits.validation is null, expected a name there if and only if",
        ),
        ({"imbalance.profile": "counts"}, "imbalance.profile is counts and counts is null, expected a file for counts"),
        ({"imbalance.counts": "c.txt"}, "imbalance.profile is exponential and counts is text 'c.txt', expected a file"),
        (
            {"search.method": "fixed"},
            "search.method is fixed and search.architecture is null, expected its choices, one per block, because the "
            "space shufflenet has more than one architecture",
        ),
        (
            {"search.architecture": [0, 0, 0, 0, 0, 0]},
            "search.method is evolution and architecture is [0, 0, 0, 0, 0, 0], expected choices for fixed only",
        ),
        (
            {"space.name": "resnet", "space.stages.channels": [16, 8, 64]},
            "space.stem.channels and stages.channels are [16, 16, 8, 64], expected widths that never fall",
        ),
        (
            {"space.name": "resnet", "search.max_macs": "0.7x"},
            "search.max_macs is 0.7x in a space (resnet) with one architecture, expected null, a number or 1x",
        ),
        ({"search.population": 20, "search.parents": 21}, "search.parents is 21, expected at most population (20)"),
        (
            {"retrain.schedule.name": "step", "retrain.schedule.milestones": []},
            "retrain.schedule.name is step with milestones [], expected both for step",
        ),
        (
            {"retrain.schedule.name": "step", "retrain.schedule.milestones": [0.9, 0.8]},
            "retrain.schedule.milestones are [0.9, 0.8], expected ascending fractions",
        ),
        (
            {"supernet.optimizer.momentum": 0.0},
            "supernet.optimizer.nesterov is true with momentum 0, expected a momentum",
        ),
        (
            {"space.stages": {"channels": [8, 8, 8], "repeats": [1], "strides": [1, 1, 1]}},
            "space.stages.channels, repeats and strides have 3, 1 and 3 entries, expected",
        ),
        (
            {"space.stem.channels": 15},
            "space.stem.channels and stages.channels hold odd widths [15], expected even ones",
        ),
        ({"space.shufflenet.choices": []}, "space.shufflenet.choices are [], expected at least one and none twice"),
        (
            {"evaluate.thresholds.many": 19},
            "evaluate.thresholds.many is 19 and few is 20, expected many at least as large as few",
        ),
        ({"evaluate.logit_adjustment": -0.5}, "evaluate.logit_adjustment: found -0.5, expected a number of at least 0"),
        (
            {"evaluate.logit_adjustment": 1.0},
            "evaluate.logit_adjustment is 1.0 with retrain.loss effective-number, expected 0.0: both together correct "
            "the class frequencies twice, as the logit-adjustment loss and post-hoc adjustment do",
        ),
        (
            {"evaluate.logit_adjustment": 1.0e-9, "retrain.loss": "inverse-frequency"},
            "evaluate.logit_adjustment is 1e-09 with retrain.loss inverse-frequency, expected 0.0",
        ),
        (
            {"search.method": "fixed", "search.architecture": [0, 1]},
            "search.architecture has 2 choices, expected 6, one per block",
        ),
        (
            {"search.method": "fixed", "search.architecture": [0, 1, 2, 3, 9, 0]},
            "search.architecture: choice 5 is 9, expected at most 3",
        ),
        (
            {
                "space.name": "nasbench201",
                "space.last_channels": None,
                "adapt.feature_cache.paths": 0,
                "search.method": "fixed",
                "search.architecture": [3, 3, 3, 0, 0, 0],
            },
            "search.architecture is 3-3-3-0-0-0, a cell without a way from its input to its output, expected a "
            "connected one",
        ),
        (
            {"adapt.feature_cache.paths": 6},
            "adapt.feature_cache.paths is 6, expected a multiple of 4, the paths of one step with adapt.sampling fair",
        ),
        (
            {"retrain.augment.crop": "none", "retrain.augment.pad": 5},
            "retrain.augment.pad is 5 with crop none, expected auto: only the crop pad uses it",
        ),
        (
            {"adapt.head.augment.pad": 5, "target.dataset": "folder", "target.image_size": 32, "supernet.epochs": 0},
            "adapt.head.augment.pad is 5 and crop auto is resized for folder, expected auto, or crop pad",
        ),
        (
            {"adapt.sampler": {"name": "class-aware", "length": "longest", "defer": 0.5}},
            "adapt.sampler.length is longest with defer 0.5, expected natural, or defer 0",
        ),
        (
            {**CELLS, "adapt.strategy": "head", "search.darts.order": "second"},
            "search.darts.order is second with adapt.strategy head, whose weights stay as they are; expected",
        ),
        (
            {
                **BENCHMARK,
                "adapt.strategy": "scratch",
                "search.darts.branches": "bilateral",
                "retrain.init": "handed",
            },
            "retrain.init is handed with search.darts.branches bilateral, expected scratch, or one branch",
        ),
        ({**BENCHMARK, "search.darts.edge_weights": True}, "search.darts.edge_weights is set in the space nasbench201"),
        (
            {**CELLS, "adapt.strategy": "head", "search.darts.order": "zeroth"},
            "search.darts.order is zeroth with adapt.strategy head, whose weights stay as they are; expected",
        ),
        (
            {**CELLS, "adapt.strategy": "scratch", "search.darts.order": "zeroth", "runtime.precision": "bf16"},
            "runtime.precision is bf16 with search.darts.order zeroth, expected fp32",
        ),
        (
            {"search.darts.order": "zeroth", "search.darts.collapse.perturbation": "random"},
            "search.darts.collapse.perturbation is random with order zeroth, expected none",
        ),
        (
            {**CELLS, "adapt.strategy": "scratch", "search.darts.architecture.loss": "ldam"},
            "search.darts.architecture.loss is ldam on a head that is linear (adapt.classifier.name, with",
        ),
        (
            {**CELLS, "adapt.strategy": "head", "search.darts.collapse.perturbation": "random"},
            "search.darts.collapse.perturbation is random with adapt.strategy head, whose weights stay",
        ),
        (
            {**CELLS, "adapt.strategy": "scratch", "search.darts.loss": "ldam"},
            "search.darts.loss is ldam on a head that is linear (adapt.classifier.name, with adapt.strategy scratch), "
            "expected a cosine one",
        ),
        ({**MIXTURE, "space.name": "shufflenet"}, "search.method is darts in the space shufflenet"),
        ({**MIXTURE, **CELLS}, "search.darts.outcome is mixture in the space darts, expected cell, or the space nas"),
        (
            {**MIXTURE, "adapt.strategy": "head"},
            "search.darts.outcome is mixture with adapt.strategy head, whose weights stay as they are",
        ),
        (
            {**MIXTURE, "search.darts.outcome": "cell", "adapt.strategy": "head", "search.darts.split": "redrawn"},
            "search.darts.split is redrawn with adapt.strategy head, whose weights stay as they are",
        ),
        *(
            (
                {**MIXTURE, **ONE_LEVEL, **{f"search.darts.{name}": value for name, value in changes.items()}},
                f"search.darts.{message}",
            )
            for changes, message in (
                ({"order": "second"}, "order is second with optimization one-level, expected first: there is no lower"),
                ({"split": "redrawn"}, "split is redrawn with optimization one-level, expected fixed: all rows"),
                (
                    {"architecture.sampler": "class-balanced"},
                    "architecture.sampler is class-balanced with optimization one-level, expected same",
                ),
                (
                    {"architecture.loss": "focal"},
                    "architecture.loss is focal with optimization one-level, expected same",
                ),
                (
                    {"relaxation": "softmax", "pruning.per_epoch": 0, "collapse.perturbation": "random"},
                    "collapse.perturbation is random with optimization one-level, expected none",
                ),
                (
                    {"relaxation": "sparsemax"},
                    "relaxation is sparsemax with pruning.per_epoch above 0, expected sigmoid",
                ),
                (
                    {"optimization": "bilevel"},
                    "pruning.per_epoch is 4 with optimization bilevel, expected 0, or one-level",
                ),
                ({"pruning.threshold": 0.005}, "pruning.least is 0.01, expected at most the threshold of 0.005"),
                ({"pruning.keep": 24}, "pruning.keep is 24, expected fewer than the 24 operations of a cell"),
            )
        ),
        (
            {**CELLS, "adapt.strategy": "scratch", **ONE_LEVEL},
            "space.darts.operations has none with search.darts.pruning.per_epoch above 0, expected it without",
        ),
        (
            {**CELLS, "adapt.strategy": "head", "search.darts.optimization": "one-level"},
            "search.darts.optimization is one-level with adapt.strategy head, whose weights stay as they are",
        ),
        ({**MIXTURE, "search.darts.epochs": 1}, "search.darts.epochs is 1 with outcome mixture and freeze 0.5"),
        (
            {**MIXTURE, "search.darts.architecture.warmup": 25},
            "search.darts.architecture.warmup is 25 with outcome mix",
        ),
        (
            {**MIXTURE, "search.darts.branches": "bilateral"},
            "search.darts.branches is bilateral with outcome mixture, expected one: the search network is the final",
        ),
        (
            {**MIXTURE, "search.darts.collapse": {"eigenvalue_rows": 8, "stop_ratio": 1.3}},
            "search.darts.collapse.stop_ratio is 1.3 with outcome mixture, expected 0",
        ),
        (
            {**MIXTURE, "search.darts.cost": {"name": "macs", "upper": "0.5x"}},
            "search.darts.cost.name is macs with outcome mixture, expected none",
        ),
        (
            {"search.darts.cost": {"name": "params"}},
            "search.darts.cost.name is params with lower null and upper null, expected at least one bound",
        ),
        (
            {"search.darts.cost": {"upper": "0.5x"}},
            "search.darts.cost.name is none with lower null and upper 0.5x, expected null, or macs or params to bound",
        ),
        (
            {"search.darts.cost": {"name": "macs", "lower": "0.5x", "upper": "0.4x"}},
            "search.darts.cost.lower is 0.5x and upper is 0.4x, expected at most upper",
        ),
        (
            {"search.darts.cost": {"name": "macs", "upper": "0.4x", "start": 50}},
            "search.darts.cost.start is 50, expected less than the 50 epochs in which the architecture learns",
        ),
        (
            {**MIXTURE, "retrain.init": "scratch"},
            "retrain.init is scratch, expected handed with search.darts.outcome mixture: a mixture is taken as",
        ),
        (
            {"search.shifting.updates": 1, "search.method": "random"},
            "search.shifting.updates is 1 with method random, expected 0, or evolution: the supernet moves after",
        ),
        (
            {"search.shifting.updates": 1, "search.table": "tables/t.csv"},
            "search.shifting.updates is 1 with table tables/t.csv, expected 0: the supernet is not looked at",
        ),
        (
            {"search.shifting.updates": 1, "search.shifting.loss": "ldam"},
            "search.shifting.loss is ldam on a head that is linear (adapt.head.name, with adapt.strategy head), ",
        ),
        (
            {"search.shifting.updates": 1, "adapt.head.name": "ncm"},
            "search.shifting.updates is 1 with adapt.head.name ncm, expected 0, or another head: features would move",
        ),
        (
            {**MIXTURE, "retrain.distill.teacher": "largest"},
            "retrain.distill.teacher is largest, expected none with search.darts.outcome mixture",
        ),
        (
            {**MIXTURE, "retrain.finetune.epochs": 12},
            "retrain.finetune.epochs is 12, expected 0 with search.darts.outc",
        ),
        (
            {**MIXTURE, "retrain.references": True},
            "retrain.references is 1 random ones and the largest, expected false with search.darts.outcome mixture",
        ),
        (
            {**MIXTURE, "search.darts.loss": "balanced-softmax", "evaluate.logit_adjustment": 1.0},
            "evaluate.logit_adjustment is 1.0 with search.darts.loss balanced-softmax, expected 0.0",
        ),
        (
            {
                **MIXTURE,
                **{"search.darts.loss": "balanced-softmax", "retrain.loss": "ce"},
                **{"retrain.head.name": "logit-adjustment", "retrain.head.tau": 1.0},
            },
            "retrain.head.name is logit-adjustment with search.darts.loss balanced-softmax, expected a search with",
        ),
        (
            {"target.validation.per_class": 0},
            "target.validation.per_class is 0 with search.method evolution (fixed needs none), expected more",
        ),
        (
            {**FIXED, "retrain.loss": "ce", "retrain.head.name": "tau-norm"},
            "target.validation.per_class is 0 with retrain.head.tau auto, expected more",
        ),
        (
            {**FIXED, "retrain.rows": "train+validation"},
            "target.validation.per_class is 0 with retrain.rows train+validation, expected more",
        ),
        (
            {"retrain.rows": "all"},
            "retrain.rows is all with imbalance.profile exponential, expected natural, or rows train+validation",
        ),
        (
            {"retrain.rows": "all", "imbalance.profile": "natural", "source.dataset": "mnist"},
            "retrain.rows is all with source.dataset mnist and target.dataset digits, which are other images",
        ),
        (
            {
                **{"retrain.rows": "all", "imbalance.profile": "natural", "target.image_size": 32},
                **{f"{section}.dataset": "folder" for section in ("source", "target")},
                "target.resize": "pad",
            },
            "source.resize is auto and target.resize is pad with retrain.rows all, expected the same",
        ),
        ({"space.stem.stride": True}, "space.stem.stride is true, expected one of 1, 2"),
        ({"space.stages.strides": [1, 2, True]}, "space.stages.strides is [1, 2, true], expected one of 1, 2"),
        ({"target.channels": True}, "target.channels is true, expected one of 1, 3"),
        ({"runtime.gpu_share": 0}, "runtime.gpu_share: found 0, expected a number above 0"),
        ({"runtime.together": 0}, "runtime.together: found 0, expected auto or a number above 0"),
        (
            {"runtime.together": 4, "runtime.processes": 2},
            "runtime.together is 4 with processes 2, expected auto or 1: trainings in several processes come one after "
            "the other",
        ),
        (
            {"runtime.gpu_share": 0.5, "runtime.processes": 2},
            "runtime.gpu_share is 0.5 with processes 2, expected 1: the processes of a training have a whole GPU each",
        ),
        (
            {"supernet.passes": "together", "space.name": "mobile"},
            "supernet.passes is together in the space mobile, expected separate: only the blocks of shufflenet and "
            "nasbench201 have equally many choices, each served by one path of a step",
        ),
        (
            {
                "supernet.passes": "together",
                "space.name": "nasbench201",
                "space.last_channels": None,
                "space.nasbench201": {"per_stage": True},
                "search.method": "random",
            },
            "supernet.passes is together with space.nasbench201.per_stage true, expected separate, or per_stage false",
        ),
        (
            {"supernet.passes": "together", "supernet.sampling": "uniform"},
            "supernet.passes is together with supernet.sampling uniform, expected separate, or sampling fair",
        ),
        (
            {"adapt.passes": "together", "runtime.processes": 2},
            "adapt.passes is together with runtime.processes 2, expected separate, or one process",
        ),
        (
            {"adapt.passes": "together", "adapt.strategy": "finetune"},
            "adapt.passes is together with strategy finetune, expected separate, or strategy head without a cache",
        ),
        (
            {"adapt.passes": "together", "adapt.feature_cache.paths": 8},
            "adapt.passes is together with a feature cache, expected separate, or strategy head without a cache",
        ),
        ({"runtime.memory": 1.0e300}, "runtime.memory: found 1e+300, expected a number of at most 1.04858e+06"),
        ({"imbalance.n_max": 2**70}, "imbalance.n_max: found 1180591620717411303424, expected a number below"),
        ({"evaluate.bins": 1001}, "evaluate.bins: found 1001, expected a number of at most 1000"),
        (
            {"study.axes": {"adapt": [{"strategy": "head"}], "adapt.strategy": ["head", "scratch"]}},
            "study.axes.adapt.strategy sets adapt.strategy and axes.adapt sets adapt.strategy, expected one axis for",
        ),
        ({"space.mobile.kernels": [3, 3]}, "space.mobile.kernels are [3, 3], expected at least one and none twice"),
    ],
)
def test_contradictions_name_their_parameters(changes: dict[str, Any], line: str) -> None:
    tree = default_tree()
    for dotted, value in changes.items():
        tree = altered(dotted, value, tree)
    assert complaint(tree).startswith(line)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapt.feature_cache.paths": 8},
        {"adapt.feature_cache.paths": 3, "adapt.sampling": "uniform"},
        {"retrain.augment.pad": 5},
        {"supernet.augment.pad": 5, "target.dataset": "folder", "target.image_size": 32, "source.dataset": "mnist"},
        {"adapt.sampler": {"name": "class-aware", "length": "longest", "defer": 0.0}},
        {**CELLS, "adapt.strategy": "finetune", "search.darts.order": "second"},
        {**CELLS, "adapt.strategy": "scratch", "adapt.loss": "ldam", "search.darts.loss": "ldam"},
        {**CELLS, "target.validation.per_class": 0},
        MIXTURE,
        {**MIXTURE, "evaluate.logit_adjustment": 1.0},
        {**MIXTURE, "retrain.loss": "ce", "retrain.head.name": "tau-norm"},
        FIXED,
        {**FIXED, "retrain.loss": "ce", "retrain.head.name": "tau-norm", "retrain.head.tau": 0.5},
        {"retrain.augment.flip": True, "search.max_macs": 2**40},
        {"search.max_macs": "0.6x", "search.max_params": "1x"},
        {"search.max_macs": ".75x", "search.max_params": "1.0x"},
        {"study.axes": {"adapt": [{"strategy": "head"}], "adapt.loss": ["ce", "ldam"]}},
    ],
)
def test_what_only_looks_like_a_contradiction_is_taken(changes: dict[str, Any]) -> None:
    tree = default_tree()
    for dotted, value in changes.items():
        tree = altered(dotted, value, tree)
    if "adapt.loss" in changes or "study.axes" in changes:
        tree["adapt"]["head"]["name"] = "cosine"
    parse(tree, "p.yaml")


def test_logits_of_plain_cross_entropy_may_be_adjusted() -> None:
    tree = altered("retrain.loss", "ce", altered("evaluate.logit_adjustment", 1.5))
    assert parse(tree, "p.yaml").evaluate.logit_adjustment == 1.5
    assert parse(altered("evaluate.logit_adjustment", 0.0), "p.yaml").retrain.loss == "effective-number"


def test_two_folders_with_the_same_root_are_the_same_images() -> None:
    tree = altered("source.share", 1.0)
    for section in ("source", "target"):
        tree[section] |= {"dataset": "folder", "root": f"datasets/{section}"}
    tree["target"]["image_size"] = 32
    parse(tree, "p.yaml")
    tree["source"]["root"] = tree["target"]["root"]
    assert complaint(tree).startswith("source.share is 1.0 and source and target are both folder")
    # Other directories below it are other images, unless their contents tell otherwise.
    tree["target"]["splits"] = {"train": "tail"}
    parse(tree, "p.yaml")


def test_a_misspelt_name_is_not_taken_for_a_default() -> None:
    assert complaint(altered("retrain.epoch", 3)) == "retrain.epoch: unknown parameter, did you mean epochs?"


@pytest.mark.parametrize("dotted", [name for name, value in leaves(default_tree()) if name not in FREE])
def test_no_leaf_accepts_a_mapping(dotted: str) -> None:
    assert complaint(altered(dotted, {"int": 1})).startswith(f'{dotted}: found {{"int": 1}}, expected ')


@pytest.mark.parametrize("dotted", OTHERS)
def test_pydantic_s_own_words_stay_inside(dotted: str) -> None:
    line = complaint(altered(dotted, ["!"]))
    assert "nput" not in line
    assert "constrained" not in line
    assert "literal" not in line


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        (None, "found nothing, expected a mapping of sections"),
        ([1, 2], "found [1, 2], expected a mapping of sections"),
        ({(1, 2): 3}, "not plain data: keys must be str"),
        ({"seed": b"0"}, "not plain data: found b'0' of type bytes; expected text, numbers, lists and mappings"),
    ],
)
def test_what_is_no_tree_of_plain_data_is_refused(tree: Any, line: str) -> None:
    assert complaint(tree).startswith(line)


BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (k, k, b",".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 11)
)
MERGES = b"a0: &a0 {k: v}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (k, k, b",".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 11)
)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("p.yaml", b"seed: 0\nspace: {}\nseed: 1\n", "line 3: seed is given twice, expected once"),
        ("p.yaml", b"space:\n  stem: {channels: 16, channels: 32}\n", "line 2: channels is given twice, expected once"),
        ("p.json", b'{"seed": 0, "seed": 1}', "seed is given twice, expected once"),
        ("p.yaml", b"seed: [\n", "not valid YAML: "),
        ("p.yaml", b"seed: 2026-13-45\n", "not valid YAML: "),
        ("p.yaml", b"seed: 2026-01-02\n", "not plain data: found 2026-01-02 of type date; expected"),
        ("p.yaml", b"? [a, b]\n: 1\n", "not valid YAML: "),
        ("p.yaml", b"a: &a [*a]\n", "line 1: an alias of what it stands in, expected"),
        ("p.yaml", b"[" * 5000, "line 1: more than 32 levels, expected"),
        ("p.yaml", b"a:\n" + b"- 1\n" * 20_000, "line 9999: the 10,001th value, expected at most 10,000"),
        ("p.yaml", BOMB, "line 5: its aliases stand for 66,430 values of 59,049 characters, expected at most 10,000 "),
        ("p.yaml", MERGES, "line 5: its aliases stand for 22,141 values of 14,760 characters, expected"),
        (
            "p.yaml",
            b"seed: 0\na: 010\n",
            "line 2: 010 is 8 to YAML 1.1 (octal, by its leading zero), expected a plain ",
        ),
        (
            "p.yaml",
            b"a: -010\n",
            "line 1: -010 is -8 to YAML 1.1 (octal, by its leading zero), expected a plain number; ",
        ),
        (
            "p.yaml",
            b"a: [1:30]\n",
            "line 1: 1:30 is 90 to YAML 1.1 (in base 60, by its colon), expected a plain number",
        ),
        ("p.yaml", b"a: 1:30.5\n", "line 1: 1:30.5 is 90.5 to YAML 1.1 (in base 60, by its colon), expected a plain "),
        ("p.yaml", b"010: 1\n", "line 1: 010 is 8 to YAML 1.1"),
        ("p.json", b'{"seed": ' + b"[" * 300 + b"]" * 300 + b"}", "not plain data: recursion limit exceeded"),
        ("p.json", b'{"seed": "\\ud800"}', "not plain data: "),
        ("p.yaml", b"seed: \xff\n", "not UTF-8 text, expected a parameter file"),
        ("p.yaml", b"", "found nothing, expected a mapping of sections"),
        ("p.json", b"{", "not valid JSON: "),
        ("p.json", b"[" * 100000, "not valid JSON: "),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}: {line}")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: No such file or directory, expected a parameter file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="Is a directory, expected a parameter file"):
        load(tmp_path)


def test_the_yaml_1_1_trap_is_met_in_a_real_file(tmp_path: Path) -> None:
    text = DEFAULT.read_text(encoding="utf-8")
    file = tmp_path / "params.yaml"
    file.write_text(re.sub(r"weight_decay: [^\s}]+", "weight_decay: 5e-4", text, count=1), encoding="utf-8")
    with pytest.raises(UserError, match=r"supernet\.optimizer\.weight_decay: found text '5e-4'.* write 0\.0005$"):
        load(file)


def test_a_json_snapshot_may_hold_json_s_floats(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(altered("retrain.optimizer.lr", 1e-5)), encoding="utf-8")
    assert "1e-05" in file.read_text(encoding="utf-8")
    assert load(file).retrain.optimizer.lr == 1e-5


def test_numbers_that_every_reader_takes_alike_stay(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("a: [0, -0, 0.5, 00.5, 0x10, 1_000, '010', \"1:30\", 08, 1e-05]\nb: &b {c: 1}\nd: [*b, *b]\n")
    assert read(file) == {
        "a": [0, 0, 0.5, 0.5, 16, 1000, "010", "1:30", "08", 1e-05],
        "b": {"c": 1},
        "d": [{"c": 1}, {"c": 1}],
    }


WIDE = {"space.stages.channels": [65536] * 3, "space.stages.repeats": [300] * 3}
LARGE = {"source.dataset": "mnist", "target.dataset": "folder", "target.root": "photos", "target.image_size": 4096}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"space.stem.channels": 2**30}, "space.stem.channels: found 1073741824, expected a number of at most 65536"),
        ({"space.stages.repeats": [10**9, 1, 1]}, "space.stages.repeats[0]: found 1000000000, expected a number of at"),
        ({"space.stages.repeats": [1000, 1, 1]}, "space.stages.repeats add up to 1002 blocks, expected at most 1000"),
        ({"space.stages.channels": [16] * 500}, "space.stages.channels: found [16, 16"),
        ({"target.image_size": 10**6}, "target.image_size: found 1000000, expected a number of at most 8192"),
        ({"runtime.processes": 10**6}, "runtime.processes: found 1000000, expected a number of at most 1024"),
        ({"runtime.workers": 10**6}, "runtime.workers: found 1000000, expected a number of at most 1024"),
        ({"space.darts.layers": 10**6}, "space.darts.layers: found 1000000, expected a number of at most 1000"),
        ({"retrain.epochs": 10**9}, "retrain.epochs: found 1000000000, expected a number of at most 1000000"),
        ({"search.architecture": [0] * 2000}, "search.architecture: found [0, 0"),
        ({"source.root": "a\0b"}, "source.root: found text 'a\\x00b', expected a name without NUL"),
        ({"source.root": "x" * 5000}, "source.root: found text 'xxx"),
        ({"target.splits": {"train": "a\0"}}, "target.splits.train: found text 'a\\x00', expected a name without NUL"),
        ({"imbalance.counts": "a\0"}, "imbalance.counts: found text 'a\\x00', expected a name without NUL"),
        (
            {"study.axes": {f"a{k}": list(range(10)) for k in range(10)}},
            "study.axes: 10 x 10 x 10 x 10 x 10 x 10 x 10 x 10 x 10 x 10 values are 10,000,000,000 cells, expected at "
            "most 10,000",
        ),
        (WIDE, "space has widths and blocks whose supernet has 28,768 GiB at the least, expected at most 1,024"),
        (
            {**LARGE, "retrain.batch_size": 2**16},
            "retrain.batch_size is 65536, with images of 4096 pixels a step that takes",
        ),
        (
            {**LARGE, "evaluate.batch_size": 2**20},
            "evaluate.batch_size is 1048576, with images of 4096 pixels a pass that takes 65,536 GiB at the least",
        ),
    ],
)
def test_what_no_machine_can_hold_is_refused_from_the_file(changes: dict[str, Any], line: str) -> None:
    tree = default_tree()
    for dotted, value in changes.items():
        tree = altered(dotted, value, tree)
    assert complaint(tree).startswith(line)


def test_a_batch_has_no_more_rows_than_its_dataset() -> None:
    found = {need.name: need.least for need in parse(altered("retrain.batch_size", 2**20), "p").needs()}
    assert found["retrain.batch_size"] == found["supernet.batch_size"] * 1797 // 64
