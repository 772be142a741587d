# The study: the chain's rules again, on wildcard paths below study/. A job is named by the digest of the parameters that
# determine it, so that cells which agree in them share it. (`use rule` takes over all but `localrule`.)


include: "jobs.smk"


wildcard_constraints:
    digest="[0-9a-f]{12}",


use rule source as study_source with:
    input:
        study_inputs("source"),
        record=record("study_source"),
    output:
        study_outputs("source"),
    log:
        "logs/study/source/{digest}.log",
    benchmark:
        "benchmarks/study/source/{digest}.tsv"
    localrule: STUDY.light("source")
    threads: 1 if STUDY.light("source") else 4
    params:
        *study_identity("source"),
        options=study_options("source"),
    message:
        told("study: source {wildcards.digest}")


use rule target as study_target with:
    input:
        study_inputs("target"),
        record=record("study_target"),
    output:
        study_outputs("target"),
    log:
        "logs/study/target/{digest}.log",
    benchmark:
        "benchmarks/study/target/{digest}.tsv"
    localrule: STUDY.light("target")
    threads: 1 if STUDY.light("target") else 4
    params:
        *study_identity("target"),
        options=study_options("target"),
    message:
        told("study: target {wildcards.digest}")


use rule imbalance as study_imbalance with:
    input:
        study_inputs("imbalance"),
        record=record("study_imbalance"),
    output:
        study_outputs("imbalance"),
    log:
        "logs/study/imbalance/{digest}.log",
    benchmark:
        "benchmarks/study/imbalance/{digest}.tsv"
    localrule: True
    params:
        *study_identity("imbalance"),
        options=study_options("imbalance"),
    message:
        told("study: imbalance {wildcards.digest}")


use rule supernet as study_supernet with:
    input:
        study_inputs("supernet"),
        record=record("study_supernet"),
    output:
        study_outputs("supernet"),
    log:
        "logs/study/supernet/{digest}.log",
    benchmark:
        "benchmarks/study/supernet/{digest}.tsv"
    threads: study_threads("supernet", "source")
    resources:
        mem_mb=study_size("supernet", sizes.megabytes),
        runtime=study_size("supernet", sizes.minutes),
        gpu=study_gpus("supernet"),
        nodes=1,
    params:
        *study_identity("supernet"),
        options=study_options("supernet"),
    message:
        told("study: supernet {wildcards.digest}")


use rule adapt as study_adapt with:
    input:
        study_inputs("adapt"),
        record=record("study_adapt"),
    output:
        study_outputs("adapt"),
    log:
        "logs/study/adapt/{digest}.log",
    benchmark:
        "benchmarks/study/adapt/{digest}.tsv"
    threads: study_threads("adapt", "target")
    resources:
        mem_mb=study_size("adapt", sizes.megabytes),
        runtime=study_size("adapt", sizes.minutes),
        gpu=study_gpus("adapt"),
        nodes=1,
    params:
        *study_identity("adapt"),
        options=study_options("adapt"),
    message:
        told("study: adapt {wildcards.digest}")


use rule search as study_search with:
    input:
        study_inputs("search"),
        record=record("study_search"),
    output:
        study_outputs("search"),
    log:
        "logs/study/search/{digest}.log",
    benchmark:
        "benchmarks/study/search/{digest}.tsv"
    threads: study_threads("search", "target")
    resources:
        mem_mb=study_size("search", sizes.megabytes),
        runtime=study_size("search", sizes.minutes),
        gpu=study_gpus("search"),
        nodes=1,
    params:
        *study_identity("search"),
        options=study_options("search"),
    message:
        told("study: search {wildcards.digest}")


use rule retrain as study_retrain with:
    input:
        study_inputs("retrain"),
        record=record("study_retrain"),
    output:
        study_outputs("retrain"),
    log:
        "logs/study/retrain/{digest}.log",
    benchmark:
        "benchmarks/study/retrain/{digest}.tsv"
    threads: study_threads("retrain", "target")
    resources:
        mem_mb=study_size("retrain", sizes.megabytes),
        runtime=study_size("retrain", sizes.minutes),
        gpu=study_gpus("retrain"),
        nodes=1,
    params:
        *study_identity("retrain"),
        options=study_options("retrain"),
    message:
        told("study: retrain {wildcards.digest}")


use rule evaluate as study_evaluate with:
    input:
        study_inputs("evaluate"),
        record=record("study_evaluate"),
    output:
        study_outputs("evaluate"),
    log:
        "logs/study/evaluate/{digest}.log",
    benchmark:
        "benchmarks/study/evaluate/{digest}.tsv"
    threads: study_threads("evaluate", "target")
    resources:
        mem_mb=study_size("evaluate", sizes.megabytes),
        runtime=study_size("evaluate", sizes.minutes),
        gpu=study_gpus("evaluate"),
        nodes=1,
    params:
        *study_identity("evaluate"),
        options=study_options("evaluate"),
    message:
        told("study: evaluate {wildcards.digest}")


rule study:
    input:
        record=record("study"),
        cells=guarded(lambda wildcards: STUDY.results(["details", "predictions"])),
    output:
        results="study/results.parquet",
        tables=expand("study/{name}.csv", name=["cells", "summary", "pairs", "differences"]),
        page=report("study/table.html", caption="../report/study.rst", category="Study", labels={"file": "table"}),
        scores=report(
            "study/figures/scores.png",
            caption="../report/study.rst",
            category="Study",
            labels={"figure": "scores"},
        ),
        groups=report(
            "study/figures/groups.png",
            caption="../report/study.rst",
            category="Study",
            labels={"figure": "shot groups"},
        ),
        pairs=report(
            "study/figures/pairs.png",
            caption="../report/study.rst",
            category="Study",
            labels={"figure": "paired differences"},
        ),
    log:
        "logs/study.log",
    benchmark:
        "benchmarks/study.tsv"
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        guarded(lambda wildcards: STUDY.collect),
        config=guarded(lambda wildcards, output: SNAPSHOT),
        asks=asks("study"),
        note=note,
    message:
        told("study: collect the results of all cells")
    shell:
        "imbnas study collect --config {params.config} --log {log} && {params.note}"


onerror:
    # The cells that are finished are collected all the same, and the others listed. What is written here is no output
    # that the rule has made: its record is another, so the next run collects anew.
    missing = studies.unfinished(workflow.dag.needrun_jobs(exclude_finished=True))
    if missing:
        listed = Path(SNAPSHOT).with_name("unfinished.json")
        write_bytes(listed, canonical_json(missing).encode())
        shell("imbnas study collect --config {SNAPSHOT} --missing {listed} --log logs/study.log || true")
