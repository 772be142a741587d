# A checkpoint, so that Snakemake looks again at what comes after it: the same architecture is not trained twice.
checkpoint search:
    input:
        record=record("search"),
        adapted="models/adapted.safetensors",
        longtail="data/longtail.parquet",
        train=split("target/train"),
        validation=split("target/validation"),
    output:
        search="results/search.parquet",
        facts="results/search.json",
        front="results/front.parquet",
        architecture="results/architecture.json",
        handed="models/handed.safetensors",
    log:
        "logs/search.log",
    benchmark:
        "benchmarks/search.tsv"
    threads: threads("search", "target")
    resources:
        mem_mb=memory("search"),
        runtime=minutes("search"),
        gpu=gpus("search"),
        gpu_percent=gpu_percent("search"),
        nodes=1,
    params:
        *identity("search"),
        options=options("search"),
        asks=asks("search"),
    message:
        told("search: rank subnets on the validation rows")
    shell:
        "imbnas search {params.options} --log {log} --record {input.record} {output}"
