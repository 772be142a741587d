"""What may be combined in a long-tailed training, and what is refused by name."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from params_trees import altered, default_tree

from imbnas.errors import UserError
from imbnas.longtail.losses import LOSS_CLASSES, LOSS_NAMES, loss_options
from imbnas.params.config import parse
from imbnas.params.loss_options import LOSSES, LossesParams, LossName

CE = {"retrain.loss": "ce"}
LDAM = {"retrain.loss": "ldam"}
PUBLISHED = {"retrain.head.name": "latent-diffusion", "retrain.head.synthesis.profile": "published"}
"""It leaves the classes' shares nearly as they are."""


def tree_of(changes: dict[str, Any]) -> dict[str, Any]:
    tree = default_tree()
    for dotted, value in changes.items():
        tree = altered(dotted, value, tree)
    return tree


def test_the_parameters_know_the_losses_of_the_library() -> None:
    assert get_args(LossName) == LOSS_NAMES == tuple(LOSSES)
    assert set(LOSS_CLASSES) == set(LOSSES)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_loss_is_called_alike_in_both_tables_and_takes_its_options(loss: str) -> None:
    entry, kind = LOSSES[loss], LOSS_CLASSES[loss]
    assert kind.name == ("ce" if entry.weights is not None else loss)
    assert set(LossesParams().of(loss)) <= set(loss_options(loss))
    # What the class leaves at its own default is what the parameters have by default.
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    assert LossesParams().of(loss) == {name: defaults[name] for name in LossesParams().of(loss)}


@pytest.mark.parametrize("section", ["adapt", "retrain"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_loss_can_be_chosen(section: str, loss: str) -> None:
    changes = {f"{section}.loss": loss}
    if section == "adapt" and loss == "ldam":
        changes["adapt.head.name"] = "cosine"
    assert getattr(parse(tree_of(changes), "p.yaml"), section).loss == loss


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {**CE, "retrain.weighting.weights": "effective-number"},
            "retrain.weighting.weights is effective-number with loss ce, expected none: weighted cross-entropy is loss "
            "inverse-frequency or effective-number",
        ),
        (
            {"adapt.weighting.weights": "inverse-frequency"},
            "adapt.weighting.weights is inverse-frequency with loss effective-number, expected none",
        ),
        (
            {"retrain.losses.label_aware_smoothing.tail": 0.5},
            "retrain.losses.label_aware_smoothing.tail is 0.5, expected at most head (0.4)",
        ),
        (
            {"retrain.loss": "focal", "retrain.label_smoothing": 0.1},
            "retrain.label_smoothing is 0.1 with loss focal, expected 0: it defines none",
        ),
        (
            {"adapt.loss": "seql", "adapt.head.label_smoothing": 0.1},
            "adapt.head.label_smoothing is 0.1 with loss seql, expected 0: it defines none",
        ),
        (
            {**LDAM, "retrain.classifier.name": "linear"},
            "retrain.classifier.name is linear with loss ldam, expected cosine, etf or auto",
        ),
        (
            {"adapt.loss": "ldam"},
            "adapt.head.name is linear with loss ldam, expected cosine",
        ),
        (
            {"adapt.loss": "ldam", "adapt.strategy": "scratch", "adapt.classifier.name": "linear"},
            "adapt.classifier.name is linear with loss ldam, expected cosine, etf or auto",
        ),
        (
            {"retrain.head.name": "linear", "retrain.head.loss": "ldam"},
            "retrain.head.name is linear with head.loss ldam, expected cosine",
        ),
        (
            {**LDAM, "retrain.head.name": "lws"},
            "retrain.head.name is lws with classifier.name cosine, expected a linear one",
        ),
        (
            {**CE, "retrain.classifier.name": "etf", "retrain.head.name": "latent-diffusion"},
            "retrain.head.name is latent-diffusion with classifier.name etf, expected a linear one",
        ),
        (
            {**CE, "retrain.head.name": "gaussian", "retrain.head.batchnorm": "update"},
            "retrain.head.batchnorm is update with head.name gaussian, expected frozen: features are generated like",
        ),
        (
            {**CE, "retrain.head.name": "mixup", "retrain.head.loss": "ldam"},
            "retrain.head.name is mixup with head.loss ldam, expected cosine",
        ),
        (
            {**CE, "retrain.head.name": "mixup", "retrain.head.loss": "focal", "retrain.head.label_smoothing": 0.1},
            "retrain.head.label_smoothing is 0.1 with loss focal, expected 0",
        ),
        ({"retrain.head.synthesis.ratio": 0.5}, "retrain.head.synthesis.ratio: found 0.5, expected "),
        (
            {"adapt.head.name": "latent-diffusion"},
            "adapt.head.name: found text 'latent-diffusion', expected linear, cosine, crt, lws, tau-norm, ncm or ",
        ),
        *(
            (
                {f"{section}.head.name": "etf"},
                f"{section}.head.name is etf, expected another head: its vectors are fixed, and nothing would train ",
            )
            for section in ("adapt", "retrain")
        ),
        (
            {"adapt.classifier.name": "etf"},
            "adapt.classifier.name is etf with strategy head, expected strategy finetune or scratch: its vectors are ",
        ),
        (
            {**CE, "retrain.classifier.name": "etf", "retrain.branches": "bilateral"},
            "retrain.classifier.name: etf with branches bilateral, expected linear",
        ),
        (
            {"retrain.head.name": "tau-norm", "retrain.rows": "train+validation"},
            "retrain.head.tau is auto with rows train+validation, expected rows train: it judges on the others",
        ),
        (
            {"retrain.head.name": "crt", "retrain.head.mixing.name": "mixup"},
            "retrain.head.mixing.name is mixup with head.batchnorm frozen, expected none, or batchnorm batch "
            "or update: features are computed once, before images could be mixed",
        ),
        (
            {"retrain.branches": "bilateral", "retrain.head.name": "crt"},
            "retrain.head.name is crt with branches bilateral, expected none",
        ),
        (
            {"retrain.branches": "bilateral", "retrain.mixing.name": "remix"},
            "retrain.mixing.name is remix with branches bilateral, expected none",
        ),
        (
            {"retrain.branches": "bilateral", "retrain.distill.teacher": "largest"},
            "retrain.distill.teacher is largest with branches bilateral, expected none",
        ),
        (
            {"supernet.inplace_distillation": True},
            "supernet.inplace_distillation is true with sampling fair, expected sandwich",
        ),
        (
            {"adapt.inplace_distillation": True, "adapt.strategy": "scratch"},
            "adapt.inplace_distillation is true with sampling fair, expected sandwich",
        ),
        (
            {"adapt.inplace_distillation": True, "adapt.sampling": "sandwich"},
            "adapt.inplace_distillation is true with strategy head, expected false, or strategy finetune",
        ),
        (
            {**LDAM, "retrain.branches": "bilateral"},
            "retrain.classifier.name: cosine with branches bilateral, expected linear",
        ),
        ({"retrain.sampler.name": "balanced"}, "retrain.sampler.name: found text 'balanced', expected instance, "),
        ({"retrain.head.tau": "best"}, "retrain.head.tau: found text 'best', expected auto or a number"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(tree_of(changes), "p.yaml")
    assert str(raised.value).startswith(f"p.yaml: {line}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "corrected"),
    [
        *(({"retrain.loss": loss}, f"loss {loss}") for loss, entry in LOSSES.items() if entry.prior_corrected),
        ({**CE, "retrain.sampler.name": "square-root"}, "sampler.name square-root"),
        ({**CE, "retrain.branches": "bilateral"}, "branches bilateral"),
        ({**LDAM, "retrain.weighting.weights": "inverse-frequency"}, "weighting.weights inverse-frequency"),
        ({**CE, "retrain.head.name": "crt"}, "head.name crt"),
        ({**CE, "retrain.head.name": "linear"}, "head.sampler.name class-aware"),
        ({**CE, "retrain.head.name": "gaussian"}, "head.synthesis.profile balanced"),
        (
            {**CE, **PUBLISHED, "retrain.head.loss": "balanced-softmax"},
            "head.loss balanced-softmax",
        ),
    ],
)
def test_the_prior_is_corrected_once(changes: dict[str, Any], corrected: str) -> None:
    with pytest.raises(UserError, match=f"retrain.{corrected}, expected 0.0: both together correct"):
        parse(tree_of({**changes, "evaluate.logit_adjustment": 1.0}), "p.yaml")
    if "retrain.head.name" not in changes and "retrain.branches" not in changes and changes["retrain.loss"] != "ldam":
        with pytest.raises(UserError, match=f"head.name is logit-adjustment with {corrected}, expected a"):
            parse(tree_of({**changes, "retrain.head.name": "logit-adjustment"}), "p.yaml")


@pytest.mark.parametrize(
    "changes",
    [CE, LDAM, {**CE, "retrain.head.name": "linear", "retrain.head.sampler.name": "instance"}, {**CE, **PUBLISHED}],
)
def test_a_plain_training_may_be_adjusted_afterwards(changes: dict[str, Any]) -> None:
    parse(tree_of({**changes, "evaluate.logit_adjustment": 1.0}), "p.yaml")
