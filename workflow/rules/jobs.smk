# What the rules of a study share. Nothing is worked out unless a study is wanted.

from functools import cache
from imbnas.files import canonical_json, write_bytes
from imbnas.run.graph import STEPS

HEAVY = {"supernet": "source", "adapt": "target", "search": "target", "retrain": "target", "evaluate": "target"}
"""The steps that compute, with the section whose dataset they compute on."""
STUDY = studies.Study(RUN, PROJECT, workflow.is_main_process)
# Snakemake does not say yet what is wanted, but a wrong cell should be one line, before anything else.
if workflow.is_main_process and any(Path(word).parts[:1] == ("study",) for word in sys.argv[1:]):
    try:
        STUDY.identity
    except UserError as error:
        sys.exit(f"error: {error}")


def study_inputs(step):
    """Return a function for the inputs of a job: those of the chain's rule, where the study's jobs make them."""
    listed = [str(file) for file in getattr(rules, step).input if not callable(file)]

    @guarded
    def files(wildcards):
        found = STUDY.inputs(step, wildcards.digest, listed)
        return [*found, *reused(step, STUDY.params(step, wildcards.digest))] if step in TAKERS else found

    return files


def study_outputs(step):
    """Return the outputs of a job."""
    return [studies.move(str(file), "{digest}") for file in getattr(rules, step).output]


def study_identity(step):
    """Return the user's file of a job, its code and its environment; its parameters are in its digest."""
    return [cache_by_digest(lambda digest: STUDY.user_files(step, digest)), STUDY.code(step), STUDY.environment]


def study_options(step):
    """Return a function for the options of a job's command."""
    return guarded(lambda wildcards, output: STUDY.options(step, wildcards.digest))


def study_light(step):
    """Say whether a job is done in seconds, beside the controller."""
    return step == "imbalance" or (step not in HEAVY and STUDY.light(step))


def study_threads(step):
    """Return the CPUs of a job, for a step that computes a function; see `threads`."""
    if step not in HEAVY:
        return 1 if study_light(step) else 4
    return cache_by_digest(lambda digest: threads(step, HEAVY[step], STUDY.params(step, digest)))


def study_resources(step):
    """Return what else a job asks for, by name: what the chain's rule does, by the parameters of the job."""
    if step == "imbalance":
        return {}
    if step not in HEAVY:
        return {"mem_mb": growing(4000), "runtime": growing(240)}
    return {
        "mem_mb": study_size(step, sizes.megabytes),
        "runtime": study_size(step, sizes.minutes),
        "gpu": cache_by_digest(lambda digest: sizes.gpus(STUDY.params(step, digest), step)),
        "gpu_percent": cache_by_digest(lambda digest: sizes.gpu_percent(STUDY.params(step, digest), step)),
        "nodes": 1,
    }


def study_size(step, estimate):
    """Return a function for memory or time of a job, which grows with each attempt."""
    known = cache(lambda digest: estimate(STUDY.params(step, digest), step))
    return guarded(lambda wildcards, attempt: known(wildcards.digest) * attempt)


def cache_by_digest(function):
    """Return a function of wildcards that calls `function` once for each digest."""
    known = cache(function)
    return guarded(lambda wildcards: known(wildcards.digest))
