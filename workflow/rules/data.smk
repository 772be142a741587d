rule source:
    input:
        record=record("source"),
        reused=guarded(lambda wildcards: reused("source")),
    output:
        train=split("source/train"),
        validation=split("source/validation"),
    log:
        "logs/source.log",
    benchmark:
        "benchmarks/source.tsv"
    localrule: light("source")
    threads: 1 if light("source") else 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        *identity("source"),
        options=options("source"),
        asks=asks("source"),
    message:
        told("source: materialise the balanced source dataset")
    shell:
        "imbnas source {params.options} --log {log} --record {input.record} {output}"


rule target:
    input:
        source="data/source/train/index.parquet",  # which images the source has
        source_validation="data/source/validation/index.parquet",
        source_info="data/source/train/info.json",  # how a reused supernet's images are normalised
        record=record("target"),
    output:
        train=split("target/train"),
        validation=split("target/validation"),
        test=[*split("target/test"), "data/target/test/near_duplicates.csv"],
    log:
        "logs/target.log",
    benchmark:
        "benchmarks/target.tsv"
    localrule: light("target")
    threads: 1 if light("target") else 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        *identity("target"),
        options=options("target"),
        asks=asks("target"),
    message:
        told("target: materialise the target dataset's splits")
    shell:
        "imbnas target {params.options} --log {log} --record {input.record} {output}"


rule imbalance:
    input:
        record=record("imbalance"),
        train=split("target/train"),
    output:
        longtail="data/longtail.parquet",
        summary="results/imbalance.json",
    log:
        "logs/imbalance.log",
    benchmark:
        "benchmarks/imbalance.tsv"
    localrule: True
    params:
        *identity("imbalance"),
        options=options("imbalance"),
        asks=asks("imbalance"),
    message:
        told("imbalance: choose the long-tailed training rows")
    shell:
        "imbnas imbalance {params.options} --log {log} --record {input.record} {output}"
