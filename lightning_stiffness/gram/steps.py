r"""How far an optimizer moves each parameter for a gradient: its step as a diagonal matrix D.

A gradient step on example i moves the parameters by :math:`-D g_i` and the loss of example j by
:math:`-g_j \cdot D g_i`. For plain gradient descent D is the learning rate, the same for all. Adam and its like
divide each entry by the root of a running mean of its squares, which their state holds.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.product import accumulation_dtype

StepSize = Tensor | float
"""D of one parameter: of its shape, or one number for all of its entries."""


class StepError(ValueError):
    """An optimizer whose steps are not known, or steps that are no steps."""


def optimizer_step(
    optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer], module: nn.Module
) -> dict[str, StepSize]:
    r"""The diagonal D by which an optimizer's next step depends on a gradient, to first order.

    .. math:: \theta(g) = \theta(0) - D g + O(g^2) \qquad D_\text{Adam} =
        \frac{\eta (1 - \beta_1)}{(1 - \beta_1^{t+1}) (\sqrt{\hat v} + \epsilon)} \qquad
        \hat v = \frac{\beta_2 v}{1 - \beta_2^{t+1}}

    with :math:`v` as the optimizer's state has it now, after ``t`` steps (Kingma and Ba, arXiv:1412.6980,
    algorithm 1). What does not depend on the gradient (momentum so far, weight decay) moves the parameters
    whatever the example, and is no part of D; weight decay that is added to the gradient also changes v with it,
    which is left out.

    Args:
        optimizers: SGD, Adam, AdamW, NAdam, Adamax, RMSprop or Adagrad, or several; left as they are.
        module: whose parameters they step.

    Returns:
        Name of each trainable parameter → D. An entry that no gradient has reached yet has D = 0: the state does
        not say how far it would move. So has a parameter that no optimizer steps. Before the first step of all
        D is the learning rate.

    Raises:
        StepError: for another optimizer, also one that derives from these and steps otherwise, for
            ``maximize=True``, or for complex parameters.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> optimizer_step(torch.optim.SGD(net.parameters(), lr=0.1), net)
        {'weight': 0.1}
    """
    every = _listed(optimizers)
    groups = [(o, _rule(o), group) for o in every for group in o.param_groups]
    # A warm-up may begin at 0: what matters is how rates compare
    resting = not any(float(group["lr"]) > 0 for _, _, group in groups)
    begun = any(_stepped(o.state.get(p)) for o, rule, group in groups if rule is not _sgd for p in group["params"])
    steps: dict[int, StepSize] = {}
    for optimizer, rule, group in groups:
        if group.get("maximize"):
            raise StepError(
                "an optimizer with maximize=True climbs what is stiffness's loss: pass a function instead"
            )
        group = {**group, "lr": 1.0 if resting else float(group["lr"])}
        for parameter in group["params"]:
            if parameter.is_complex():
                raise StepError("the steps of complex parameters are not known: leave them out by parameters=")
            state = optimizer.state.get(parameter, {})
            if rule is _sgd or _stepped(state):
                steps[id(parameter)] = rule(group, state)
            else:
                steps[id(parameter)] = 0.0 if begun else group["lr"]
    return {name: steps.get(id(p), 0.0) for name, p in module.named_parameters() if p.requires_grad}


def _listed(optimizers: Any) -> list[torch.optim.Optimizer]:
    if isinstance(optimizers, torch.optim.Optimizer):
        return [optimizers]
    several = isinstance(optimizers, Iterable) and not isinstance(optimizers, str | Mapping | Tensor | nn.Module)
    every = list(optimizers) if several else [optimizers]
    for one in every:
        if not isinstance(one, torch.optim.Optimizer):
            got = repr(one) if one is None or isinstance(one, str | int | float) else type(one).__name__
            raise StepError(
                "expected an optimizer of torch.optim or several, such as torch.optim.Adam(module.parameters()), "
                f"got {f'the class {one.__name__}' if isinstance(one, type) else got}"
            )
    return every


def _rule(optimizer: torch.optim.Optimizer) -> "Callable[[dict[str, Any], Mapping[str, Any]], StepSize]":
    """How it steps, where it is one of torch's, or derives from one and steps as that does."""
    for kind in type(optimizer).__mro__:
        if RULES.get(kind.__name__) is not None and kind is getattr(torch.optim, kind.__name__):
            return RULES[kind.__name__]
        if "step" in vars(kind):
            break
    raise StepError(
        f"expected an optimizer of torch.optim whose steps are known ({', '.join(RULES)}), got "
        f"{type(optimizer).__name__}: pass a function that returns parameter name → step size, a number or a "
        "tensor of its shape"
    )


def _stepped(state: Mapping[str, Any] | None) -> bool:
    """Whether the optimizer has stepped a parameter; some make a state before."""
    return state is not None and len(state) > 0 and float(state.get("step", 1)) > 0


def _sgd(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    momentum = group.get("momentum", 0)
    mine = 1 - group["dampening"] if momentum and state.get("momentum_buffer") is not None else 1.0
    return float(group["lr"] * ((1 + momentum * mine) if group.get("nesterov") else mine))


def _adam(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    beta, beta2 = map(float, group["betas"])
    t = float(state["step"])
    mean = state["max_exp_avg_sq"] if group.get("amsgrad") else beta2 * state["exp_avg_sq"]
    mean = mean / (1 - beta2 ** (t + 1))
    return _over(group["lr"] * (1 - beta) / (1 - beta ** (t + 1)), mean.sqrt(), group["eps"])


def _nadam(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    beta, beta2 = map(float, group["betas"])
    t = float(state["step"])
    decay = group["momentum_decay"]
    now, following = (beta * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t + 1, t + 2))
    product = float(state["mu_product"]) * now
    mine = (1 - now) / (1 - product) + following * (1 - beta) / (1 - product * following)
    mean = beta2 * state["exp_avg_sq"] / (1 - beta2 ** (t + 1))
    return _over(group["lr"] * mine, mean.sqrt(), group["eps"])


def _adamax(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    beta, beta2 = map(float, group["betas"])
    rate = group["lr"] * (1 - beta) / (1 - beta ** (float(state["step"]) + 1))
    return _over(rate, beta2 * state["exp_inf"], 0.0)


def _rmsprop(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    mean = group["alpha"] * state["square_avg"]
    if group.get("centered"):
        mean = (mean - (group["alpha"] * state["grad_avg"]) ** 2).clamp(min=0)
    return _over(group["lr"], mean.sqrt(), group["eps"])


def _adagrad(group: dict[str, Any], state: Mapping[str, Any]) -> StepSize:
    rate = group["lr"] / (1 + float(state["step"]) * group["lr_decay"])
    return _over(rate, state["sum"].sqrt(), group["eps"])


def _over(rate: float, root: Tensor, eps: float) -> Tensor:
    """``rate / (root + eps)``; 0 where no gradient has been yet."""
    root = root.detach().to(accumulation_dtype(root.device))
    return torch.where(root > 0, rate / (root + eps), 0.0)


RULES: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], StepSize]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _nadam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
}
"""Class of an optimizer, or of one it derives from → its steps, from a parameter's group and state."""


UNREACHED = (
    "some entries of the parameters have a step size of 0 and are left out: an optimizer that has had no gradient "
    "of an entry yet, as of a word that no batch held, does not tell how far it would move it"
)


def unreached(step: Mapping[str, StepSize]) -> bool:
    """Whether some entries of a parameter take no step while others do.

    Example:
        >>> unreached({"w": torch.tensor([0.1, 0.0]), "frozen": 0.0}), unreached({"w": 0.1})
        (True, False)
    """
    tensors = [size for size in step.values() if isinstance(size, Tensor)]
    return any(bool((size == 0).any()) and bool((size > 0).any()) for size in tensors)


def _size(name: str, given: Any, dtype: torch.dtype) -> Tensor:
    try:
        return torch.as_tensor(given, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StepError(
            f"expected the step size of {name!r} to be a number or a tensor, got {type(given).__name__}"
        ) from error


def check_mapping(step: object) -> None:
    """Raise ``StepError`` for steps that are no mapping, as of a function that returns nothing."""
    if not isinstance(step, Mapping):
        got = repr(step) if step is None or isinstance(step, str | int | float) else type(step).__name__
        raise StepError(
            "expected step= to be, or to return, a mapping from the name of each parameter to its step size, got "
            f"{got}"
        )


def scales(step: Mapping[str, StepSize], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    r"""Parameter → :math:`\sqrt D`, which turns its gradients into ones whose inner products are
    :math:`g_i \cdot D g_j`; parameters that take no step are left out.

    Args:
        step: parameter → D.
        parameters: what is measured.

    Raises:
        StepError: if a parameter has no D, or one of another shape, or D is negative or not finite, or no
            parameter takes a step.

    Example:
        >>> scales({"w": 0.25}, {"w": nn.Parameter(torch.ones(2))})
        {'w': tensor(0.5000)}
    """
    check_mapping(step)
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        if name not in step:
            raise StepError(f"expected a step size for every parameter measured, got none for {name!r}")
        real = parameter.real if parameter.is_complex() else parameter
        size = _size(name, step[name], accumulation_dtype(real.device)).to(real.device)
        if size.numel() != 1 and size.shape != parameter.shape:
            raise StepError(
                f"expected the step size of {name!r} to be one number or a tensor {list(parameter.shape)}, got "
                f"{list(size.shape)}"
            )
        if not bool(((size >= 0) & torch.isfinite(size)).all()):
            raise StepError(f"expected step sizes of {name!r} to be finite and at least 0")
        if bool((size > 0).any()):
            found[name] = size.sqrt().to(real.dtype) if size.numel() > 1 else size.sqrt().to(real.dtype).reshape(())
    if not found:
        raise StepError("no parameter that is measured takes a step: none is in an optimizer, or all rates are 0")
    return found
