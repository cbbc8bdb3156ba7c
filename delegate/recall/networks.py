"""Small networks whose gradients are written out: an update costs little but matrix products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adam import adam

Activation = Literal["tanh", "relu"]


class Parameters:
    """Named tensors that are views of one vector, so that an optimiser makes one step for all.

    vector: float32 [P], its gradient beside it
    values, gradients: name -> view, of the shape asked for
    moments: of Adam, by name: step, exp_avg, exp_avg_sq
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.vector = torch.nn.Parameter(torch.zeros(sum(sizes), device=device))
        self.vector.grad = torch.zeros_like(self.vector)
        self.values = self._views(self.vector.detach(), sizes, shapes)
        self.gradients = self._views(self.vector.grad, sizes, shapes)
        self.moments = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(self.vector.detach()),
            "exp_avg_sq": torch.zeros_like(self.vector.detach()),
        }

    def descend(self, learning_rate: float) -> None:
        """A step of Adam: the function of it, because its class takes as long again."""
        vector, moments = self.vector, self.moments
        assert vector.grad is not None
        adam(
            [vector],
            [vector.grad],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],
            [moments["step"]],
            fused=vector.device.type != "mps",
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    @staticmethod
    def _views(
        vector: Tensor, sizes: list[int], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Tensor]:
        parts = vector.split(sizes)
        return {
            name: part.view(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }


def mlp_shapes(name: str, members: int, widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of an `Mlp`: weights [M, in, out] and biases [M, 1, out]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (into, out) in enumerate(pairwise(widths)):
        shapes[f"{name}.{layer}.weight"] = (members, into, out)
        shapes[f"{name}.{layer}.bias"] = (members, 1, out)
    return shapes


class Mlp:
    """M networks of the same widths, evaluated at once.

    Weights start as torch.nn.Linear's do: uniform within 1 / sqrt(inputs).
    """

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        activation: Activation,
        generator: torch.Generator,
    ) -> None:
        self.activation = activation
        self._minus_one = parameters.vector.new_tensor(-1.0)
        kinds = ("weight", "bias")
        layers = sum(
            key.startswith(f"{name}.") and key.endswith(".weight") for key in parameters.values
        )
        names = [[f"{name}.{layer}.{kind}" for kind in kinds] for layer in range(layers)]
        self._layers = [(parameters.values[w], parameters.values[b]) for w, b in names]
        self._gradients = [(parameters.gradients[w], parameters.gradients[b]) for w, b in names]
        for weight, bias in self._layers:
            bound = 1 / math.sqrt(max(weight.shape[1], 1))
            for tensor in (weight, bias):
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_((2 * drawn - 1) * bound)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """The inputs [M, B, in], every hidden layer, and last the outputs [M, B, out]."""
        layers = [inputs]
        for depth, (weight, bias) in enumerate(self._layers):
            if depth == len(self._layers) - 1:
                layer = torch.baddbmm(bias, layers[-1], weight)
            elif self.activation == "relu":
                layer = torch.baddbmm(bias, layers[-1], weight).relu_()
            else:
                # tanh x as 2 sigmoid 2x - 1, which is several times as fast and as exact.
                layer = torch.baddbmm(bias, layers[-1], weight, beta=2, alpha=2).sigmoid_()
                torch.add(self._minus_one, layer, alpha=2, out=layer)
            layers.append(layer)
        return layers

    def backward(self, layers: list[Tensor], gradient: Tensor) -> None:
        """Write the gradient of every parameter, given that of the outputs [M, B, out].

        layers: what `forward` returned
        """
        for depth in reversed(range(len(self._layers))):
            inputs, weight = layers[depth], self._layers[depth][0]
            of_weight, of_bias = self._gradients[depth]
            torch.bmm(inputs.transpose(1, 2), gradient, out=of_weight)
            torch.sum(gradient, 1, keepdim=True, out=of_bias)
            if depth:
                gradient = torch.bmm(gradient, weight.transpose(1, 2))
                if self.activation == "relu":
                    threshold = torch.ops.aten.threshold_backward.grad_input
                    threshold(gradient, inputs, 0, grad_input=gradient)
                else:
                    torch.ops.aten.tanh_backward.grad_input(gradient, inputs, grad_input=gradient)
