"""The chosen network beside hand-made ones of its MACs, from scratch and pretrained: docs/results/handmade.md.

    python experiments/handmade.py --data DIR --plan
    python experiments/handmade.py --data DIR

`DIR` is that of `make wins`. ShuffleNetV2 and a ResNet have widths that bring them within 5 % of the chosen network's
MACs. Pretrained, they pass over the source's rows as often as the supernet's paths together. What is finished is not
run again; given several times at once, each process takes what no other one has begun.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from statistics import mean

from experiment_command import run
from handmade_arms import HANDMADE, OURS, STARTS, Arms, Setting
from trained_networks import Trained
from wins import chains_parser, check_counts, data_changes
from wins_page import LEVEL, gain, shown
from wins_plan import expected

from imbnas import page_record
from imbnas.longtail.student import Estimate, holm
from imbnas.params.config import Params
from imbnas.run.context import processor_model

PAGE = """# The chosen network beside hand-made ones

`make handmade` at commit {commit}, {processor}, {seeds} seeds. CIFAR-10-LT of ratio 100 with up to {n_max:,} training
rows per class; the source is half of CIFAR-100. The chosen network is that of the default chain with at most {limit}
of the largest one's MACs. The hand-made ones are ShuffleNetV2 and a ResNet of basic blocks, whose widths are set for
each seed so that their MACs are within 5 % of the chosen one's. All train for {epochs} epochs by the same recipe.
With inherited weights they begin with those of the supernet, or, hand-made, of a training on the same rows of the
source with as many passes of an image: {supernet} epochs of five paths, or {passes} of one.

**Rule, fixed before the first result.** A user who takes imbnas is better off if, with the same start, the chosen
network is above both hand-made ones with either start: four differences with corrected p below 0.05 (Holm).

| network | start | MACs | balanced accuracy | imbnas minus it, same start | p | seconds |
|---|---|---:|---:|---:|---:|---:|
{rows}

Balanced accuracy on the test rows in percent. Differences are paired by seed; intervals are 95 %: Student's t over
the seeds with the variance of the test rows added. Seconds are wall time of all steps that make the network, one
thread, on a machine that other work may have shared.

{verdict}
"""
Arm = tuple[str, str]


def compared(trained: dict[Arm, list[Trained]]) -> dict[Arm, tuple[Estimate, float]]:
    """Return the chosen network minus each hand-made one with the same start, with p corrected for their number."""
    found = {
        (name, start): gain([[one] for one in trained[OURS, start]], [[one] for one in trained[name, start]])
        for start in STARTS
        for name in HANDMADE
    }
    return dict(
        zip(found, zip(found.values(), holm([float(one.p()) for one in found.values()]), strict=True), strict=True)
    )


def verdict(gains: dict[Arm, tuple[Estimate, float]]) -> str:
    """Return what the rule says."""
    above = [arm for arm, (one, p) in gains.items() if float(one.value) > 0.0 and p < 1.0 - LEVEL]
    below = [arm for arm, (one, p) in gains.items() if float(one.value) < 0.0 and p < 1.0 - LEVEL]
    if len(above) == len(gains):
        return "By the rule a user who takes imbnas is better off."
    lines = ["By the rule it is not shown that a user who takes imbnas is better off."]
    for word, arms in (("Above", above), ("Below", below)):
        lines.append(f"{word}: {', '.join(' '.join(arm) for arm in arms) or 'none'}.")
    return " ".join(lines)


def page(arms: Arms) -> str:
    """Return the page."""
    seeds, setting = range(arms.setting.seeds), arms.setting
    trained: dict[Arm, list[Trained]] = {}
    facts: dict[Arm, tuple[float, float]] = {}
    for arm in [(name, start) for start in STARTS for name in (OURS, *HANDMADE)]:
        jobs = [arms.jobs(*arm, seed) for seed in seeds]
        found = [arms.trained(one) for one in jobs]
        trained[arm] = [one for one, _ in found]
        facts[arm] = mean(macs for _, macs in found), mean(arms.seconds(one) for one in jobs)
    gains = compared(trained)
    rows = []
    for arm, own in trained.items():
        gained = [shown(gains[arm][0]), f"{gains[arm][1]:.3f}"] if arm in gains else ["", ""]
        macs, seconds = facts[arm]
        cells = [*arm, f"{macs:,.0f}", f"{100 * mean(one.score for one in own):.2f}", *gained, f"{seconds:.0f}"]
        rows.append("| " + " | ".join(cells) + " |")
    params = arms.params()
    commit = page_record.commit()
    return PAGE.format(
        commit=commit,
        processor=processor_model(),
        seeds=setting.seeds,
        n_max=params.imbalance.n_max or 0,
        limit=setting.limit,
        epochs=params.retrain.epochs,
        supernet=setting.supernet,
        passes=5 * setting.supernet,
        rows="\n".join(rows),
        verdict=verdict(gains),
    )


def plan(arms: Arms) -> str:
    """Return the jobs that are left, with hours; of hand-made networks all, before the chosen one is known."""
    left: dict[str, tuple[str, Params]] = {}
    for seed in range(arms.setting.seeds):
        known = arms.ours(STARTS[0], seed).done(0, "search")
        for start in STARTS:
            for name in (OURS, *HANDMADE):
                # Costs do not depend on widths, which bring all networks to the same MACs.
                jobs = arms.jobs(name, start, seed) if known or name == OURS else arms.unfitted(name, start, seed)
                own = jobs.left(0) if known or name == OURS else jobs.plan.cells[0]
                left |= {digest: (step, jobs.cells[0]) for step, digest in own.items()}
    counts = Counter(step for step, _ in left.values())
    hours = sum(expected(params, step) for step, params in left.values()) / 3600
    lines = [f"{step}: {count} jobs left" for step, count in counts.items()]
    return "\n".join([*lines, f"in all about {hours:.1f} hours on one thread (estimated)"])


def main() -> int:
    """Run what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    check_counts(options, ("supernet",))
    setting = Setting(options.seeds, options.limit, options.supernet)
    arms = Arms(options.work.resolve(), setting, data_changes(options.data))
    if options.plan:
        return plan(arms)
    arms.run()
    content = page(arms)
    page_record.write_page(options.output, content, "make handmade")
    return content


def _options() -> argparse.Namespace:
    parser = chains_parser(__doc__, "docs/results/handmade.md", Setting.seeds, Setting.supernet)
    parser.add_argument("--limit", default=Setting.limit, help="of the chain's MACs, as 0.7x")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
