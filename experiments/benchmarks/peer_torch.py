"""The torchvision package's VGG as sides of a comparison; needs the extra "peers"."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from interleave import Side
from peer_flax import DECAY, MEAN, MOMENTUM, RATE
from torch import nn
from torchvision.models import vgg

from vgg_jax.architectures import FC_CHANNELS, blocks_of
from vgg_jax.errors import InputError
from vgg_jax.model import VGG, scaled

TORCHVISION = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}


def torch_net(model: VGG) -> Any:
    """A VGG of torchvision, this net at this width, channels_last; InputError where torchvision has no such net."""
    if model.arch not in TORCHVISION:
        raise InputError(f"torchvision has no net {model.arch}: choose one of {', '.join(TORCHVISION)}")
    plan = [
        entry
        for block in blocks_of(model.arch)
        for entry in [*(scaled(layer.channels, model.width_multiplier) for layer in block), "M"]
    ]
    net = vgg.VGG(vgg.make_layers(plan), model.num_classes, dropout=model.dropout_rate)  # type: ignore[arg-type]
    window, hidden = model.crop_size // 32, scaled(FC_CHANNELS, model.width_multiplier)
    net.avgpool = nn.AdaptiveAvgPool2d((window, window))
    top = scaled(512, model.width_multiplier) * window**2
    for place, layer in ((0, (top, hidden)), (3, (hidden, hidden)), (6, (hidden, model.num_classes))):
        net.classifier[place] = nn.Linear(*layer)
    return net.to("cuda" if _cuda() else "cpu", memory_format=torch.channels_last)


def dense_net(model: VGG) -> Any:
    """`torch_net` in its fully convolutional form."""
    net = torch_net(model)
    top = net.classifier
    window = model.crop_size // 32
    convolutions = [_as_convolution(top[0], window), nn.ReLU(), _as_convolution(top[3], 1), nn.ReLU()]
    dense = nn.Sequential(*net.features, *convolutions, _as_convolution(top[6], 1))
    return dense.to(memory_format=torch.channels_last)


def _as_convolution(linear: Any, window: int) -> Any:
    convolution = nn.Conv2d(linear.in_features // window**2, linear.out_features, window, device=linear.weight.device)
    convolution.weight.data = linear.weight.data.reshape(convolution.weight.shape)
    convolution.bias = linear.bias
    return convolution


def torch_forward(
    model: VGG, images: np.ndarray, *, dense: bool = False, amp: bool = False, compiled: bool = False
) -> Side:
    """The forward pass of torchvision's net in eval mode.

    dense: its fully connected layers turned into convolutions. amp: bfloat16 where torch chooses. compiled: by
    torch.compile.
    """
    net = (dense_net(model) if dense else torch_net(model)).eval()
    run = torch.compile(net) if compiled else net
    batch = _torch_images(images)

    def side() -> None:
        with torch.inference_mode(), _autocast(amp):
            run(_subtract_mean(batch))
        _synchronize()

    return side


def torch_train(
    model: VGG, images: np.ndarray, labels: np.ndarray, *, amp: bool = False, compiled: bool = False
) -> Side:
    """The torchvision package's training step on a batch that stays where it is."""
    step = torch_step(model, amp=amp, compiled=compiled)
    batch = _torch_images(images)
    targets = torch.as_tensor(labels, dtype=torch.long, device=batch.device)
    return lambda: step(batch, targets)


def torch_step(model: VGG, *, amp: bool = False, compiled: bool = False) -> Callable[[Any, Any], None]:
    """A step on images uint8 [N, 3, H, W] and their labels: cross entropy, SGD with momentum and weight decay."""
    net = torch_net(model).train()
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    run = torch.compile(net) if compiled else net
    device = next(net.parameters()).device

    def step(images: Any, labels: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(amp):
            logits = run(_subtract_mean(images.to(device, non_blocking=True, memory_format=torch.channels_last)))
            loss = torch.nn.functional.cross_entropy(logits, labels.to(device, non_blocking=True))
        loss.backward()
        optimizer.step()
        _synchronize()

    return step


def _cuda() -> bool:
    return torch.cuda.is_available() and jax.default_backend() == "gpu"


def _synchronize() -> None:
    if _cuda():
        torch.cuda.synchronize()


def _autocast(enabled: bool) -> Any:
    return torch.autocast("cuda" if _cuda() else "cpu", torch.bfloat16, enabled=enabled)


def _torch_images(images: np.ndarray) -> Any:
    return torch.as_tensor(images).permute(0, 3, 1, 2).to("cuda" if _cuda() else "cpu")  # NHWC in memory: channels_last


def _subtract_mean(batch: Any) -> Any:
    return batch.float() - torch.tensor(MEAN, device=batch.device).reshape(1, 3, 1, 1)
