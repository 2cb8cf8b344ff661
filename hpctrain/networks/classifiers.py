"""Networks that classify images, as chains of torch modules.

The fully connected network and LeNet have the shapes of Trotti, Cruz, Kopaničáková, Krause, arXiv
2312.13677: 784-32-32-10 has 26,506 parameters, LeNet 62,006 on 32 x 32 images of three channels.
"""

from torch import Tensor, nn

from hpctrain.networks.faults import NetworkError

LENET_SIZE = 32
RESNET_CHANNELS = (64, 128, 256, 512)
NORM_GROUPS = 32


def make_fcnn(
    inputs: int, hidden: list[int], classes: int, activation: type[nn.Module]
) -> nn.Module:
    """Makes linear maps inputs → hidden … → classes, with an activation between them."""
    parts: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        parts += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(inputs, classes))


def lenet(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Makes two convolutions 5 x 5 of 6 and 16 channels, then layers of 120, 84, `classes` units.

    With ReLU and max-pooling. Images smaller than 32 x 32 get a border of zeros, as those of MNIST
    in LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86(11), 1998.

    Args:
        shape: (channels, height, width) of an image.
        classes: the number of classes.
    """
    channels, height, width = image_shape(shape, "lenet")
    if max(height, width) > LENET_SIZE:
        raise NetworkError(f"lenet takes images up to 32 x 32, not {height} x {width}")
    right, below = LENET_SIZE - width, LENET_SIZE - height
    return nn.Sequential(
        nn.ZeroPad2d((right // 2, right - right // 2, below // 2, below - below // 2)),
        nn.Conv2d(channels, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Makes ResNet-18 for small images, with group normalisation instead of batch normalisation.

    With batch normalisation the loss of a sample depends on the others of its batch. So it is no
    sum over samples, and would differ with the number of ranks. Group normalisation acts within
    each sample: Wu and He, ECCV 2018, arXiv 1803.08494. The first convolution is 3 x 3, without
    pooling behind it, as in section 4.2 of He, Zhang, Ren, Sun, CVPR 2016.

    Args:
        shape: (channels, height, width) of an image.
        classes: the number of classes.
    """
    channels, _, _ = image_shape(shape, "resnet-18")
    width = RESNET_CHANNELS[0]
    parts: list[nn.Module] = [_convolution(channels, width), _norm(width), nn.ReLU()]
    for stage, outputs in enumerate(RESNET_CHANNELS):
        parts.append(ResidualBlock(width, outputs, stride=1 if stage == 0 else 2))
        parts.append(ResidualBlock(outputs, outputs))
        width = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*parts, *head)


class ResidualBlock(nn.Module):
    """relu(x + F(x)), F two convolutions 3 x 3; where shapes change, x passes one of 1 x 1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(inputs, outputs, stride),
            _norm(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs),
            _norm(outputs),
        )
        changes = stride != 1 or inputs != outputs
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.skip = nn.Sequential(projection, _norm(outputs)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.skip(x) + self.branch(x))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels)


def image_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Returns the shape (channels, height, width) of images.

    Raises:
        NetworkError: samples are no images.
    """
    if len(shape) != 3:
        given = " x ".join(map(str, shape))
        raise NetworkError(
            f"{name} takes images, channels x height x width, not samples of {given}"
        )
    return shape
