"""The names that Once-for-All's own checkpoints give to the tensors of a supernet, old ones and new."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from imbnas.errors import UserError

_PARTS = {
    "expand.": "inverted_bottleneck.conv.",
    "expand_norm.": "inverted_bottleneck.bn.",
    "depthwise.maps.to5": "depth_conv.conv.7to5_matrix",
    "depthwise.maps.to3": "depth_conv.conv.5to3_matrix",
    "depthwise.": "depth_conv.conv.",
    "depthwise_norm.": "depth_conv.bn.",
    "squeeze.reduce.": "depth_conv.se.fc.reduce.",
    "squeeze.excite.": "depth_conv.se.fc.expand.",
    "project.": "point_linear.conv.",
    "project_norm.": "point_linear.bn.",
}
"""Of a block."""
_WHOLE = {
    "stem.0.": "first_conv.conv.",
    "stem.1.": "first_conv.bn.",
    "last.0.": "final_expand_layer.conv.",
    "last.1.": "final_expand_layer.bn.",
    "pool.mix.": "feature_mix_layer.conv.",
    "head.": "classifier.linear.",
}
_FIRST = "stem.3."
"""The block before the stages, theirs 0."""
_DOUBLED = {
    ".mobile_inverted_conv.": ".conv.",
    ".bn.bn.": ".bn.",
    ".conv.conv.": ".conv.",
    ".linear.linear.": ".linear.",
}
_COUNTER = ".num_batches_tracked"


def published_name(name: str) -> str:
    """Return the name in a checkpoint, without doublings, of the tensor that a supernet here calls `name`."""
    if name.startswith(_FIRST):
        return "blocks.0.conv." + _renamed(name.removeprefix(_FIRST), _PARTS)
    if name.startswith("blocks."):
        _, number, rest = name.split(".", 2)
        return f"blocks.{int(number) + 1}.conv." + _renamed(rest, _PARTS)
    return _renamed(name, _WHOLE)


def plain_name(name: str) -> str:
    """Return a checkpoint's name without what its versions differ in."""
    name = name.removeprefix("module.")
    for doubled, plain in _DOUBLED.items():
        name = name.replace(doubled, plain)
    return name


def from_published(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    name_of: Callable[[str], str] = published_name,
    whose: str = "a supernet of Once-for-All's MobileNetV3",
) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under the names of the supernet whose state is like `expected`.

    `name_of` says what a checkpoint calls the supernet's tensors, and `whose` it is. Counters of batches, which old
    checkpoints lack, are 0 there. Raises UserError for a tensor that is missing, of another shape, or of no supernet.
    """
    theirs = {plain_name(name): name for name in found}
    state: dict[str, Tensor] = {}
    for ours, like in expected.items():
        name = name_of(ours)
        if name not in theirs and name.endswith(_COUNTER):
            state[ours] = like.new_zeros((), device="cpu")
            continue
        if name not in theirs:
            raise UserError(f"has no tensor {name}, expected {whose}")
        tensor = found[theirs.pop(name)]
        if tensor.shape != like.shape:
            raise UserError(
                f"found a tensor {name} of shape {list(tensor.shape)}, expected {list(like.shape)}: made for another "
                "number of channels or classes, or another width (space.ofa.width) or model (space.torchvision.model)"
            )
        state[ours] = tensor.to(like.dtype).contiguous()
    if theirs:
        raise UserError(f"found a tensor {min(theirs.values())}, expected none of that name in {whose}")
    return state


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)
