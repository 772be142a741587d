rule retrain:
    input:
        record=record("retrain"),
        architecture="results/architecture.json",
        handed="models/handed.safetensors",
        longtail="data/longtail.parquet",
        train=split("target/train"),
        validation=split("target/validation"),
        source=split("source/train"),  # for `retrain.rows: all`
        source_validation=split("source/validation"),
    output:
        final="models/final.safetensors",
        references="models/references.safetensors",
        losses=report(
            "results/plots/retrain.csv",
            caption="../report/training.rst",
            category="Training",
            labels={"network": "final and references"},
        ),
    log:
        "logs/retrain.log",
    benchmark:
        "benchmarks/retrain.tsv"
    threads: threads("retrain", "target")
    resources:
        mem_mb=memory("retrain"),
        runtime=minutes("retrain"),
        gpu=gpus("retrain"),
        gpu_percent=gpu_percent("retrain"),
        nodes=1,
    params:
        *identity("retrain"),
        options=options("retrain"),
        asks=asks("retrain"),
    message:
        told("retrain: train the chosen subnet and its references")
    shell:
        "imbnas retrain {params.options} --log {log} --record {input.record} {output}"


rule evaluate:
    input:
        record=record("evaluate"),
        final="models/final.safetensors",
        references="models/references.safetensors",
        search="results/search.parquet",
        facts="results/search.json",
        front="results/front.parquet",
        architecture="results/architecture.json",
        longtail="data/longtail.parquet",
        imbalance="results/imbalance.json",
        train=split("target/train"),  # for `evaluate.int8`
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
        predictions="results/predictions.parquet",
        table=report(
            "results/table.html",
            caption="../report/metrics.rst",
            category="Scores",
            labels={"file": "table"},
        ),
        model_card=report(
            "results/model-card.md",
            caption="../report/cards.rst",
            category="Cards",
            labels={"card": "model"},
        ),
        dataset_card=report(
            "results/dataset-card.md",
            caption="../report/cards.rst",
            category="Cards",
            labels={"card": "dataset"},
        ),
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
        reliability_figure=report(
            "results/figures/reliability.png",
            caption="../report/reliability.rst",
            category="Figures",
            labels={"figure": "reliability"},
        ),
        weights_figure=report(
            "results/figures/weights.png",
            caption="../report/weights.rst",
            category="Figures",
            labels={"figure": "weights"},
        ),
        search_figure=report(
            "results/figures/search.png",
            caption="../report/search.rst",
            category="Figures",
            labels={"figure": "search"},
        ),
        front_figure=report(
            "results/figures/front.png",
            caption="../report/front.rst",
            category="Figures",
            labels={"figure": "front"},
        ),
        references_figure=report(
            "results/figures/references.png",
            caption="../report/references.rst",
            category="Figures",
            labels={"figure": "references"},
        ),
        plots=expand("results/plots/{name}.csv", name=["classes", "confusion", "reliability", "search"]),
    log:
        "logs/evaluate.log",
    benchmark:
        "benchmarks/evaluate.tsv"
    threads: threads("evaluate", "target")
    resources:
        mem_mb=memory("evaluate"),
        runtime=minutes("evaluate"),
        gpu=gpus("evaluate"),
        gpu_percent=gpu_percent("evaluate"),
        nodes=1,
    params:
        *identity("evaluate"),
        options=options("evaluate"),
        asks=asks("evaluate"),
    message:
        told("evaluate: measure the final networks on the test split")
    shell:
        "imbnas evaluate {params.options} --log {log} --record {input.record} {output}"
