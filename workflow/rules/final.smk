rule retrain:
    input:
        record=record("retrain"),
        architecture="results/architecture.json",
        longtail="data/longtail.parquet",
        train=split("target/train"),
        validation=split("target/validation"),
    output:
        final="models/final.safetensors",
        references="models/references.safetensors",
    log:
        "logs/retrain.log",
    benchmark:
        "benchmarks/retrain.tsv"
    threads: threads("target")
    resources:
        mem_mb=memory(8000),
        runtime=1440,
        gpu=GPU,
    params:
        *identity("retrain"),
    message:
        "retrain: train the chosen subnet and its references from scratch"
    shell:
        "imbnas retrain --config {SNAPSHOT} --code {CODE[retrain]} --log {log}"
        " && python {RECORD:q} {input.record} {output}"


rule evaluate:
    input:
        record=record("evaluate"),
        final="models/final.safetensors",
        references="models/references.safetensors",
        search="results/search.parquet",
        architecture="results/architecture.json",
        longtail="data/longtail.parquet",
        imbalance="results/imbalance.json",
        test=split("target/test"),
    output:
        metrics="results/metrics.json",
        details="results/details.json",
        classes="results/classes.parquet",
        figures=expand("results/figures/{name}.png", name=["classes", "confusion", "search"]),
        plots=expand("results/plots/{name}.csv", name=["classes", "confusion", "search"]),
    log:
        "logs/evaluate.log",
    benchmark:
        "benchmarks/evaluate.tsv"
    threads: threads("target")
    resources:
        mem_mb=memory(8000),
        runtime=240,
        gpu=GPU,
    params:
        *identity("evaluate"),
    message:
        "evaluate: measure the final networks on the test split"
    shell:
        "imbnas evaluate --config {SNAPSHOT} --code {CODE[evaluate]} --log {log}"
        " && python {RECORD:q} {input.record} {output}"
