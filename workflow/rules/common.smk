# What all rules share: the parameters, checked, and the helpers that say what a step depends on.
# Jobs parse this file again: keep it light (no torch), and let nothing but the controller decide anything.

import os
import sys
from functools import cache
from pathlib import Path

# As a module of another workflow this one lies elsewhere than `workflow.basedir`.
if not isinstance(workflow.current_basedir, str | os.PathLike):
    sys.exit("error: the module's snakefile: found one on a host, expected the path of a clone: rules run its src/")
PROJECT = Path(workflow.current_basedir).parents[1]
# This tree's code, whatever else is installed: `dvc exp run --temp` runs in a copy.
sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "workflow" / "lib")]

import cluster
import controller
import holders
import outputs
import raw_changes
import sizes
import studies
from guard import guarded
from identity import TAKERS, Sources
from imbnas.errors import UserError
from imbnas.run.graph import PATHS

if workflow.modifier.skip_configfile:  # `config:` of a module
    SOURCES = Sources(Path("params.yaml"), (), config, True, "config of the module")
else:
    SOURCES = Sources(
        Path("params.yaml"),
        tuple(Path(os.path.relpath(file)) for file in workflow.config_settings.configfiles),
        workflow.config_settings.config,
        workflow.config_settings.replace_workflow_config,
    )
if any(workflow.modifier.path_modifier.replace_prefix(path) != path for path in PATHS.values()):
    sys.exit("error: the module's prefix: found one, expected none: steps know where their files lie")
controller.prepare(PROJECT)
try:
    RUN = (
        controller.start_run(PROJECT, SOURCES) if workflow.is_main_process else controller.load_run(PROJECT, os.environ)
    )
    if workflow.is_main_process:
        holders.hold("--unlock" in sys.argv[1:])
except UserError as error:
    sys.exit(f"error: {error}")
SNAPSHOT = RUN.snapshot
CODE = RUN.code
RAW_FILES = raw_changes.RawFiles()


envvars:
    controller.HANDOVER,


def split(name):
    """Return the files of one materialised split, such as target/train."""
    return [f"data/{name}/{file}" for file in ("images.npy", "index.parquet", "info.json")]


def record(rule):
    """Return a function for the record of a rule's outputs, which makes it stale where other files are in their place.

    So it does where other raw files are in the place of those that the rule has read.

    It looks at a job's outputs once, when the job is first considered: by then the rule's outputs are known.
    """

    @cache
    def look(digest):
        step = f"study/{rule.removeprefix('study_')}/{digest}" if digest else rule
        file = Path(f".imbnas/outputs/{step}.json")
        if not workflow.is_main_process:
            return str(file)
        section = rule.removeprefix("study_")
        read = None
        if section in ("source", "target"):
            params = STUDY.params(section, digest) if digest else RUN.params
            if section == "target" or not reused(section, params):
                read = RAW_FILES.of(section, params, workflow.touch)
        return outputs.settle(file, [str(name).format(digest=digest) for name in getattr(rules, rule).output], read)

    return guarded(lambda wildcards: look(wildcards.get("digest")))


def reused(step, params=RUN.params):
    """Return the supernet of another project where the step reads one; its digest is among the rule's `params`."""
    return [params.supernet.reuse] if step in TAKERS and params.supernet.reuse else []


def identity(step):
    """Return the step's parameters, code, lock file and the user's file, one line each."""
    return RUN.identities[step]


def options(step):
    """Return a function for the options of a step's command. As it takes the outputs, no rule is stale on its account."""
    return guarded(lambda wildcards, output: f"--config {SNAPSHOT} --code {CODE[step]}")


def told(text):
    """Return a rule's message: what the step does, and below it what its job asks for.

    Snakemake lists that by itself only for rules without a message, under a dozen lines of files.
    """
    return text + "\n    log={log}, {params.asks}"


def asks(step):
    """Return a function for what a job asks for, in words; no reason to run it either."""
    hidden = {"_cores", "_nodes", "tmpdir", "mem", "mem_mib", "disk", "disk_mb", "disk_mib"}

    @guarded
    def words(wildcards, output, threads, resources):
        if workflow.dryrun and workflow.cores == 1:
            # A plan without --cores has one core, and says nothing of the threads that a run would have.
            asking = getattr(rules, f"study_{step}" if wildcards.get("digest") else step)
            wanted = asking.rule.resources["_cores"]
            threads = (wanted.evaluate(wildcards) if wanted.is_evaluable() else wanted).value
        whole = 100 * resources.get("gpu", 0)
        listed = {
            name: value
            for name, value in resources.items()
            if name not in hidden and value not in (0, "") and (name, value) != ("gpu_percent", whole)
        }
        return ", ".join(f"{name}={value}" for name, value in {"threads": threads, **listed}.items())

    return words


@guarded
def threads(step, section, params=RUN.params):
    """Return the CPUs of a step on the dataset of `section`: for arithmetic, and to make batches ahead of it."""
    return (params.runtime.threads + sizes.loaders(params, step, section)) * sizes.processes(params, step)


@guarded
def gpus(step):
    """Return the GPUs of a step.

    On one machine that is a mere counter (`--resources gpu=1` makes such steps take turns); Slurm's plugin turns it into
    --gpus, which by itself may be met by GPUs of several nodes. A step starts its processes on one: rules that ask for
    GPUs also say `nodes=1`.
    """
    return sizes.gpus(RUN.params, step)


@guarded
def gpu_percent(step):
    """Return the hundredths of GPUs of a step: where steps share one (`--resources gpu_percent=100`)."""
    return sizes.gpu_percent(RUN.params, step)


def growing(least):
    """Return a function that asks for more of a resource at each attempt."""
    return guarded(lambda wildcards, attempt: least * attempt)


@guarded
def memory(step):
    """Return what asks for the memory of a step that computes."""
    return growing(sizes.megabytes(RUN.params, step))


@guarded
def minutes(step):
    """Return what asks for the time of a step that computes."""
    return growing(sizes.minutes(RUN.params, step))


def light(section):
    """Say whether the dataset of `section` is materialised in seconds; else every one of its images is opened."""
    return getattr(RUN.params, section).dataset not in ("folder", "list") or bool(reused(section))


# A shell that waits for its step when both are asked to stop: if it died at once, Slurm would kill the step, whose state
# may not be saved yet, with all that is left of the job.
shell.prefix("trap : TERM; ")


onstart:
    settings = workflow.executor_settings
    try:
        if hasattr(settings, "init_seconds_before_status_checks"):
            cluster.check(settings.status_command, settings.init_seconds_before_status_checks)
    except UserError as error:
        sys.exit(f"error: {error}")
    if cluster.settle() and outputs.moved():
        sys.exit(
            f"error: {outputs.moved()[0]}: changed by a job of an earlier run after this run was planned; run it again"
        )


onsuccess:
    controller.delete_finished_states()
    # DVC reads parameters and code when a stage ends, not when it begins: what it records must be what ran.
    stage = os.environ.get("DVC_STAGE")
    if stage:
        try:
            step = stage.rpartition(":")[2]
            steps = [step] if step in RUN.identities else RUN.identities
            changed = [(name, step) for step in steps for name in RUN.changed_since_start(step, PROJECT, SOURCES)]
        except UserError as error:
            sys.exit(f"error: {error}")
        if changed:
            sys.exit(
                "error: {} changed while {} ran, expected it to stay; run `dvc repro` again".format(*changed[0])
            )
