"""The processes that train one network together: which rows each takes, and what they tell each other.

They compute what one process would: all see the same batch, each passes its share of the rows through the network, and
the loss is taken of everybody's outputs (docs/decisions/0014). Each process is a rank, numbered from 0; the environment
says which, in torchrun's variables.
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imbnas.data.loading import AheadStore, Early, Task
from imbnas.errors import PeerLost, UserError
from imbnas.training import RENDEZVOUS
from imbnas.training.batchnorm import synchronised

T = TypeVar("T")


class Ranks:
    """This process among those of its training. By default it is alone: then every method does nothing at all."""

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0, control: Any = None) -> None:
        """Take this process's number among `count`, that on its machine, and the group for what concerns no device."""
        self.rank, self.count, self.local = rank, count, local
        self._control = control

    @classmethod
    def join(cls, processes: int, cuda: bool) -> Ranks:
        """Meet the other processes. Raise UserError where the environment is that of another number of them."""
        if processes == 1:
            return cls()
        rank, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if count != processes:
            raise UserError(f"runtime.processes: found {processes} where {count} were started, expected {count}")
        if cuda and local >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise UserError(f"runtime.processes: found more on this machine than its GPUs, expected at most {found}")
        if cuda:
            torch.cuda.set_device(local)
        file = os.environ.get(RENDEZVOUS)
        method = f"file://{file}" if file else "env://"
        with _peers():
            dist.init_process_group("nccl" if cuda else "gloo", method, rank=rank, world_size=count)
            # Questions that have nothing to do with a GPU must not make the processor wait for it.
            control = dist.new_group(backend="gloo") if cuda else dist.group.WORLD
        atexit.register(dist.destroy_process_group)
        return cls(rank, count, local, control)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shared(self, read: Callable[[], T]) -> T:
        """Return what `read` returns in the first process, which alone calls it."""
        if self.count == 1:
            return read()
        told = [read() if self.first else None]
        with _peers():
            dist.broadcast_object_list(told, src=0, group=self._control)
        return told[0]  # type: ignore[return-value]

    def any(self, here: bool) -> bool:
        """Return whether `here` is true in any process; all wait for each other."""
        if self.count == 1:
            return here
        flag = torch.tensor([int(here)])
        with _peers():
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._control)
        return bool(flag.item())

    def own(self, inputs: Tensor, parts: int = 1) -> Tensor:
        """Return this process's rows of a batch (N, ...); of each of `parts` equal parts one behind the other."""
        if self.count == 1:
            return inputs
        return inputs.index_select(0, _own(len(inputs), parts, self.rank, self.count).to(inputs.device))

    def gather(self, outputs: Any, rows: int, parts: int = 1) -> Any:
        """Return everybody's `outputs` in the order of the batch, (`rows`, ...); gradients flow back to each process.

        Every process must go on to the same loss: the gradient that it has for its own rows counts as the whole.
        """
        if self.count == 1:
            return outputs
        if isinstance(outputs, tuple):
            return tuple(self.gather(one, rows, parts) for one in outputs)
        gathered: Tensor = _Gather.apply(outputs, self, rows, parts)
        return gathered

    def stack(self, values: Tensor) -> Tensor:
        """Return the tensors of all processes, of one shape, as (processes, ...)."""
        found = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(found, values)
        return torch.stack(found)

    def add_up(self, values: Tensor) -> Tensor:
        """Replace `values` by their sum over all processes, the same bits in each, and return it."""
        dist.all_reduce(values)
        return values

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over the processes; all have taken the same path, so the same are None."""
        if self.count == 1:
            return
        _in_buckets([p.grad for p in parameters if p.grad is not None], self.add_up)

    def spread(self, store: AheadStore) -> AheadStore:
        """Return `store`, of whose batches each process makes its share."""
        return store if self.count == 1 else _Spread(store, self)

    @contextmanager
    def training(self, model: nn.Module) -> Iterator[None]:
        """Begin with the first process's weights, normalise with the statistics of the whole batch (on CUDA too).

        Raises PeerLost where another process has ended.
        """
        if self.count == 1:
            yield
            return
        with _peers(), synchronised(model, self.stack, self.add_up):
            # Seeds make them equal already, where all machines have one kind of processor.
            _in_buckets(list(model.state_dict().values()), lambda values: dist.broadcast(values, 0))
            yield
        # Who ends closes the connections: not while another process still waits for the last step's sums. Whether that
        # one has heard this answer is all the same.
        with suppress(PeerLost):
            self.any(False)


class _Gather(torch.autograd.Function):
    """All rows of a batch, from each process its own; sizes may differ by one."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, ranks: Ranks, rows: int, parts: int) -> Tensor:
        most = parts * -(-rows // parts // ranks.count)
        padded = outputs.new_zeros((most, *outputs.shape[1:]))
        padded[: len(outputs)] = outputs
        ctx.place = rows, parts, ranks.rank, ranks.count
        order = _order(rows, parts, ranks.count).to(outputs.device)
        return ranks.stack(padded).flatten(0, 1).index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient.index_select(0, _own(*ctx.place).to(gradient.device)), None, None, None


class _Spread:
    """A store of which each process makes its share of every batch."""

    def __init__(self, store: AheadStore, ranks: Ranks) -> None:
        self._store, self._ranks = store, ranks

    @property
    def decodes(self) -> bool:
        """Whether images are decoded from files."""
        return self._store.decodes

    def ahead(self, tasks: Iterable[Task], early: Early) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """Yield the whole batches."""
        ranks = self._ranks
        sizes: deque[int] = deque()

        def own() -> Iterator[Task]:
            for task in tasks:
                count = len(task.positions)
                sizes.append(count)
                # A batch that does not go round is made by all.
                if count < ranks.count:
                    yield task
                else:
                    rows = _own(count, 1, ranks.rank, ranks.count)
                    yield Task(task.positions[rows.numpy()], task.seed, rows, count)

        for images, labels, generator in self._store.ahead(own(), early):
            count = sizes.popleft()
            if count < ranks.count:
                yield images, labels, generator
            else:
                yield ranks.gather(images, count), ranks.gather(labels, count), generator


def _sizes(rows: int, count: int) -> list[int]:
    """Return each rank's number of rows: the first ones take the rest."""
    return [rows // count + (rank < rows % count) for rank in range(count)]


@lru_cache(maxsize=64)
def _own(rows: int, parts: int, rank: int, count: int) -> Tensor:
    """Return the positions of a rank's rows in a batch; neighbours in each part."""
    part = rows // parts
    sizes = _sizes(part, count)
    start = sum(sizes[:rank])
    return torch.cat([torch.arange(k * part + start, k * part + start + sizes[rank]) for k in range(parts)])


@lru_cache(maxsize=64)
def _order(rows: int, parts: int, count: int) -> Tensor:
    """Return where the rows of a batch lie among those of all ranks, each padded to the length of the longest."""
    part = rows // parts
    sizes = _sizes(part, count)
    place = torch.empty(rows, dtype=torch.int64)
    for rank in range(count):
        own = _own(rows, parts, rank, count)
        place[own] = rank * parts * sizes[0] + torch.arange(len(own))
    return place


def _in_buckets(tensors: list[Tensor], change: Callable[[Tensor], Any]) -> None:
    """Let `change` act on all tensors at once, one flat copy for each dtype, and copy the result back."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        chosen = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in chosen])
        change(flat)
        for tensor, values in zip(chosen, flat.split([tensor.numel() for tensor in chosen]), strict=True):
            tensor.copy_(values.view(tensor.shape))


@contextmanager
def _peers() -> Iterator[None]:
    """Tell the loss of another process apart from errors of this one."""
    try:
        yield
    except RuntimeError as error:
        # gloo's errors have no type of their own, but the place in its source.
        if isinstance(error, dist.DistError) or "gloo/" in str(error):
            raise PeerLost(str(error).splitlines()[0]) from error
        raise


ALONE = Ranks()
"""The only process of its training."""
