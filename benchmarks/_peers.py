"""Other packages on their way to the Gram of per-example gradients, as their manuals say.

Each function sets up what can be set up once, and returns what is timed: from the network and its probe to the
Gram ``[n, n]``. Where a package works through batches, they are as large as ``room`` bytes allow.
"""

import copy
import tempfile
from collections.abc import Callable

import torch
from _zoo import Network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

Compute = Callable[[], Tensor]


class CannotError(Exception):
    """The package does not treat this network; the message says why."""


class Probe(Dataset[list[Tensor]]):
    """The probe; a batch is cut from it at once, which costs less than to collate single examples."""

    def __init__(self, network: Network):
        self.network = network

    def __len__(self) -> int:
        return self.network.n

    def __getitem__(self, i: int) -> list[Tensor]:
        return self.__getitems__([i])

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        if indices == list(range(len(self))):
            return [self.network.x.detach(), self.network.y]
        return [self.network.x[indices], self.network.y[indices]]


def unchanged(batch: list[Tensor]) -> list[Tensor]:
    """Collates what :class:`Probe` has cut already."""
    return batch


def loader(network: Network, batch: int) -> DataLoader:
    return DataLoader(Probe(network), batch_size=batch, shuffle=False, collate_fn=unchanged)


def batch_size(network: Network, room: int, held: float) -> int:
    """Examples whose gradients, ``held`` times over, fit into ``room`` bytes."""
    return max(1, min(network.n, int(room / (held * network.size * 4))))


def backpack(network: Network, room: int) -> Compute:
    from backpack import backpack as extensions
    from backpack import extend
    from backpack.extensions import BatchGrad

    module = extend(copy.deepcopy(network.module))
    criterion = extend(nn.CrossEntropyLoss(reduction="sum"))

    def compute() -> Tensor:
        with extensions(BatchGrad()):
            criterion(module(network.x), network.y).backward()
        return products(_collected(module, "grad_batch"))

    return compute


def opacus(network: Network, room: int) -> Compute:
    from opacus import GradSampleModule

    module = copy.deepcopy(network.module)
    # Opacus records in training mode alone; layers that differ there stay in evaluation mode.
    module.train()
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            m.eval()
    wrapped = GradSampleModule(module, loss_reduction="sum", strict=False)

    def compute() -> Tensor:
        F.cross_entropy(wrapped(network.x), network.y, reduction="sum").backward()
        return products(_collected(wrapped, "grad_sample"))

    return compute


def kronfluence(network: Network, room: int) -> Compute:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments
    from kronfluence.task import Task
    from kronfluence.utils.dataset import DataLoaderKwargs

    class Classification(Task):
        def compute_train_loss(self, batch: list[Tensor], model: nn.Module, sample: bool = False) -> Tensor:
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch: list[Tensor], model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

    task, probe = Classification(), Probe(network)
    folder = tempfile.TemporaryDirectory()
    module = prepare_model(copy.deepcopy(network.module), task)
    analyzer = Analyzer("gram", module, task, cpu=True, disable_tqdm=True, output_dir=folder.name)
    analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=unchanged))
    analyzer.fit_all_factors("factors", probe, factor_args=FactorArguments(strategy="identity"))
    size = batch_size(network, room, 4)

    def compute(folder: tempfile.TemporaryDirectory = folder) -> Tensor:
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            query_dataset=probe,
            train_dataset=probe,
            per_device_query_batch_size=size,
            per_device_train_batch_size=size,
            overwrite_output_dir=True,
        )
        return analyzer.load_pairwise_scores("scores")["all_modules"].double()

    return compute


def nngeometry(network: Network, room: int) -> Compute:
    from nngeometry.gram import GramMatrix

    if not network.x.is_floating_point():
        raise CannotError("differentiates with respect to the input, and token ids have no gradient")
    module = copy.deepcopy(network.module)

    def losses(*batch: Tensor) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1], reduction="none")[:, None]

    def compute() -> Tensor:
        return GramMatrix(module, loader(network, network.n), function=losses).to_torch()[0, :, 0, :]

    return compute


def dattri(network: Network, room: int) -> Compute:
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return F.cross_entropy(torch.func.functional_call(network.module, parameters, (x[None],)), y[None])

    task = AttributionTask(loss_func=loss, model=network.module, checkpoints=network.module.state_dict())
    attributor = TracInAttributor(task=task, weight_list=torch.ones(1), normalized_grad=False)
    attributor.projector_kwargs = None  # no random projection: the inner products themselves
    size = batch_size(network, room, 7)
    return lambda: attributor.attribute(loader(network, size), loader(network, size)).double()


def products(gradients: dict[str, Tensor]) -> Tensor:
    """G Gᵀ of per-example gradients, parameter by parameter."""
    first = next(iter(gradients.values()))
    total = torch.zeros(len(first), len(first), device=first.device)
    for gradient in gradients.values():
        flat = gradient.detach().flatten(1)
        total += flat @ flat.T
    return total.double()


def _collected(module: nn.Module, attribute: str) -> dict[str, Tensor]:
    """Per-example gradients that were left on the parameters, taken from there."""
    found: dict[str, Tensor] = {}
    missing = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = getattr(parameter, attribute, None)
        setattr(parameter, attribute, None)
        parameter.grad = None
        if gradient is None:
            missing.append(name)
        elif not isinstance(gradient, Tensor):
            raise CannotError(f"{name} has several gradients, one for each use, and they are not added")
        else:
            found[name] = gradient
    if missing:
        raise CannotError(f"no per-example gradient for {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}")
    return found
