rule source:
    input:
        record=record("source"),
    output:
        train=split("source/train"),
        validation=split("source/validation"),
    log:
        "logs/source.log",
    benchmark:
        "benchmarks/source.tsv"
    resources:
        mem_mb=memory(4000),
        runtime=240,
    params:
        *identity("source"),
        options=options("source"),
    message:
        "source: materialise the balanced source dataset"
    shell:
        "imbnas source {params.options} --log {log}" " && python {RECORD:q} {input.record} {output}"


rule target:
    input:
        record=record("target"),
    output:
        train=split("target/train"),
        validation=split("target/validation"),
        test=split("target/test"),
    log:
        "logs/target.log",
    benchmark:
        "benchmarks/target.tsv"
    resources:
        mem_mb=memory(4000),
        runtime=240,
    params:
        *identity("target"),
        options=options("target"),
    message:
        "target: materialise the target dataset's splits"
    shell:
        "imbnas target {params.options} --log {log}" " && python {RECORD:q} {input.record} {output}"


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
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        *identity("imbalance"),
        options=options("imbalance"),
    message:
        "imbalance: choose the long-tailed training rows"
    shell:
        "imbnas imbalance {params.options} --log {log}" " && python {RECORD:q} {input.record} {output}"
