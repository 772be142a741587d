"""Sentences of the cards and of the results page: how the chosen network came about, and beside what it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imbnas.params.dataset import PUBLISHED
from imbnas.params.medmnist import MEDMNIST
from imbnas.report.escape import code, markdown
from imbnas.report.int8_facts import int8_sentences
from imbnas.report.page import percent
from imbnas.report.reference_facts import reference_sentences
from imbnas.report.search_facts import sentences


def start(details: dict[str, Any]) -> list[str]:
    """Return with which weights the training began and what they had seen; nothing for new ones."""
    init = details.get("init")
    if init is None:
        return []
    if "mixture" in details:
        return [_single_stage(details["mixture"], init)]
    head = "its head with them" if init["head"] == "handed" else "its head with new ones"
    parts = [
        "It began with the weights of its path in the supernet that the search handed on, "
        f"`models/handed.safetensors` (adaptation {code(init['strategy'])}, search {code(init['method'])}), {head}; so "
        "did the references. Its training alone does not say what it cost: the steps before it count too."
    ]
    source = init["source"]
    if source is None:
        return [*parts, "The supernet was trained on the long tail alone, on no source."]
    name, shared, classes = markdown(source["dataset"]), source["shared"], len(details["imbalance"]["classes"])
    if shared:
        parts.append(
            f"**The supernet was trained on {name}, which has {shared} of the {classes} classes by name.** It held "
            "rows of them that the long tail lacks, balanced over classes: the scores are not comparable with those of "
            "networks that saw the long tail alone. A fair rival is trained on the rows of source and target together."
        )
    else:
        parts.append(f"The supernet was trained on {name}, which has none of the {classes} classes by name.")
    return parts


def taught(details: dict[str, Any]) -> list[str]:
    """Return which network the others followed in their training; nothing where none did."""
    teacher = details.get("teacher")
    if teacher is None:
        return []
    name = code("-".join(map(str, teacher["architecture"])))
    return [
        f"It followed a teacher of {teacher['macs']:,} multiply-accumulate operations and {teacher['params']:,} "
        f"parameters, the largest subnet within the limits ({name}), which was trained first by the same recipe "
        "without a teacher; so did the references. What the teacher took is part of the cost."
    ]


def _single_stage(mixture: dict[str, Any], init: dict[str, Any]) -> str:
    """Return how a mixture was trained, and what of it acts."""
    return (
        "It is the network of a single-stage search: a mixture of operations with constant weights, neither decoded "
        "nor trained again after the search, whose parameters are below. The gap between the searched and the final "
        f"network is 0 by construction. {mixture['acting']} operations act; {percent(mixture['zeros'])} % of all "
        f"weights are exactly 0. It began with the weights of the adaptation {code(init['strategy'])}. No references "
        "were trained: no subnet has a mixture's cost and training. `results/figures/architecture.png` draws the cell "
        "to which it would decode."
    )


def taken_over(details: dict[str, Any], show: Callable[[object], str] = str) -> list[str]:
    """Return that the supernet was not trained here, and on what it was; nothing of one that was.

    `show` makes names safe where the sentence goes.
    """
    found = details.get("supernet")
    if found is None:
        return []
    name = show(found["dataset"])
    said = (
        f"The supernet was reused, not trained here: another project trained it on {name} ({found['classes']} "
        f"classes), and its file there has the SHA-256 {found['sha256']}."
    )
    if found["dataset"] == details["dataset"] and found["dataset"] in {**PUBLISHED, **MEDMNIST}:
        return [f"{said} That is the target's dataset too: validation and test rows may be among those it saw."]
    return [f"{said} The images on which it was trained were not compared with the target's."]


def choice(search: dict[str, Any]) -> str:
    """Return how the architecture came about."""
    if search["method"] == "fixed":
        return "Given by `search.architecture`, not searched."
    return (
        f"Chosen by the method {code(search['method'])} among {search['evaluated']} evaluated candidates, by "
        f"{markdown(search['objective'].replace('_', ' '))} on {search['validation_rows']} validation rows; limits: "
        f"{_limits(search['limits'])}. {' '.join(facts(search))}".rstrip()
    )


def _limits(limits: dict[str, Any]) -> str:
    given = [
        f"latency at most {value:g} ms" if name == "latency_ms" else f"{name} at most {value:,}"
        for name, value in ((key.removeprefix("max_"), value) for key, value in limits.items())
        if value is not None
    ]
    return " and ".join(given) or "none"


def facts(search: dict[str, Any]) -> list[str]:
    """Return what the search knows about itself, a sentence each."""
    return [f"{line[0].upper()}{line[1:]}." for line in sentences(search)]


def sizes(shots: dict[str, Any]) -> str:
    """Return how many classes each group has."""
    return ", ".join(f"{size} {group}" for group, size in shots["classes"].items())


def arithmetic(details: dict[str, Any]) -> list[str]:
    """Return what is said of an approximate multiplier and of the energy that it saves, nothing where there is none."""
    found = details.get("approximate")
    if found is None:
        return []
    energy = details["energy"]
    which = "all operations" if found["operations"] is None else ", ".join(map(code, found["operations"]))
    shares = ""
    if energy["picojoules"] is not None:
        shares = (
            f" Multiplications and additions of one image take {energy['against_float32']:.2%} of their energy in "
            f"float32 and {energy['against_exact8']:.2%} of that under the exact 8-bit multiplier, by a model "
            "(`results/details.json`) that knows no memory."
        )
    return [
        "## Arithmetic",
        f"Convolutions of {which}{' and of the skeleton' if found['skeleton'] else ''} are in 8 bits under the "
        f"multiplier {code(found['name'])} of {markdown(found['library'])} (SHA-256 {code(found['sha256'])}), emulated."
        f"{shares}",
    ]


def beside(details: dict[str, Any]) -> list[str]:
    """Return what is said of the references, and what the interval covers; and of the network in 8 bits."""
    said = reference_sentences(details)
    if not said:
        return int8_sentences(details)
    covers = {
        "rows": "The interval covers the test rows alone.",
        "networks and rows": "The interval covers what another random network in the chosen one's place would give: "
        "its architecture, its training's draws, the test rows.",
    }[details["references"]["random"]["difference"]["balanced_accuracy"]["covers"]]
    return [" ".join([*said, covers]), *int8_sentences(details)]
