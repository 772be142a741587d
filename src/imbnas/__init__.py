"""imbnas: neural architecture search for long-tailed data, as a reproducible workflow.

What `__all__` names is public and stable: it changes with a line in CHANGELOG.md. docs/python.md shows it in use. Each
name is imported when it is first asked for, so that `import imbnas` stays free of torch, and so that a step's code is
what it imports itself.
"""

__version__ = "0.1.0"

_PUBLIC = {
    "Network": "saved",
    "build_loss": "longtail.losses",
    "class_counts": "data.class_sizes",
    "choose_rows": "data.class_sizes",
    "class_weights": "longtail.weights",
    "make_head": "longtail.heads",
    "NearestClassMean": "longtail.heads",
    "tau_normalise": "longtail.heads",
    "posthoc_adjustment": "longtail.heads",
    "ClassSampler": "longtail.samplers",
    "ProgressiveSampler": "longtail.samplers",
    "ClassAwareSampler": "longtail.samplers",
    "DeferredSampler": "longtail.samplers",
    "power_probabilities": "longtail.samplers",
    "switch_epoch": "longtail.schedules",
    "summarise": "longtail.metrics",
    "standard_error": "longtail.metrics",
    "shot_groups": "longtail.shots",
    "expected_calibration_error": "longtail.calibration",
    "load_subnet": "saved",
    "make_space": "spaces.registry",
    "SpaceParams": "params.space_options",
    "UserError": "errors",
}
"""The module of each public name."""

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Return a public name, imported from its module."""
    from importlib import import_module

    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
