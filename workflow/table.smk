# `make table`: trains the cells of a truth table. A workflow of its own, beside the chain's Snakefile.
#
#   prepare ── train, seed 0 (a job for each part) ── collect ── train, seed 1 ── collect ── ... ── all
#
# What is finished is known by the sealed records below .imbnas/table/NAME and by the committed table, not by the marks here:
# `make table` forces all rules, and a training that is finished is not repeated.
import shlex
import sys
from pathlib import Path

PROJECT = Path(workflow.basedir).parent
sys.path.insert(0, str(PROJECT / "src"))

from imbnas.errors import UserError
from imbnas.truth.places import Table

SPEC = Path(config.get("table", "tables/cifar10-lt-16.yaml"))
PARTS = int(config.get("parts", 2))
TABLE = Table(SPEC, Path())
try:
    SEEDS = range(TABLE.spec.seeds)
except UserError as error:
    sys.exit(f"error: {error}")
MARKS = f".imbnas/table/{TABLE.name}/marks"
GIVEN = shlex.quote(str(SPEC)) + (f" --data {shlex.quote(str(config['data']))}" if config.get("data") else "")
PAGE = f" --page {shlex.quote(str(config['page']))}" if config.get("page") else ""
THREADS = TABLE.spec.runtime.threads
GPUS = int(TABLE.spec.runtime.device != "cpu")
GPU_PERCENT = GPUS * max(1, int(100 * TABLE.spec.runtime.gpu_share + 1e-9))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT / "src"), os.environ.get("PYTHONPATH", "")]))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

# A shell that waits for its command when both are asked to stop: the state of a training is saved first.
shell.prefix("trap : TERM; ")


rule all:
    input:
        f"{MARKS}/seed-{SEEDS[-1]}",


rule prepare:
    output:
        touch(f"{MARKS}/prepared"),
    log:
        f"logs/table-{TABLE.name}-prepare.log",
    threads: THREADS
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
        nodes=1,
    message:
        f"prepare: make the rows of {TABLE.name}"
    shell:
        "imbnas truth prepare {GIVEN} --log {log}"


rule train:
    input:
        lambda wildcards: (
            f"{MARKS}/seed-{int(wildcards.seed) - 1}-part-{wildcards.part}"
            if int(wildcards.seed)
            else f"{MARKS}/prepared"
        ),
    output:
        touch(f"{MARKS}/seed-{{seed}}-part-{{part}}"),
    log:
        f"logs/table-{TABLE.name}-{{seed}}-{{part}}.log",
    wildcard_constraints:
        seed=r"\d+",
        part=r"\d+",
    threads: THREADS
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=GPUS,
        gpu_percent=GPU_PERCENT,
        nodes=1,
    message:
        f"train {TABLE.name}: seed {{wildcards.seed}}, part {{wildcards.part}} of {PARTS}"
    shell:
        "imbnas truth train {GIVEN} --seed {wildcards.seed} --part {wildcards.part} --parts {PARTS} --log {log}"


rule collect:
    input:
        [f"{MARKS}/seed-{{seed}}-part-{part}" for part in range(PARTS)],
        lambda wildcards: [f"{MARKS}/seed-{int(wildcards.seed) - 1}"] if int(wildcards.seed) else [],
    output:
        touch(f"{MARKS}/seed-{{seed}}"),
    log:
        f"logs/table-{TABLE.name}-collect-{{seed}}.log",
    wildcard_constraints:
        seed=r"\d+",
    priority: 1
    localrule: True
    message:
        f"collect {TABLE.name}: the table with seed {{wildcards.seed}}"
    shell:
        "imbnas truth collect {GIVEN}{PAGE} --log {log}"
