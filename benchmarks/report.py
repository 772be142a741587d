"""From results.json to docs/results/speed.md: tables of what was measured, and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import single_path

from imbnas import page_record

PAGE = Path(__file__).resolve().parents[1] / "docs/results/speed.md"
HEAD = """# Speed

Written by `make bench` from `benchmarks/results.json`. Each figure is the least of several rounds, in which all systems
take turns on the same paths. Ratios carry over to other machines better than absolute figures do.
"""
TASKS = {"train": "training", "evaluate": "evaluation"}
PEERS = {"xautodl": "xautodl", "nni": "NNI"}


def write(results: dict[str, Any]) -> None:
    """Write the page with one section for each device."""
    sections = [HEAD]
    for device, parts in results.items():
        sections.append(f"## {device}\n")
        sections += [SECTIONS[name](part) for name, part in parts.items()]
    page_record.write_page(PAGE, "\n".join(sections), "make bench")


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(head)]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    lines += [[_figure(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _figure(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def _section(title: str, part: dict[str, Any], body: str) -> str:
    place = part["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
    where = (
        f"{place['processor']}, {place['cores']} cores, {place['threads']} threads, {place['device']}; {versions}; "
        f"{place['clock']} clock, {place['rounds']} rounds, load {place['load_at_start']} at the start."
    )
    return f"### {title}\n\n{body}\n{where}\n"


def _peers(part: dict[str, Any]) -> str:
    body = []
    for task, word in TASKS.items():
        speed = part[task]["images_per_second"]
        others = {name: title for name, title in PEERS.items() if name in speed}
        rows = [
            [name, rate, *(rate / speed[other] for other in others), rate / speed[_bare(name, speed)]]
            for name, rate in speed.items()
        ]
        head = ["system", "images/s", *(f"over {title}" for title in others.values()), "over the bare subnet"]
        body.append(f"NAS-Bench-201 cells, {word}, batch {part[task]['batch']}:\n\n{_table(head, rows)}")
    return _section("Supernets beside their peers", part, "\n".join(body))


def _single_path(part: dict[str, Any]) -> str:
    head = ["system", "images/s", "over the plain loop", "over the version before"]
    body = [
        f"Single Path One-Shot's units, {word}, batch {part[task]['batch']}:\n\n"
        + _table(head, single_path.table(part[task]))
        for task, word in TASKS.items()
    ]
    text = (
        "Here figures are medians: of the images per second, and of the ratios of each turn. `imbnas-fast` has\n"
        "`runtime.channels_last: tiled` in training and `search.fold_batchnorm` in evaluation, which change bits."
    )
    return _section("A plain loop of Single Path One-Shot", part, "\n".join([text + "\n", *body]))


def _bare(name: str, speed: dict[str, float]) -> str:
    """Return the subnet of the same precision; of a peer, which computes in torch's own, the first one."""
    _, _, precision = name.partition("-")
    same = f"subnet-{precision}" if precision else "subnet"
    return same if same in speed else next(other for other in speed if other.startswith("subnet"))


def _throughput(part: dict[str, Any]) -> str:
    head = ["what", "space", "precision", "batch", "ms a batch", "images/s", "of what is allowed", "by"]
    shares = {"share_of_input": "input", "share_of_input_at_most": "input at most"}
    gains = {"speed_up_by_recordings": "gain by recordings"}
    shares, gains = ({k: v for k, v in of.items() if any(k in c for c in part["cases"])} for of in (shares, gains))
    rows = []
    for case in part["cases"]:
        bounds = {name: case[f"allowed_by_{name}"] for name in ("arithmetic", "memory")}
        by = min(bounds, key=lambda name: bounds[name])
        row = [case["what"], case["space"], case["precision"], case["batch"], case["milliseconds_a_step"]]
        row += [case["images_per_second"], case["images_per_second"] / bounds[by], by]
        row += [f"{100 * case[key]:.1f} %" if key in case else "" for key in shares]
        rows.append([*row, *(case.get(key, "") for key in gains)])
    measured = ", ".join(
        f"{precision} {rates['flops'] / 1e12:.3g} TFLOP/s and {rates['bytes'] / 1e9:,.0f} GB/s"
        for precision, rates in part["rates"].items()
    )
    text = (
        "Images have 32x32 pixels; a supernet's batch passes once per fair path. What is allowed is limited by the "
        "time for the layers' operations, or for the bytes that each layer by itself reads and writes. The rates of a "
        f"large matrix product and a large copy, measured in the same run, are: {measured}. Above 1, the convolutions "
        "are faster than that product. The input is the time to prepare a batch by itself; on a GPU, the GPU's own "
        "time. At most it is the time until the batch is done, including Python's; a step spends what it cannot "
        "overlap."
    )
    text = textwrap.fill(text, 120) + "\n\n"
    return _section("Steps", part, text + _table([*head, *shares.values(), *gains.values()], rows))


def _trie(part: dict[str, Any]) -> str:
    columns = {
        "paths": "paths",
        "share_of_block_forwards_saved": "block passes saved",
        "share_of_forward_time_saved": "forward time saved",
        "speed_up_allowed": "allowed",
        "speed_up": "measured",
        "reached": "measured / allowed",
        "identical": "same answers",
    }
    rows = [[name, *(part[name][key] for key in columns)] for name in ("early", "converged")]
    return _section("A generation scored together", part, _table(["generation", *columns.values()], rows))


def _flat(title: str) -> Any:
    def section(part: dict[str, Any]) -> str:
        rows = []
        for name, value in part.items():
            if name == "machine":
                continue
            if isinstance(value, dict):
                rows += [[f"{name}: {key}".replace("_", " "), inner] for key, inner in value.items()]
            else:
                rows.append([name.replace("_", " "), value])
        return _section(title, part, _table(["what", "figure"], rows))

    return section


SECTIONS = {
    "peers": _peers,
    "single-path": _single_path,
    "throughput": _throughput,
    "trie": _trie,
    "head": _flat("Training the head alone"),
    "cache": _flat("Training the head on cached features"),
    "costs": _flat("Costs and limits"),
    "start-up": _flat("Start-up, in seconds"),
    "long-tail": _flat("The long tail of ten million rows"),
    "workflow": _flat("The workflow's own time"),
}
