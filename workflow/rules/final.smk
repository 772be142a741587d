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
        metrics=report(
            "results/metrics.json",
            caption="../report/metrics.rst",
            category="Scores",
            labels={"file": "metrics"},
        ),
        details="results/details.json",
        classes="results/classes.parquet",
        classes_figure=report(
            "results/figures/classes.png",
            caption="../report/classes.rst",
            category="Figures",
            labels={"figure": "classes"},
        ),
        confusion_figure=report(
            "results/figures/confusion.png",
            caption="../report/confusion.rst",
            category="Figures",
            labels={"figure": "confusion"},
        ),
        architecture_figure=report(
            "results/figures/architecture.png",
            caption="../report/architecture.rst",
            category="Figures",
            labels={"figure": "architecture"},
        ),
        architecture_drawing="results/figures/architecture.svg",
        search_figure=report(
            "results/figures/search.png",
            caption="../report/search.rst",
            category="Figures",
            labels={"figure": "search"},
        ),
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
