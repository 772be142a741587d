rule supernet:
    input:
        record=record("supernet"),
        reused=guarded(lambda wildcards: reused("supernet")),
        train=split("source/train"),
        validation=split("source/validation"),
    output:
        supernet="models/supernet.safetensors",
        losses=report(
            "results/plots/supernet.csv",
            caption="../report/training.rst",
            category="Training",
            labels={"network": "supernet"},
        ),
    log:
        "logs/supernet.log",
    benchmark:
        "benchmarks/supernet.tsv"
    threads: threads("supernet", "source")
    resources:
        mem_mb=memory("supernet"),
        runtime=minutes("supernet"),
        gpu=gpus("supernet"),
        gpu_percent=gpu_percent("supernet"),
        nodes=1,
    params:
        *identity("supernet"),
        options=options("supernet"),
        asks=asks("supernet"),
    message:
        told("supernet: train the supernet on the balanced source")
    shell:
        "imbnas supernet {params.options} --log {log} --record {input.record} {output}"


rule adapt:
    input:
        record=record("adapt"),
        supernet="models/supernet.safetensors",
        longtail="data/longtail.parquet",
        train=split("target/train"),
        validation=split("target/validation"),
    output:
        adapted="models/adapted.safetensors",
    log:
        "logs/adapt.log",
    benchmark:
        "benchmarks/adapt.tsv"
    threads: threads("adapt", "target")
    resources:
        mem_mb=memory("adapt"),
        runtime=minutes("adapt"),
        gpu=gpus("adapt"),
        gpu_percent=gpu_percent("adapt"),
        nodes=1,
    params:
        *identity("adapt"),
        options=options("adapt"),
        asks=asks("adapt"),
    message:
        told("adapt: carry the supernet over to the long-tailed target")
    shell:
        "imbnas adapt {params.options} --log {log} --record {input.record} {output}"
