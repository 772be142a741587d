# The study: the chain's rules again, on wildcard paths below study/. A job is named by the digest of the parameters that
# determine it, so that cells which agree in them share it.


include: "jobs.smk"


wildcard_constraints:
    digest="[0-9a-f]{12}",


for step in STEPS:

    rule:
        name:
            f"study_{step}"
        input:
            study_inputs(step),
            record=record(f"study_{step}"),
        output:
            study_outputs(step),
        log:
            f"logs/study/{step}/{{digest}}.log",
        benchmark:
            f"benchmarks/study/{step}/{{digest}}.tsv"
        localrule: study_light(step)
        threads: study_threads(step)
        resources:
            **study_resources(step),
        params:
            *study_identity(step),
            step=step,  # a command is put together when its job starts, after the loop
            options=study_options(step),
            asks=asks(step),
        message:
            told(f"study: {step} {{wildcards.digest}}")
        shell:
            "imbnas {params.step} {params.options} --log {log} --record {input.record} {output}"


rule study:
    input:
        record=record("study"),
        cells=guarded(lambda wildcards: STUDY.results(["details", "predictions"])),
    output:
        results="study/results.parquet",
        tables=expand("study/{name}.csv", name=["cells", "summary", "pairs", "differences", "references"]),
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
    message:
        told("study: collect the results of all cells")
    shell:
        "imbnas study collect --config {params.config} --log {log} --record {input.record} {output}"


onerror:
    # The cells that are finished are collected all the same, and the others listed. What is written here is no output
    # that the rule has made: its record is another, so the next run collects anew.
    missing = studies.unfinished(workflow.dag.needrun_jobs(exclude_finished=True))
    if missing:
        listed = Path(SNAPSHOT).with_name("unfinished.json")
        write_bytes(listed, canonical_json(missing).encode())
        shell("imbnas study collect --config {SNAPSHOT} --missing {listed} --log logs/study.log || true")
