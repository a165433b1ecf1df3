"""Network architectures for small images and tables."""

from bayesgen.networks.resnets import PreResNet20, ResNet18
from bayesgen.networks.small import MLP, ConvNet, LeNet

__all__ = ["MLP", "ConvNet", "LeNet", "PreResNet20", "ResNet18"]
