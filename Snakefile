#   source ─┬────────────── supernet ── adapt ── search ── retrain ── evaluate
#           └ target ── imbalance ────────┴────────┴─────────┴───────────┘
#
# One rule a step, named as the step is everywhere else; workflow/rules/ says what each reads and writes.
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


if workflow.is_main_process:  # a job takes its controller's parameters, see common.smk

    configfile: "params.yaml"


config.update(RUN.params.tree())


# Used with `--sdm apptainer` alone, see docs/decisions/0009-one-environment.md.
container: "imbnas.sif"


report: "workflow/report/workflow.rst"


rule all:
    input:
        # The products, and what is written of how they came about: what is deleted of these is made again.
        "models/final.safetensors",
        "models/references.safetensors",
        "results/architecture.json",
        "results/search.parquet",
        "results/search.json",
        "results/front.parquet",
        "results/imbalance.json",
        "results/metrics.json",
        "results/details.json",
        "results/classes.parquet",
        "results/predictions.parquet",
        "results/table.html",
        "results/model-card.md",
        "results/dataset-card.md",
        "results/figures/classes.png",
        "results/figures/confusion.png",
        "results/figures/architecture.png",
        "results/figures/architecture.svg",
        "results/figures/reliability.png",
        "results/figures/weights.png",
        "results/figures/search.png",
        "results/figures/front.png",
        "results/figures/references.png",
        "results/plots/classes.csv",
        "results/plots/confusion.csv",
        "results/plots/reliability.csv",
        "results/plots/retrain.csv",
        "results/plots/search.csv",
        "results/plots/supernet.csv",


include: "workflow/rules/data.smk"
include: "workflow/rules/supernet.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/final.smk"
include: "workflow/rules/study.smk"
