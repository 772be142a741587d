"""`imbnas inspect`: one look at the images before anything trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbnas.cli_options import ConfigFile, Root
from imbnas.errors import UserError, visible
from imbnas.files import check_writable

if TYPE_CHECKING:
    from imbnas.params.config import Params


def inspect(
    images: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Look at this directory, .npz file or index; default: the target's."),
    ] = None,
    config: ConfigFile = Path("params.yaml"),
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The page, HTML.")] = Path("inspection.html"),
    root: Root = Path(),
) -> None:
    """Look at the images before anything trains: classes, splits, sizes, odd files, duplicates, and what fits them."""
    file = root / output
    check_writable(file)
    from rich.console import Console

    from imbnas.inspection.advice import advise
    from imbnas.inspection.contact_sheet import contact_sheet
    from imbnas.inspection.image_findings import read_images
    from imbnas.inspection.inspection_page import SHOWN, advice_block, class_block, problems, show, summary
    from imbnas.inspection.minutes import expect
    from imbnas.inspection.split_plan import plan_splits
    from imbnas.report.page import write_page

    # A name that a person types is seen from where they are, whatever the project is.
    preset, params = _parameters(images if images is None or root == Path() else images.absolute(), config)
    found = read_images(params.target, root / params.target.root, "target")
    train = found["train"]
    plan = plan_splits(params, found, root)
    advice = advise(params, train, plan, _has_gpu(), preset)
    odd = problems(found, plan)
    try:
        time = expect(params, train.raw, plan, root).line(root)
    except UserError as error:
        time = f"expected minutes: not known: {'see what is refused' if plan.faults else error}"
    first = [summary(found, plan), advice_block(advice), *([odd] if odd else [])]
    show([*first, class_block(train, plan, SHOWN)], Console())
    title = f"{visible(params.target.root)}: {len(train.raw):,} images in {len(train.raw.classes)} classes"
    write_page(file, title, [*first, class_block(train, plan), contact_sheet(train, train.counts)], time)
    print(visible(time))
    print(f"{visible(file)}: the same with all classes, and pictures of the rarest")


def _parameters(images: Path | None, config: Path) -> tuple[str | None, Params]:
    """Return the parameters of the file, or those of a preset for the images; and the preset's name."""
    if images is None:
        from imbnas.params.config import load

        return None, load(config)
    from imbnas.inspection.own_directory import PRESET, own_params

    return PRESET, own_params(images)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
